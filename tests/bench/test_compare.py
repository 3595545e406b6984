"""Two results side by side: what pairs, what is clear, and what is not like for like."""

from __future__ import annotations

import json

import pytest

from trt_anon.bench import compare, read_result, write_result
from trt_anon.errors import InputError


def test_like_for_like(case, result):
    comparison = compare(result(), result(case(150.0)))
    assert comparison.like_for_like
    pairs = {pair.part: pair for pair in comparison.pairs}
    assert pairs["pipeline"].ratio == pytest.approx(1.5)
    assert pairs["pipeline"].clear
    assert pairs["decode"].ratio == 1
    assert not pairs["decode"].clear, "equal spreads say nothing"
    assert not comparison.unpaired


def test_what_differs_is_named(case, result):
    first = result()
    machine = {**first.machine, "cores": 16, "packages": [{"name": "openvino", "version": "2026.2"}]}
    configuration = {**first.configuration, "runtime": {**first.configuration["runtime"], "precision": "f32"}}
    second = result(
        case(input_sha256="cd" * 32, found_per_frame=9.0),
        machine=machine,
        configuration=configuration,
        conditions={"gpu": {"name": "A GPU", "driver": "580.1"}},
    )
    differences = compare(first, second).differences
    assert differences == {
        "cores": (2, 16),
        "package openvino": ("2026.1", "2026.2"),
        "GPU name": (None, "A GPU"),
        "GPU driver": (None, "580.1"),
        "runtime.precision": ("auto", "f32"),
        "input of 1080p, 5 faces": ("ab" * 6, "cd" * 6),
        "objects per frame of 1080p, 5 faces": (5.0, 9.0),
    }


def test_cases_and_parts_of_one_side_alone(case, result):
    lone = case(name="4k, 5 faces", width_px=3840, height_px=2160)
    fewer = case(parts={"pipeline": case().parts["pipeline"]})
    comparison = compare(result(case(), lone), result(fewer))
    assert comparison.unpaired == ("only in the first: 4k, 5 faces, batch 1", "only in one: decode of 1080p, 5 faces")
    assert [pair.part for pair in comparison.pairs] == ["pipeline"]


def test_a_file_gives_back_what_was_written(tmp_path, result):
    path = tmp_path / "new" / "a.json"
    write_result(path, result())
    assert read_result(path) == result()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "cannot read"),
        ("{", "no result"),
        ("[1]", "no result"),
        ('{"machine": {}}', "no result of trt-anon bench --json"),
        ('{"kind": "trt-anon bench", "schema_version": 99}', "version 99"),
        ('{"kind": "trt-anon bench", "schema_version": 1, "date": 3}', "no result"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path, text, says):
    path = tmp_path / "a.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_result(path)


def test_a_wrong_figure_is_named(tmp_path, result):
    raw = result().model_dump(mode="json")
    raw["cases"][0]["frames"] = "many"
    path = tmp_path / "a.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(InputError, match=r"cases\.0\.frames"):
        read_result(path)
