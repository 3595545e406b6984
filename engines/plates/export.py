"""Write the final network as ONNX: batch norms folded, batch, height and width free.

python engines/plates/export.py --weights build/plates/final/weights.pt --onnx plates.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path

import onnx
import torch
from network import OUTPUT_NAMES, PlateNet
from torch import Tensor, nn


class Exported(nn.Module):
    """The network without the centre of a plate, which only training looks at."""

    def __init__(self, net: PlateNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        made = self.net(pixels)
        return (*made[:9], *(points[..., :8] for points in made[9:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--onnx", type=Path, required=True)
    arguments = parser.parse_args()
    net = PlateNet()
    net.load_state_dict(torch.load(arguments.weights, map_location="cpu", weights_only=True))
    net.eval()
    free = {0: "batch", 2: "height", 3: "width"}
    axes = {"input": free} | {name: {0: "batch", 1: f"cells_{name.split('_')[1]}"} for name in OUTPUT_NAMES}
    torch.onnx.export(
        Exported(net).eval(),
        (torch.zeros(1, 3, 320, 416),),
        str(arguments.onnx),
        input_names=["input"],
        output_names=list(OUTPUT_NAMES),
        dynamic_axes=axes,
        opset_version=17,
        dynamo=False,
    )
    model = onnx.load(arguments.onnx)
    onnx.checker.check_model(model)
    del model.metadata_props[:]
    onnx.save(model, arguments.onnx)
    print(f"{arguments.onnx}: {arguments.onnx.stat().st_size} bytes")


if __name__ == "__main__":
    main()
