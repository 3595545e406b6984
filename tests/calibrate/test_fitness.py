"""Unfit pictures are found, with the reason; fit ones are not."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from trt_anon.build.quantize.network import opened
from trt_anon.calibrate import CalibrateConfig, calibrate, fitness
from trt_anon.calibrate.subject import Subject
from trt_anon.errors import UsageError
from trt_anon.models.registry import Registry


def test_a_handful_is_too_few_and_copies_do_not_count():
    fitness.check_number([str(n) for n in range(32)])
    with pytest.raises(UsageError, match="31 different pictures; ranges need at least 32"):
        fitness.check_number([str(n) for n in range(31)])
    with pytest.raises(UsageError, match=re.escape("5 different pictures (100 files, 95 of them copies)")):
        fitness.check_number([str(n % 5) for n in range(100)])


def pictures(made, count=12):
    return [made(np.random.default_rng(n))[np.newaxis] for n in range(count)]


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (lambda r: r.integers(0, 256, (64, 96, 3), np.uint8), "are noise"),
        (lambda r: np.full((64, 96, 3), r.integers(2, 256), np.uint8), "one colour all over"),
        (lambda r: r.integers(0, 2, (64, 96, 3), np.uint8), "no code above 1"),
    ],
)
def test_pictures_that_show_nothing_are_found(made, reason):
    with pytest.raises(UsageError, match=f"unfit to calibrate with: .*{reason}"):
        fitness.check_pictures(pictures(made))


def test_photographs_are_fit(faces_folder):
    paths = sorted((faces_folder / "images").iterdir())[:12]
    fitness.check_pictures([np.array(Image.open(path))[np.newaxis] for path in paths])


@pytest.fixture(scope="module")
def detector(small_yunet):
    subject = Subject.load(small_yunet, Registry())
    with opened(subject.model) as runner:
        yield subject, runner


def check(detector, faces_folder, change=lambda p: p, count=40):
    subject, runner = detector
    paths = sorted((faces_folder / "images").iterdir())[:count]
    feeds = [{"pixels": change(feed["pixels"])} for feed in subject.prepared().feeds(paths)]
    fitness.check_preprocessing(feeds, runner, subject.family, subject.recipe.threshold)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda p: np.ascontiguousarray(p[..., ::-1]), "red and blue swapped"),
        (lambda p: np.ascontiguousarray(p[:, ::-1]), "upside down"),
        (lambda p: 255 - p, "as negatives"),
        (lambda p: p // 24, "four times brighter"),
        (lambda p: p // 250, "finds nothing in any of 40 pictures"),
    ],
)
def test_pictures_prepared_otherwise_are_found(detector, faces_folder, change, reason):
    with pytest.raises(UsageError, match=f"unfit to calibrate with: .*{reason}"):
        check(detector, faces_folder, change)


def test_pictures_as_the_recipe_says_are_fit(detector, faces_folder):
    check(detector, faces_folder)


def test_the_whole_calibration_refuses_noise(small_yunet, tmp_path):
    random = np.random.default_rng(0)
    for number in range(64):
        Image.fromarray(random.integers(0, 256, (160, 224, 3), np.uint8)).save(tmp_path / f"{number}.png")
    with pytest.raises(UsageError, match="the pictures are noise"):
        calibrate(small_yunet, tmp_path, CalibrateConfig(images=32))


@pytest.mark.dataset
@pytest.mark.parametrize(
    ("change", "reason"), [(None, None), (lambda p: np.ascontiguousarray(p[..., ::-1]), "red and blue swapped")]
)
def test_real_pictures(detector, data_dir, change, reason):
    subject, runner = detector
    paths = sorted((data_dir / "data" / "faces" / "facemask853" / "images").iterdir())[:40]
    feeds = [
        {"pixels": feed["pixels"] if change is None else change(feed["pixels"])}
        for feed in subject.prepared().feeds(paths)
    ]
    if reason is None:
        fitness.check_preprocessing(feeds, runner, subject.family, subject.recipe.threshold)
        return
    with pytest.raises(UsageError, match=reason):
        fitness.check_preprocessing(feeds, runner, subject.family, subject.recipe.threshold)
