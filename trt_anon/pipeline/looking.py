"""In which frames of a video the detector looks; in the others, tracks say where objects are."""

from __future__ import annotations

from fractions import Fraction

from trt_anon.config import TrackConfig
from trt_anon.media import MediaInfo
from trt_anon.preprocess.thumbnail import grey_thumbnail
from trt_anon.track.cuts import CutFinder
from trt_anon.types import Frame

AUTO_LOOKS_PER_SECOND = 10
"""How often `auto` looks."""


class Looks:
    """Decides frame by frame, in presentation order; for one video.

    Every N-th frame by its number in the file, so that a part of a video is looked at as the whole of it is, no two
    looks further apart, and the first frame of every shot, where tracks know nothing.
    """

    def __init__(self, info: MediaInfo, config: TrackConfig) -> None:
        every = config.detect_every
        often = max(1, round((info.average_rate or Fraction(25)) / AUTO_LOOKS_PER_SECOND))
        self.every = every if isinstance(every, int) else often
        self._since = self.every
        self._cuts = CutFinder()

    def at(self, frame: Frame) -> bool:
        """Whether to look at this frame."""
        if self.every == 1:
            return True
        self._since += 1
        cut = not frame.concealed and self._cuts.is_cut(grey_thumbnail(frame), lambda: 0.0)
        if cut or self._since >= self.every or frame.index % self.every == 0:
            self._since = 0
            return True
        return False
