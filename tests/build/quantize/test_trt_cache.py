"""TensorRT's calibration caches are read; other files are not."""

from __future__ import annotations

import struct

import pytest

from trt_anon.build.quantize.trt_cache import read_cache
from trt_anon.errors import InputError, UsageError


def cache(tmp_path, entries, header="TRT-8601-EntropyCalibration2"):
    path = tmp_path / "calibration.cache"
    lines = [header, *(f"{name}: {struct.pack('>f', scale).hex()}" for name, scale in entries.items())]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_scales_become_ranges(tmp_path):
    path = cache(tmp_path, {"input": 0.5, "(Unnamed Layer* 3) [Convolution]: 0_output": 0.01})
    found = read_cache(path)
    assert found == pytest.approx({"input": 63.5, "(Unnamed Layer* 3) [Convolution]: 0_output": 1.27})


def test_leading_zeros_may_be_left_out(tmp_path):
    path = tmp_path / "c.cache"
    path.write_text("TRT-10300-MinMaxCalibration\nx: 0\ny: 3c010a14\n")
    assert read_cache(path) == pytest.approx({"x": 0.0, "y": struct.unpack(">f", bytes.fromhex("3c010a14"))[0] * 127})


def test_only_the_networks_own_values_count(tmp_path, nets):
    model = nets.chain()
    assert read_cache(cache(tmp_path, {"ra": 0.25, "other": 1.0, "rb": 0.0}), model) == pytest.approx({"ra": 31.75})
    with pytest.raises(UsageError, match="none of its 1 values"):
        read_cache(cache(tmp_path, {"other": 1.0}), model)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no calibration cache"), (b"hello\n", "no calibration cache"), (b"\xff\xfe", "no calibration cache"),
        (b"TRT-8601-EntropyCalibration2\nx 3c01\n", "line 2"), (b"TRT-8601-EntropyCalibration2\nx: zz\n", "line 2"),
        (b"TRT-8601-EntropyCalibration2\nx: ff800000\n", "has the scale -inf"),
    ],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    path = tmp_path / "c.cache"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_cache(path)


def test_a_cache_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_cache(tmp_path / "none")
