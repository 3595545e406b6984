"""Drawn clips: the same every time, as long as asked for, with faces that a detector finds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("cv2")
pytest.importorskip("av")

from trt_anon.bench.clip import ClipSpec, content_hash, generate_clip, pictures
from trt_anon.source.pyav import PyAVSource

SMALL = ClipSpec(480, 270, 3, 4)


def test_pictures_follow_from_their_specification():
    once, again = (np.stack(list(pictures(SMALL))) for _ in range(2))
    assert once.shape == (4, 270, 480, 3)
    assert (once == again).all()
    assert (once[0] != once[1]).any()
    plain = np.stack(list(pictures(ClipSpec(480, 270, 0, 4))))
    assert (plain != once).any()


def test_repeated_packets_decode_to_the_same_frames_at_later_times(tmp_path):
    path = generate_clip(ClipSpec(128, 96, 0, 5, repeat=3), tmp_path)
    source = PyAVSource(path)
    frames = [(frame.pts_seconds, frame.planes[0].copy()) for frame in source]
    source.close()
    assert [time for time, _ in frames] == pytest.approx([i / 30 for i in range(15)])
    for number in range(5):
        assert (frames[number][1] == frames[number + 5][1]).all()
        assert (frames[number][1] == frames[number + 10][1]).all()
    before = content_hash(path)
    path.unlink()
    assert content_hash(generate_clip(ClipSpec(128, 96, 0, 5, repeat=3), tmp_path)) == before


def test_the_drawn_faces_are_found(anonymizer):
    frames = np.stack(list(pictures(ClipSpec(960, 540, 5, 2))))
    assert [len(found) for found in anonymizer.detect(frames)] == [5, 5]
