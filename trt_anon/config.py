"""One validated configuration per stage, and the whole of them for a job; read from TOML or built in Python."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trt_anon.errors import ConfigError
from trt_anon.regions.schema import RegionsConfig

ClassName = Literal["face", "license_plate"]
Decoder = Literal["auto", "nvcodec", "dali", "pyav"]
PresetName = Literal["fast", "balanced", "thorough"]
Fusion = Literal["nms", "weighted"]

DEFAULT_GROWTH = 1.3
"""Growth of a region where neither the user nor a detector's recipe says another."""


DEFAULT_STRENGTH: Mapping[str, float] = {"gaussian": 0.25, "pixelate": 1 / 3, "solid": 1.0}
"""Strength where nobody chose one: what no attack sees through, and a margin (docs/strength.md)."""


class StageConfig(BaseModel):
    """Base of every configuration: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=BaseModel)


TileSide = Annotated[int, Field(ge=64, le=16384)]
TileOverlap = Annotated[float, Field(ge=0, le=0.5)]


class Scale(StageConfig):
    """One detector pass: the upright picture is scaled so that its longer side lies in this range.

    With neither bound the picture keeps its size; with both equal the longer side is exactly that. max_factor: by how
    much a picture is enlarged at most. tile_px: a picture
    with a longer side than this is cut into parts of that side, each scaled as a picture of its own; tile_overlap: the
    share of a part's side that it has in common with the next, at least.
    """

    min_long_side_px: Annotated[int, Field(ge=32, le=16384)] | None = None
    max_long_side_px: Annotated[int, Field(ge=32, le=16384)] | None = None
    max_factor: Annotated[float, Field(ge=1)] | None = None
    tile_px: TileSide | None = None
    tile_overlap: TileOverlap = 0.2

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.min_long_side_px, self.max_long_side_px
        if low is not None and high is not None and low > high:
            raise ValueError(f"min_long_side_px {low} is larger than max_long_side_px {high}")
        return self

    def factor(self, width_px: float, height_px: float) -> float:
        """Scale factor for an upright picture of that size."""
        side = max(width_px, height_px)
        wanted = side
        if self.min_long_side_px is not None:
            wanted = max(wanted, self.min_long_side_px)
        if self.max_long_side_px is not None:
            wanted = min(wanted, self.max_long_side_px)
        return wanted / side if self.max_factor is None else min(wanted / side, self.max_factor)


class DetectConfig(StageConfig):
    """What to look for, and with what.

    detectors: recipe names or ONNX recipe files; empty means the default detector of each class.
    preset: how much time to spend, and so which detector is the default of a class, and how it is used.
    threshold: minimum score; None takes each recipe's own.
    tile_px: besides each pass over whole pictures, the same over overlapping parts of this side in the picture's own
    pixels; tile_overlap: see `Scale`. flip: each pass over the mirror image too; None is as the recipe says.
    fusion: what becomes of boxes that several passes have of one object: `nms` keeps the best, `weighted` averages them
    by their scores; None is as the recipe says.
    """

    classes: Annotated[tuple[ClassName, ...], Field(min_length=1)] = ("face",)
    detectors: tuple[str, ...] = ()
    preset: PresetName = "fast"
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    tile_px: TileSide | None = None
    tile_overlap: TileOverlap = 0.2
    flip: bool | None = None
    fusion: Fusion | None = None


class TrackConfig(StageConfig):
    """How the detections of a video are joined over time; pictures are not concerned.

    track: `off` redacts each frame by its own detections alone.
    look_ahead_seconds: how long a frame waits for what comes after it; bounds what a track can tell about its past.
    two_pass: detect in the whole file first, then redact: the longest look-ahead, without frames that wait, for the
    time of decoding twice.
    max_gap_seconds: an object that is lost for no longer is the same one, and hidden in between.
    grace_seconds: what each end of a track is extended by, whatever the picture shows.
    detect_every: detection in every N-th frame, and tracks in between; `auto` looks about ten times a second.
    weak_threshold: the score from which a detection continues a track though it begins none; None is half of the
    detector's threshold.
    waiting_mib: how much memory waiting frames may take; a longer look-ahead than fits is shortened.
    """

    track: Literal["on", "off"] = "on"
    look_ahead_seconds: Annotated[float, Field(ge=0, le=10)] = 1.0
    two_pass: bool = False
    max_gap_seconds: Annotated[float, Field(ge=0, le=10)] = 1.0
    grace_seconds: Annotated[float, Field(ge=0, le=5)] = 0.25
    detect_every: Annotated[int, Field(ge=1, le=60)] | Literal["auto"] = 1
    weak_threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    waiting_mib: Annotated[int, Field(ge=16, le=1 << 20)] = 768


class RedactConfig(StageConfig):
    """How a region is destroyed.

    strength: the size of the smallest detail that survives, as a share of the object's longer side: sigma of the
    Gaussian, side of a pixelation cell; solid fill has none. None takes `DEFAULT_STRENGTH` of the method. grow: the
    region's size relative to the detected box; None takes for each class what its detectors' recipes have from labels
    (learned_growth, filled in when they are chosen).
    shape: None is an ellipse for faces and a box for all else: the text of a plate reaches into its corners, which
    an ellipse leaves clear. feather: width of a soft edge around each region, as a share of the object's longer
    side; the region itself is destroyed as without it.
    """

    method: Literal["gaussian", "pixelate", "solid"] = "gaussian"
    strength: Annotated[float, Field(gt=0, le=1)] | None = None
    shape: Literal["ellipse", "box", "rounded"] | None = None
    grow: Annotated[float, Field(ge=1, le=4)] | None = None
    feather: Annotated[float, Field(ge=0, le=1)] = 0.0
    learned_growth: tuple[tuple[ClassName, Annotated[float, Field(ge=1, le=4)]], ...] = ()

    @property
    def detail_share(self) -> float:
        """`strength`, or the default of the method where nobody chose."""
        return DEFAULT_STRENGTH[self.method] if self.strength is None else self.strength

    @property
    def growth(self) -> float:
        """The largest of all classes."""
        learned = max((growth for _, growth in self.learned_growth), default=DEFAULT_GROWTH)
        return learned if self.grow is None else self.grow

    def growth_of(self, class_name: str) -> float:
        """`grow`, or where nobody chose what is learnt of the class, or the default."""
        return dict[str, float](self.learned_growth).get(class_name, DEFAULT_GROWTH) if self.grow is None else self.grow

    def shape_of(self, class_name: str) -> Literal["ellipse", "box", "rounded"]:
        """`shape`, or that of the class where nobody chose."""
        return self.shape or ("ellipse" if class_name == "face" else "box")


class SinkConfig(StageConfig):
    """How results are written.

    codec: `same` keeps the input's family. encoder: of videos that go through a GPU: `nvenc` is the GPU's own, `auto`
    that where it can. quality: 1 (small) to 100; None is visually lossless video, and for JPEG the
    input's own quantization tables. encoder_preset: the encoder's own speed setting, None is the library's choice.
    metadata: `keep` keeps the times of capture and creation and the resolution, and says so. file_times: when the file
    was changed last: when it was made, or what its input says.
    """

    codec: Literal["same", "h264", "hevc", "vp9", "av1"] = "same"
    encoder: Literal["auto", "cpu", "nvenc"] = "auto"
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    encoder_preset: str | None = None
    audio: Literal["copy", "drop"] = "copy"
    subtitles: Literal["copy", "drop"] = "copy"
    metadata: Literal["drop", "keep"] = "drop"
    file_times: Literal["new", "keep"] = "new"


class RuntimeConfig(StageConfig):
    """Where detectors run, and how exactly.

    device: what videos go through; `auto` is a GPU where one can be used. Images are a CPU's work. devices: the numbers
    of the GPUs to use, each for videos of its own; none is the first. threads: of inference, of decoding and of
    encoding, each; None takes what the machine has.
    runtime: on a CPU `openvino` or `onnxruntime`; on a GPU `tensorrt`, `tensorrt-rtx`, or `onnxruntime` with its CUDA
    provider, `onnxruntime-tensorrt` with its TensorRT provider.
    precision: `f32` computes as the model says; `bf16` takes about half the time where the CPU has instructions for it
    (an error where it has none), `auto` is bf16 there and f32 elsewhere. On facemask853 both cover the same share of
    faces (89.8% with bf16, 89.6% with f32). On a GPU `auto` is `fp16`; `int8` and `fp8` need a calibration.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    runtime: Literal["auto", "openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "onnxruntime-tensorrt", "null"] = (
        "auto"
    )
    devices: tuple[Annotated[int, Field(ge=0, le=255)], ...] = ()
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    precision: Literal["auto", "f32", "bf16", "fp16", "int8", "fp8"] = "auto"


