"""Which pictures give ranges, and which recall."""

from __future__ import annotations

import shutil

import pytest

from trt_anon.calibrate.data import is_labelled, read_data
from trt_anon.calibrate.pictures import content_hashes, sample, set_hash
from trt_anon.calibrate.settings import CalibrateConfig
from trt_anon.errors import InputError, UsageError
from trt_anon.evaluate import read_labels

FACE = ("face",)


def test_a_seed_always_chooses_the_same_pictures(faces_folder):
    first, again, other = (read_data(faces_folder, CalibrateConfig(images=32, seed=s), FACE) for s in (1, 1, 2))
    assert first.ranges == again.ranges
    assert first.ranges != other.ranges
    assert len(first.ranges) == 32
    assert first.labelled
    assert not set(first.ranges) & {image.path for image in first.judged.images}
    assert len(first.ranges) + len(first.judged.images) == 80


def test_at_most_half_give_ranges(faces_folder):
    data = read_data(faces_folder, CalibrateConfig(images=500), FACE)
    assert (len(data.ranges), len(data.judged.images)) == (40, 40)


def test_a_folder_of_pictures_has_no_labels(faces_folder):
    assert is_labelled(faces_folder)
    assert is_labelled(faces_folder / "annotations.json")
    assert not is_labelled(faces_folder / "images")
    data = read_data(faces_folder / "images", CalibrateConfig(images=32), FACE)
    assert not data.labelled
    assert all(len(image.boxes_xyxy_px) == 0 for image in data.judged.images)


def test_pictures_in_both_sets_are_left_out_of_recall(faces_folder, tmp_path):
    known = sorted((faces_folder / "images").iterdir())
    for path in known[:50]:
        shutil.copy(path, tmp_path / f"other-{path.name}")
    labels = read_labels(faces_folder, classes=FACE)
    data = read_data(tmp_path, CalibrateConfig(images=40), FACE, labels)
    assert data.shared == 40
    assert len(data.judged.images) == 40
    hashes = set(content_hashes([image.path for image in data.judged.images]))
    assert not hashes & set(data.hashes)


def test_labels_given_as_such(faces_folder):
    labels = read_labels(faces_folder, classes=FACE)
    assert (
        read_data(labels, CalibrateConfig(images=32), FACE).ranges
        == read_data(faces_folder, CalibrateConfig(images=32), FACE).ranges
    )


def test_a_label_file_of_plates_gives_pictures_for_ranges(faces_folder, tmp_path):
    text = (faces_folder / "annotations.json").read_text().replace('"face"', '"license_plate"')
    plates = tmp_path / "plates"
    shutil.copytree(faces_folder, plates)
    (plates / "annotations.json").write_text(text)
    classes = ("license_plate",)
    with pytest.raises(UsageError, match="no object of face"):
        read_labels(plates / "annotations.json")
    labels = read_labels(plates, classes=classes)
    data = read_data(plates / "annotations.json", CalibrateConfig(images=40), classes, labels)
    assert (len(data.ranges), data.shared) == (40, 40)


def test_too_few_are_left(tmp_path, faces_folder):
    for path in sorted((faces_folder / "images").iterdir())[:20]:
        shutil.copy(path, tmp_path)
    with pytest.raises(UsageError, match="only 10 pictures are left"):
        read_data(tmp_path, CalibrateConfig(), FACE)


def test_the_hash_of_a_set_is_that_of_its_contents(faces_folder, tmp_path):
    paths = sorted((faces_folder / "images").iterdir())[:4]
    hashes = content_hashes(paths)
    shutil.copy(paths[0], tmp_path / "renamed.png")
    again = [*content_hashes([tmp_path / "renamed.png"]), *hashes[1:]]
    assert set_hash(hashes) == set_hash(list(reversed(again)))
    assert set_hash(hashes) != set_hash(hashes[:3])
    with pytest.raises(InputError, match="cannot be read"):
        content_hashes([tmp_path / "none.png"])


def test_a_sample_keeps_the_order():
    chosen, rest = sample(list(range(20)), 5, 3)  # type: ignore[type-var]
    assert chosen == sorted(chosen)
    assert sorted([*chosen, *rest]) == list(range(20))
