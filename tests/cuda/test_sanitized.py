"""The kernels of the hot path under the address sanitizer, where arrays begin and end anywhere."""

from __future__ import annotations

import pytest

REDACT = """
import numpy as np
from trt_anon.config import RedactConfig
from trt_anon.redact.frame_cuda import RedactCuda
from trt_anon.types import PIXEL_FORMATS, Frame, Region

rng = np.random.default_rng(0)
places = ((5, 7, "ellipse"), (60, 40, "box"), (-10, -9, "rounded"), (300, 300, "box"))
for method in ("solid", "pixelate", "gaussian"):
    frames, regions = [], []
    for n, name in enumerate(("nv12", "gray", "p010le", "bgr24")):
        form, width, height = PIXEL_FORMATS[name], 79 - n, 53 - n
        planes = [
            (rng.integers(0, 1 << form.bit_depth, shape) << form.sample_shift).astype(form.dtype)
            for shape in form.plane_shapes(width, height)
        ]
        frames.append(Frame(tuple(planes), form, width, height))
        regions.append([Region(x, y, x + 40, y + 33, shape, 20.0) for x, y, shape in places])
        regions[-1].append(Region(width - 9, 0, width, 3, "box", 2000.0))
    redact = RedactCuda(RedactConfig(method=method))
    redact.batch(frames, regions, np.zeros(redact.workspace_bytes(frames, regions), np.uint8))
print("fine")
"""

LETTERBOX = """
import numpy as np
from fractions import Fraction
from trt_anon.preprocess.letterbox import plan_letterbox
from trt_anon.preprocess.letterbox_cuda import LetterboxCuda
from trt_anon.types import PIXEL_FORMATS, Frame, InputSpec, Orientation

rng = np.random.default_rng(0)
spec, kernel = InputSpec(), LetterboxCuda()
for name in ("nv12", "rgb24", "yuv420p", "p010le"):
    for width, height in ((97, 65), (1, 1), (131, 40)):
        form = PIXEL_FORMATS[name]
        planes = [rng.integers(0, 255, shape).astype(form.dtype) for shape in form.plane_shapes(width, height)]
        frame = Frame(tuple(planes), form, width, height)
        kernel(frame, plan_letterbox(width, height, Orientation.NORMAL, Fraction(1), 0.5, spec), spec)
print("fine")
"""

NMS = """
import numpy as np
from trt_anon.postprocess.nms_cuda import NmsCuda

rng = np.random.default_rng(0)
for count in (0, 1, 33, 1000, 1025):
    corner = rng.uniform(0, 90, (count, 2))
    boxes = np.concatenate((corner, corner + 20), axis=1).astype(np.float32)
    NmsCuda()(boxes, rng.random(count, np.float32), np.zeros(count, np.int32), 0.4)
print("fine")
"""


@pytest.mark.parametrize("script", [REDACT, LETTERBOX, NMS], ids=["redact", "letterbox", "nms"])
def test_no_access_outside_of_an_array(sanitized, script):
    done = sanitized(script)
    assert (done.returncode, done.stdout) == (0, "fine\n"), done.stderr[-4000:]