class PipelineConfig(StageConfig):
    """How frames go through the stages.

    queue_frames: how many may wait between two stages; bounds the memory of a job. on_error: what a fault in a frame
    leads to. `stop`: no output. `redact-frame`: that frame is redacted whole and counted; what cannot be written, and a
    file of which no frame goes through, is an error all the same.

    On a GPU: decoder, of videos: `nvcodec` is NVDEC, `dali` NVIDIA DALI, `pyav` FFmpeg on the CPU. batch: frames that
    are worked on together; None is 16, or as many as the memory suffices for. gpu_memory_mib: how much of it may be
    used for frames and what is found in them; models come on top. videos_at_once: on each GPU; None is 4.
    """

    queue_frames: Annotated[int, Field(ge=1, le=256)] = 4
    decoder: Decoder = "auto"
    batch: Annotated[int, Field(ge=1, le=256)] | None = None
    gpu_memory_mib: Annotated[int, Field(ge=64)] | None = None
    videos_at_once: Annotated[int, Field(ge=1, le=64)] | None = None
    on_error: Literal["stop", "redact-frame"] = "stop"


class AnonymizeConfig(StageConfig):
    """Everything that shapes an anonymization."""

    detect: DetectConfig = DetectConfig()
    track: TrackConfig = TrackConfig()
    redact: RedactConfig = RedactConfig()
    sink: SinkConfig = SinkConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    pipeline: PipelineConfig = PipelineConfig()
    regions: RegionsConfig = RegionsConfig()

    @classmethod
    def from_toml(cls, path: str | Path) -> AnonymizeConfig:
        """Read a configuration file; a wrong key or value is a ConfigError that names it."""
        return load_toml(cls, Path(path))


def load_toml(model: type[Model], path: Path) -> Model:
    """Read and validate a TOML file."""
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error
    return validated(model, raw, str(path))


def validated(model: type[Model], values: dict[str, Any], where: str) -> Model:
    """`model(**values)`, with pydantic's findings as one readable ConfigError."""
    try:
        return model(**values)
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc'])) or 'value'}: {e['msg']}" for e in error.errors(include_url=False)]
        raise ConfigError(f"{where}: " + "; ".join(lines)) from error
