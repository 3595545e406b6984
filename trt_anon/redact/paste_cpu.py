"""Writing a replacement into a plane with OpenCV: equal to the reference, many times faster with several channels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require
from trt_anon.redact.paste import paste
from trt_anon.types import Plane


def paste_cpu(target: Plane, samples: Plane, mask: NDArray[np.bool_]) -> None:
    """Put `samples` into `target` where `mask` is set, as `trt_anon.redact.paste.paste` does.

    target, samples: (h, w) or (h, w, c <= 4) of one type; `target` a writable view. mask: (h, w). Raises ValueError
    where `target` cannot be written.
    """
    strides, size = target.strides, target.itemsize
    packed = strides[-1] == size and (target.ndim == 2 or strides[1] == size * target.shape[2])
    if not (packed and strides[0] > 0 and strides[0] % size == 0 and target.flags.writeable):
        paste(target, samples, mask)  # a layout that OpenCV cannot write in place
        return
    cv2 = require("cv2", "fast redaction on a CPU")
    if cv2.copyTo(samples, mask.view(np.uint8), target) is not target:
        raise RuntimeError("OpenCV wrote the redaction to a copy of the frame; the frame is not redacted")
