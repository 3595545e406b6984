"""Profiles without words show the same colours."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from trt_anon.sink.icc import colors_of, without_words

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile_of(tags: list[tuple[bytes, bytes]], version: int = 2, space: bytes = b"RGB ") -> bytes:
    header = bytearray(128)
    header[8] = version
    header[12:24] = b"mntr" + space + b"XYZ "
    header[24:36] = struct.pack(">6H", 2024, 1, 2, 3, 4, 5)
    header[36:40] = b"acsp"
    header[40:48] = b"APPLmaps"
    header[48:56] = b"ACMEserl"
    header[68:80] = struct.pack(">3i", 63190, 65536, 54061)
    header[80:84] = b"crea"
    table, heap, at = b"", b"", 132 + 12 * len(tags)
    for name, body in tags:
        table += struct.pack(">4sII", name, at + len(heap), len(body))
        heap += body + b"\0" * (-len(body) % 4)
    header[0:4] = struct.pack(">I", at + len(heap))
    return bytes(header) + struct.pack(">I", len(tags)) + table + heap


def xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (x, y, z)))


def gamma(value: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(value * 256))


WIDE = [  # Adobe RGB (1998)
    (b"desc", b"desc\0\0\0\0" + struct.pack(">I", 7) + b"SECRET\0" + bytes(78)),
    (b"cprt", b"text\0\0\0\0SECRET\0"),
    (b"dmnd", b"desc\0\0\0\0" + struct.pack(">I", 7) + b"SECRET\0" + bytes(78)),
    (b"mmod", b"mmod\0\0\0\0SECRETserial"),
    (b"wtpt", xyz(0.9505, 1, 1.0891)),
    (b"rXYZ", xyz(0.60974, 0.31111, 0.01947)),
    (b"gXYZ", xyz(0.20528, 0.62567, 0.06087)),
    (b"bXYZ", xyz(0.14919, 0.06322, 0.74457)),
    *((name, gamma(2.2)) for name in (b"rTRC", b"gTRC", b"bTRC")),
]


def shown(profile: bytes) -> Any:
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    result = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    return np.array(result)


@pytest.mark.parametrize("profile", [SRGB, profile_of(WIDE), profile_of(WIDE, version=4)])
def test_same_colors_without_words(profile: bytes) -> None:
    clean = without_words(profile)
    assert clean is not None
    np.testing.assert_array_equal(shown(clean), shown(profile))
    for word in (b"SECRET", b"ACME", b"serl", b"APPL", b"crea", b"mmod", "sRGB".encode("utf-16-be")):
        assert word not in clean
    assert clean[24:36] == bytes(12)
    assert colors_of(clean) == "RGB"
    assert int.from_bytes(clean[:4], "big") == len(clean)


def test_cleaning_a_clean_profile_changes_nothing() -> None:
    clean = without_words(profile_of(WIDE))
    assert clean is not None
    assert without_words(clean) == clean


def test_shared_curves_are_stored_once() -> None:
    clean = without_words(profile_of(WIDE))
    assert clean is not None
    assert clean.count(gamma(2.2)) == 1


def test_a_numeric_tag_that_holds_words_is_dropped() -> None:
    tags = [*WIDE, (b"chad", b"text\0\0\0\0SECRET\0\0")]
    clean = without_words(profile_of(tags))
    assert clean is not None
    assert b"SECRET" not in clean
    assert b"chad" not in clean


@pytest.mark.parametrize(
    "damaged",
    [b"", b"no profile", SRGB[:100], SRGB[:200], SRGB[:36] + b"xxxx" + SRGB[40:], SRGB[:128] + b"\xff" * 8],
)
def test_a_damaged_profile_is_none(damaged: bytes) -> None:
    assert without_words(damaged) is None
