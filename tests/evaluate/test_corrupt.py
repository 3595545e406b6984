from __future__ import annotations

import numpy as np
import pytest

from trt_anon.errors import UsageError
from trt_anon.evaluate.corrupt import CORRUPTIONS, SEVERITIES, corrupt

pytest.importorskip("cv2")


@pytest.fixture(scope="module")
def picture():
    data = pytest.importorskip("skimage.data")
    return np.ascontiguousarray(data.astronaut()[::2, ::2])


BOXES = np.array([[90.0, 35.0, 132.0, 92.0]])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_is_the_same_for_the_same_numbers_and_worse_with_severity(picture, name):
    before = picture.copy()

    def difference(severity, seed=0, image="a"):
        worse = corrupt(picture, name, severity, seed=seed, image=image, objects_xyxy_px=BOXES)
        again = corrupt(picture, name, severity, seed=seed, image=image, objects_xyxy_px=BOXES)
        assert worse.shape == picture.shape
        assert worse.dtype == np.uint8
        assert np.array_equal(worse, again)
        return float(((worse.astype(float) - picture) ** 2).mean())

    # An occlusion has another side and colour at each severity, so its mean over many pictures is compared.
    seeds = range(24) if name == "occlusion" else range(1)
    errors = [np.mean([difference(severity, seed) for seed in seeds]) for severity in SEVERITIES]
    assert errors[0] > 0
    assert errors == sorted(errors)
    assert np.array_equal(picture, before)


@pytest.mark.parametrize("name", ["noise", "low-light", "motion-blur", "occlusion"])
def test_random_ones_differ_between_images_and_seeds(picture, name):
    first = corrupt(picture, name, 3, seed=0, image="a", objects_xyxy_px=BOXES)
    assert not np.array_equal(first, corrupt(picture, name, 3, seed=0, image="b", objects_xyxy_px=BOXES))
    assert not np.array_equal(first, corrupt(picture, name, 3, seed=1, image="a", objects_xyxy_px=BOXES))


def test_noise_is_as_strong_as_it_says():
    grey = np.full((200, 200, 3), 128, np.uint8)
    assert corrupt(grey, "noise", 2, seed=0, image="a").std() == pytest.approx(12, rel=0.05)


def test_low_light_keeps_the_share_of_light_it_says():
    grey = np.full((200, 200, 3), 188, np.uint8)  # half of white, in light
    dark = corrupt(grey, "low-light", 2, seed=0, image="a").astype(float) / 255
    light = np.where(dark <= 0.04045, dark / 12.92, ((dark + 0.055) / 1.055) ** 2.4)
    assert light.mean() == pytest.approx(0.5 / 4, rel=0.02)


def test_blur_keeps_flat_pictures():
    grey = np.full((64, 64, 3), 77, np.uint8)
    for name in ("motion-blur", "defocus", "low-resolution"):
        assert (corrupt(grey, name, 5, seed=0, image="a") == 77).all()


def test_occlusion_hides_its_share_of_each_object_and_nothing_else(picture):
    hidden = (corrupt(picture, "occlusion", 4, seed=3, image="a", objects_xyxy_px=BOXES) != picture).any(axis=2)
    x0, y0, x1, y1 = BOXES[0].astype(int)
    assert hidden[y0:y1, x0:x1].mean() == pytest.approx(0.5, abs=0.03)
    hidden[y0:y1, x0:x1] = False
    assert not hidden.any()
    outside = np.array([[-50.0, -50.0, -10.0, -10.0], [250.0, 250.0, 999.0, 999.0]])
    assert corrupt(picture, "occlusion", 5, seed=0, image="a", objects_xyxy_px=outside).shape == picture.shape
    assert np.array_equal(corrupt(picture, "occlusion", 5, seed=0, image="a"), picture)


def test_unknown_ones_are_refused(picture):
    with pytest.raises(UsageError, match="motion-blur"):
        corrupt(picture, "rain", 1, seed=0, image="a")
    with pytest.raises(UsageError, match="1 to 5"):
        corrupt(picture, "noise", 6, seed=0, image="a")
