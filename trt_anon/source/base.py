"""The protocol of sources, and what they say about a video or image."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from trt_anon.media import ImageDetails, MediaInfo
from trt_anon.types import Frame

__all__ = ["ImageDetails", "MediaInfo", "Source"]


class Source(Protocol):
    """Frames of one file, in presentation order; iterated once."""

    @property
    def info(self) -> MediaInfo:
        """What is known before the first frame."""
        ...

    def __iter__(self) -> Iterator[Frame]:
        """The frames; the caller owns each and may change its planes. Raises InputError on anything undecodable."""
        ...

    def close(self) -> None:
        """Release the file; safe to call twice."""
        ...
