"""The CUDA twin of `Segmentation.decode`, but for outlines: the connected parts of every class as boxes, in a launch.

Boxes, classes and numbers of cells are those of the specification, scores too unless exp makes them. Parts come class
by class, in the order of their first cells row by row, which need not be OpenCV's. Outlines are found on the host.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trt_anon.cuda.device import Accounting, address_of
from trt_anon.cuda.host import HostOptions
from trt_anon.cuda.kernel import Kernel
from trt_anon.detect.heads import ACTIVATIONS, Shapes, View
from trt_anon.detect.scores import column_count
from trt_anon.detect.segmentation import Segmentation
from trt_anon.detect.yolo import read_output

SOURCE = Path(__file__).with_name("components.cu")
_THREADS = 512
_WORDS = 7  # of a cell, and of a part of each class
_TYPES = {"float32": 0, "float16": 1, "int32": 2, "int64": 3}

# struct Maps of components.cu.
_MAPS = np.dtype(
    [
        *((name, np.uint64) for name in ("address", "factors", "class_map")),
        ("unit", np.float64, 2),
        *((name, np.int32) for name in ("image", "channel", "cell", "type")),
        *((name, np.int32) for name in ("width", "height", "columns", "first_class", "classes")),
        *((name, np.int32) for name in ("activation", "labels", "min_cells")),
    ],
    align=True,
)


class ComponentsCuda:
    """Launches the kernel of `components.cu` for one segmentation family; an instance serves any batches and sizes."""

    def __init__(
        self, family: Segmentation, *, host: HostOptions | None = None, accounting: Accounting | None = None
    ) -> None:
        self._family = family
        self._kernel = Kernel(SOURCE, "components", host=host, accounting=accounting)

    def workspace_words(self, outputs: Mapping[str, Any]) -> int:
        """How many int32 `batch` needs to work in for outputs of these shapes."""
        _, (images, _, height, width) = self._map(outputs)
        return images * height * width * _WORDS * (1 + self._family.classes)

    def batch(
        self,
        outputs: Mapping[str, Any],
        input_hw_px: tuple[int, int],
        threshold: float,
        *,
        boxes_xyxy: Any,
        scores: Any,
        class_ids: Any,
        counts: Any,
        status: Any,
        workspace: Any,
        factors_xy: Any = None,
        class_map: Any = None,
        stream: Any = None,
    ) -> None:
        """Find the parts of B images in one launch, without waiting for it.

        Arguments, results and errors are those of `DecodeCuda.batch`, but for the workspace: `workspace_words` int32,
        whatever is in them. The parts of an image are distinct.
        """
        view, (images, columns, height, width) = self._map(outputs)
        capacity = boxes_xyxy.shape[1] if len(boxes_xyxy.shape) == 3 else 0
        if capacity < 1:
            raise ValueError("lists hold at least one candidate")
        family, array = self._family, outputs[view.output]
        kind = _TYPES.get(str(array.dtype))
        if kind is None or not array.flags.c_contiguous:
            raise ValueError(f"output {view.output!r} must be C-contiguous and a known type, not {array.dtype}")
        given = [
            ("factors", factors_xy, (images, 2), np.float64),
            ("class_map", class_map, (family.classes,), np.int32),
        ]
        optional = [entry for entry in given if entry[1] is not None]
        for name, wanted, shape, dtype in (
            ("boxes_xyxy", boxes_xyxy, (images, capacity, 4), np.float32),
            ("scores", scores, (images, capacity), np.float32),
            ("class_ids", class_ids, (images, capacity), np.int32),
            ("counts", counts, (images,), np.int32),
            ("status", status, (images,), np.int32),
            *optional,
        ):
            if wanted.shape != shape or wanted.dtype != dtype or not wanted.flags.c_contiguous:
                raise ValueError(f"{name}: expected {np.dtype(dtype)} {shape}, got {wanted.dtype} {wanted.shape}")
        needed = self.workspace_words(outputs)
        if workspace.dtype != np.int32 or workspace.ndim != 1 or workspace.size < needed:
            raise ValueError(f"workspace: expected at least {needed} int32, got {workspace.dtype} {workspace.shape}")
        maps = np.zeros(1, _MAPS)
        one = maps[0]
        one["address"] = address_of(array) + view.offset * int(array.dtype.itemsize)
        one["unit"] = np.array(input_hw_px[::-1], np.float32) / (max(1, width), max(1, height))
        one["image"], one["channel"], one["cell"], one["type"] = view.image, view.channel, view.cell, kind
        one["width"], one["height"], one["columns"] = width, height, columns
        one["first_class"], one["classes"] = 1 if family.background == "first" else 0, family.classes
        one["labels"], one["min_cells"] = family.layout == "labels", family.min_cells
        one["activation"] = ACTIVATIONS.index(family.activation)
        for name, extra, _, _ in optional:
            one[name] = address_of(extra)
        self._kernel.launch(
            (images,),
            (_THREADS,),
            (
                maps,
                boxes_xyxy,
                scores,
                class_ids,
                counts,
                status,
                workspace,
                np.int32(capacity),
                np.float32(threshold),
            ),
            stream,
            reaches=[array, *(entry[1] for entry in optional)],
            bytes_moved=int(array.nbytes) + images * (height * width * 4 * _WORDS + 8),
        )

    def _map(self, outputs: Mapping[str, Any]) -> tuple[View, tuple[int, int, int, int]]:
        """Where the map lies, and its (images, channels, rows, columns); ModelError as the family raises it."""
        family = self._family
        shapes = Shapes({name: array.shape for name, array in outputs.items()})
        name = family.outputs[0] if family.outputs else None
        if family.layout == "labels":
            four = [key for key, array in outputs.items() if len(array.shape) == 4 and name in (None, key)]
            read = read_output(shapes.arrays, name, (1, None, None) if four else (None, None), family.name)
            map5 = (read[:, 0] if four else read)[:, None, :, :, None]
        else:
            columns = column_count(family.classes, family.background)
            if family.layout == "nhwc":
                map5 = read_output(shapes.arrays, name, (None, None, columns), family.name)[:, None]
            else:
                read = read_output(shapes.arrays, name, (columns, None, None), family.name)
                map5 = read[:, None].transpose(0, 1, 3, 4, 2)
        images, _, height, width, channels = map5.shape
        return shapes.grid(map5), (images, channels, height, width)
