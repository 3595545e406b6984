"""The fast twin against the specification."""

from __future__ import annotations

import inspect
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trt_anon.errors import PipelineError
from trt_anon.preprocess.letterbox import letterbox, plan_letterbox
from trt_anon.preprocess.letterbox_cpu import MEAN_TOLERANCE_CODES, TOLERANCE_CODES, Scalers, letterbox_cpu
from trt_anon.types import PIXEL_FORMATS, Color, Frame, InputSpec, Orientation

SQUARE = Fraction(1)


def compare(frame: Frame, factor: float, spec: InputSpec, aspect: Fraction = SQUARE, scalers: Scalers | None = None):
    plan = plan_letterbox(frame.width_px, frame.height_px, frame.orientation, aspect, factor, spec)
    before = [plane.copy() for plane in frame.planes]
    wanted = letterbox(frame, plan, spec)
    out = np.full_like(wanted, 201)
    given_back = letterbox_cpu(frame, plan, spec, out, scalers=scalers)
    assert given_back is out
    for plane, old in zip(frame.planes, before, strict=True):
        assert np.array_equal(plane, old)
    off = np.abs(out.astype(int) - wanted)
    assert off.max() <= TOLERANCE_CODES
    width, height = plan.content_size_px
    assert off[:height, :width].mean() <= MEAN_TOLERANCE_CODES or width * height < 64
    assert not off[height:].any()
    assert not off[:, width:].any()


@pytest.mark.parametrize("format_name", list(PIXEL_FORMATS))
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("size", [(96, 64), (97, 65), (65, 66)])
def test_every_format_agrees_with_the_specification(noise_frame, format_name, native, size):
    for factor in (1.0, 0.5, 0.31, 0.77, 1.4):
        for color in (Color("bt601", False), Color("bt709", True), Color("bt2020", False)):
            frame = noise_frame(format_name, *size, color=color, native=native)
            compare(frame, factor, InputSpec(channels="bgr", pad_value=114))


@pytest.mark.parametrize("orientation", list(Orientation))
@pytest.mark.parametrize("format_name", ["yuv420p", "rgb24", "gray"])
def test_every_orientation(noise_frame, orientation, format_name):
    for factor in (1.0, 0.7):
        frame = noise_frame(format_name, 80, 66, orientation=orientation, native=True)
        compare(frame, factor, InputSpec(), Fraction(4, 3))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.sampled_from(list(PIXEL_FORMATS)),
    st.sampled_from(list(Orientation)),
    st.floats(0.05, 2.5),
    st.sampled_from([SQUARE, Fraction(4, 3), Fraction(8, 9)]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["rgb", "bgr"]),
)
def test_any_size(noise_frame, width, height, format_name, orientation, factor, aspect, native, full, channels):
    frame = noise_frame(format_name, width, height, color=Color("bt709", full), orientation=orientation, native=native)
    compare(frame, factor, InputSpec(channels=channels, pad_value=3), aspect)


@pytest.mark.parametrize("size", [(1, 1), (20000, 3), (3, 20000)])
@pytest.mark.parametrize("format_name", ["yuv420p", "rgb24"])
def test_extreme_sizes(noise_frame, size, format_name):
    compare(noise_frame(format_name, *size, native=True), 1280 / max(size), InputSpec())


def test_padded_rows_of_a_view_are_taken_as_they_are():
    memory = np.random.default_rng(1).integers(0, 256, (50, 80, 3), np.uint8)
    frame = Frame((memory[:, :70],), PIXEL_FORMATS["rgb24"], 70, 50)
    for factor in (1.0, 0.6):
        compare(frame, factor, InputSpec(channels="bgr"))


def test_a_slice_of_a_batch_is_written_in_place(noise_frame):
    frame = noise_frame("yuv420p", 64, 64, native=True)
    plan = plan_letterbox(64, 64, Orientation.NORMAL, SQUARE, 1.0, InputSpec())
    batch = np.full((3, 64, 64, 3), 7, np.uint8)
    letterbox_cpu(frame, plan, InputSpec(), batch[1])
    assert np.array_equal(batch[1], letterbox_cpu(frame, plan, InputSpec()))
    assert (batch[[0, 2]] == 7).all()


def test_contexts_are_kept_and_bounded(noise_frame):
    scalers = Scalers(capacity=2)
    first = scalers.get("a")
    assert scalers.get("a") is first
    for width in (64, 66, 68, 64):
        frame = noise_frame("yuv420p", width, 64, native=True, seed=width)
        compare(frame, 0.77, InputSpec(), scalers=scalers)
    assert len(scalers._kept) == 2
    assert scalers.get("a") is not first


def test_a_failure_of_libswscale_is_ours(noise_frame, monkeypatch):
    import av

    class Broken:
        def reformat(self, *args: object, **kwargs: object) -> None:
            raise av.error.ExternalError(1, "no")

    frame = noise_frame("yuv420p", 64, 64, native=True)
    plan = plan_letterbox(64, 64, Orientation.NORMAL, SQUARE, 0.7, InputSpec())
    scalers = Scalers()
    monkeypatch.setattr(scalers, "get", lambda *key: Broken())
    with pytest.raises(PipelineError, match="libswscale"):
        letterbox_cpu(frame, plan, InputSpec(), scalers=scalers)


def test_the_twins_take_the_same_arguments():
    reference = list(inspect.signature(letterbox).parameters.values())
    twin = list(inspect.signature(letterbox_cpu).parameters.values())
    assert twin[: len(reference)] == reference
    assert all(p.kind is p.KEYWORD_ONLY for p in twin[len(reference) :])
