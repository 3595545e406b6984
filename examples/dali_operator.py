"""An operator in an NVIDIA DALI pipeline: what leaves it is anonymized, on the device where the pipeline works.

    pip install 'trt-anon[cpu,gpu,dali,tensorrt]'

`anonymized(frames, anonymizer)` stands between DALI's own operators; frames are uint8 (N, H, W, 3) RGB, such as a
sequence that `fn.experimental.readers.video` reads. DALI's operators must not change what they are given, so this one
works on a copy of its own, in device memory.
"""

from __future__ import annotations

from typing import Any

from trt_anon import Anonymizer


def anonymized(frames: Any, anonymizer: Anonymizer, device: str = "gpu") -> Any:
    """The DALI node that anonymizes the sequences of the node `frames`."""
    from nvidia.dali import fn

    def redact(sequence: Any) -> Any:
        copy = sequence.copy()
        detections = anonymizer.detect(copy)
        anonymizer.redact(copy, detections, out=copy)
        return copy

    # DALI hands over CuPy arrays on the GPU, on its stream as CuPy's current one, and NumPy's on a CPU.
    return fn.python_function(frames, function=redact, device=device)


def main() -> None:
    """Read a video, anonymize it, and say how bright each batch is."""
    import sys

    from nvidia.dali import fn, pipeline_def

    with Anonymizer(device="cuda") as anonymizer:

        @pipeline_def(batch_size=1, num_threads=2, device_id=0, exec_dynamic=True)
        def pipeline() -> Any:
            video = fn.experimental.readers.video(device="gpu", filenames=[sys.argv[1]], sequence_length=8)
            return fn.reductions.mean(anonymized(video, anonymizer))

        running = pipeline()
        running.build()
        for _ in range(10):
            (brightness,) = running.run()
            print(brightness.as_cpu())


if __name__ == "__main__":
    main()
