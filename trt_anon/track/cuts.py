"""Shot cuts, by the small picture, and pictures of a camera that rests: nothing is followed across a cut."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from trt_anon._optional import require

_SIZE = (32, 18)
_MOST_LIKENESS = 0.6
_MOST_FOLLOWED = 0.4
_FLAT = 1.0  # contrast of a picture that shows nothing, in codes
_STEEP = 8.0
_STILL = 0.25
"""In codes: where three quarters of the coarse picture have changed by less, the camera rests. In clips of fixed
cameras most frames have, in those of moving ones none."""


class CutFinder:
    """Remembers the last picture and says whether the next one begins another shot.

    A cut: the coarse picture correlates with the one before by less than 0.6, and the camera's motion explains less
    than 40% of it. Brightness and contrast do not matter, so a flash is none; a pan too fast to be followed is one,
    which costs nothing but the link between two tracks.
    """

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self.is_still = False
        """Whether the picture last given is one of a camera that rests since the picture before."""

    def is_cut(self, picture: NDArray[np.uint8], followed_share: Callable[[], float]) -> bool:
        """Whether `picture` (H, W) begins a shot.

        followed_share: gives how much of it the camera's motion explains; asked only where that decides.
        """
        cv2 = require("cv2", "following objects through a video")
        coarse = cv2.resize(picture, _SIZE, interpolation=cv2.INTER_AREA).astype(np.float32)
        coarse -= coarse.mean()
        last, self._last = self._last, coarse
        self.is_still = last is not None and _most_change(coarse, last) < _STILL
        if last is None:
            return True
        contrasts = [float(np.sqrt((c * c).mean())) for c in (last, coarse)]
        if min(contrasts) < _FLAT:  # to or from black, unless both are
            return max(contrasts) > _STEEP * max(min(contrasts), _FLAT / 2)
        likeness = float((last * coarse).mean()) / (contrasts[0] * contrasts[1])
        return likeness < _MOST_LIKENESS and followed_share() < _MOST_FOLLOWED


def _most_change(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """What three quarters of two pictures differ by at the most."""
    change = np.abs(one - other).ravel()
    place = 3 * change.size // 4
    return float(np.partition(change, place)[place])
