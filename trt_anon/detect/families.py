"""The families that recipes can name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trt_anon.detect.base import Family
from trt_anon.detect.blazeface import BlazeFace
from trt_anon.detect.centerface import CenterFace
from trt_anon.detect.detr import Detr, detr
from trt_anon.detect.lpd_yunet import LpdYuNet
from trt_anon.detect.nms_ended import EfficientNms, OnnxNms
from trt_anon.detect.options import option_names, with_input, with_options
from trt_anon.detect.retinaface import RetinaFace
from trt_anon.detect.scrfd import Scrfd
from trt_anon.detect.segmentation import Segmentation
from trt_anon.detect.ssd import Ssd
from trt_anon.detect.two_stage import TwoStage, model_zoo
from trt_anon.detect.yolo_e2e import YoloEndToEnd
from trt_anon.detect.yolo_face import YoloV5Face, YoloV8Face
from trt_anon.detect.yolo_seg import YoloSeg
from trt_anon.detect.yolov3 import YoloV3, yolov4
from trt_anon.detect.yolov5 import YoloV5, yolov7
from trt_anon.detect.yolov8 import YoloV8
from trt_anon.detect.yolox import YoloX
from trt_anon.detect.yunet import YuNet, YuNetPlate
from trt_anon.errors import ConfigError


def _plates() -> RetinaFace:
    return RetinaFace(
        name="retinaface-plate",
        outputs=("loc", "conf", "landms"),
        prior_sides_px=((24, 48), (96, 192), (384, 768)),
        landmarks=4,
    )


FAMILIES: Mapping[str, Callable[[], Family]] = MappingProxyType(
    {
        "yunet": YuNet,
        "yunet-plate": YuNetPlate,
        "centerface": CenterFace,
        "retinaface": RetinaFace,
        "retinaface-plate": _plates,
        "yolov3": YoloV3,
        "yolov4": yolov4,
        "yolov5": YoloV5,
        "yolov7": yolov7,
        "yolov8": YoloV8,
        "yolo-e2e": YoloEndToEnd,
        "yolox": YoloX,
        "yolov5-face": YoloV5Face,
        "yolov8-face": YoloV8Face,
        "yolo-seg": YoloSeg,
        "ssd": Ssd,
        "blazeface": BlazeFace,
        "lpd-yunet": LpdYuNet,
        "scrfd": Scrfd,
        "rt-detr": Detr,
        "detr": detr,
        "torchvision-detection": TwoStage,
        "faster-rcnn": model_zoo,
        "onnx-nms": OnnxNms,
        "efficient-nms": EfficientNms,
        "segmentation": Segmentation,
    }
)
"""What makes each family, by the name that recipes use."""


def get_family(
    name: str,
    options: Mapping[str, object] | None = None,
    input_overrides: Mapping[str, object] | None = None,
    classes: int | None = None,
) -> Family:
    """The family of that name, with the options and the changes to its input that a recipe gives.

    options: fields of the family's dataclass. input_overrides: fields of `InputSpec`. classes: how many classes the
    recipe names; a family with the option `classes` gets it from here. Raises ConfigError for a name (listing the known
    ones), option or field that is unknown, a value of a wrong type or shape, and counts of classes that differ.
    """
    make = FAMILIES.get(name)
    if make is None:
        raise ConfigError(f"unknown detector family {name!r}; known are {', '.join(sorted(FAMILIES))}")
    family = make()
    wanted = dict(options or {})
    if classes is not None and "classes" in option_names(family) and wanted.setdefault("classes", classes) != classes:
        raise ConfigError(f"family {name!r}: the option 'classes' is {wanted['classes']}, but {classes} are named")
    return with_input(with_options(family, wanted), input_overrides or {})
