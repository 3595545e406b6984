"""YuNet: anchor-free faces with five landmarks, or plates with four corners, on grids of stride 8, 16 and 32.

Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector" (2023); decoding as in OpenCV's FaceDetectorYN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trt_anon.detect.base import Candidates
from trt_anon.detect.outputs import cells, check_finite, split_by_image, take_output
from trt_anon.types import InputSpec

STRIDES = (8, 16, 32)


class YuNet:
    """Decodes `cls_S`, `obj_S` (N, A, 1), `bbox_S` (N, A, 4) and `kps_S` (N, A, 2 K) for S of 8, 16, 32, K landmarks.

    A counts the cells of the grid of stride S, row by row. score = sqrt(cls * obj), both clipped to [0, 1].
    Centre = (cell + bbox[:2]) * S, size = exp(bbox[2:]) * S, landmark = (cell + kps) * S, where cell is (column, row).
    """

    name = "yunet"
    landmarks = 5
    around_marks = False
    input_spec = InputSpec(channels="bgr", stride_px=32)
    output_names = tuple(f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in STRIDES)

    def decode(
        self, outputs: Mapping[str, NDArray[Any]], input_hw_px: tuple[int, int], threshold: float
    ) -> list[Candidates]:
        """Candidates of each image; see `detect.base.Family.decode`."""
        found = []
        batch: int | None = None
        for stride in STRIDES:
            rows, columns = cells(input_hw_px, stride)
            count = rows * columns
            cls = take_output(outputs, f"cls_{stride}", (count, 1), self.name, batch)[..., 0]
            batch = len(cls)
            obj = take_output(outputs, f"obj_{stride}", (count, 1), self.name, batch)[..., 0]
            bbox = take_output(outputs, f"bbox_{stride}", (count, 4), self.name, batch)
            kps = take_output(outputs, f"kps_{stride}", (count, 2 * self.landmarks), self.name, batch)
            check_finite(self.name, "scores", cls, obj)
            scores = np.sqrt(np.clip(cls, 0, 1) * np.clip(obj, 0, 1))
            images, places = np.nonzero(scores >= threshold)
            cell = np.stack((places % columns, places // columns), axis=-1).astype(np.float32)
            offsets = bbox[images, places]
            check_finite(self.name, "boxes", offsets)
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is reported as not finite
                centre = (cell + offsets[:, :2]) * stride
                half = np.exp(offsets[:, 2:]) * (stride / 2)
                marks = (cell[:, None] + kps[images, places].reshape(-1, self.landmarks, 2)) * stride
                low, high = centre - half, centre + half
                if self.around_marks:
                    low, high = np.minimum(low, marks.min(axis=1)), np.maximum(high, marks.max(axis=1))
                boxes = np.concatenate((low, high), axis=-1)
            found.append((images, boxes, scores[images, places], marks))
        image_ids, all_boxes, all_scores, all_marks = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return split_by_image(self.name, batch or 0, image_ids, all_boxes, all_scores, landmarks=all_marks)


class YuNetPlate(YuNet):
    """The layout of YuNet with the four corners of a licence plate, clockwise from the top left as it is read.

    The box is the one around box and corners together: on slanted plates each alone leaves parts out.
    """

    name = "yunet-plate"
    landmarks = 4
    around_marks = True
