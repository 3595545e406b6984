"""A PyTorch data loader whose batches are anonymized on the GPU before a network sees them.

    pip install 'trt-anon[cpu,gpu,tensorrt]' torch

Tensors stay where they are: their memory is redacted in place, on PyTorch's current stream.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from trt_anon import Anonymizer


class Anonymized:
    """Iterates a loader of uint8 RGB batches (N, 3, H, W), each redacted when it comes out, on its device."""

    def __init__(self, loader: Iterable[Any], anonymizer: Anonymizer, device: str = "cuda") -> None:
        self._loader, self._anonymizer, self._device = loader, anonymizer, device

    def __iter__(self) -> Iterator[Any]:
        import torch

        for batch in self._loader:
            # Channels last in memory: what the library works on is then a view of the very same tensor.
            pictures = batch.to(self._device, memory_format=torch.channels_last, non_blocking=True)
            frames = pictures.permute(0, 2, 3, 1)
            stream = torch.cuda.current_stream() if self._device.startswith("cuda") else None
            detections = self._anonymizer.detect(frames, stream=stream)
            self._anonymizer.redact(frames, detections, out=frames, stream=stream)
            yield pictures


def main() -> None:
    """Pictures of a folder, anonymized, and their mean, as if it were a network."""
    import sys

    import torch
    from torchvision.datasets import ImageFolder
    from torchvision.transforms.v2 import PILToTensor, Resize

    folder = ImageFolder(sys.argv[1], transform=lambda image: PILToTensor()(Resize((720, 1280))(image)))
    loader = torch.utils.data.DataLoader(folder, batch_size=8, num_workers=4, pin_memory=True)
    images = (batch for batch, _ in loader)
    with Anonymizer(device="cuda") as anonymizer:
        for pictures in Anonymized(images, anonymizer):
            print(tuple(pictures.shape), float(pictures.float().mean()))


if __name__ == "__main__":
    main()
