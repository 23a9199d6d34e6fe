"""Whether a live source still delivers, in time, and whether what it delivers still moves."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np

from streamguard.frames import U8, Picture
from streamguard.pixels import shrink

Verdict = Literal["fine", "stalled", "frozen"]

_THUMBNAIL: Final = (64, 36)
_CONVOY: Final = 300.0  # seconds from one measure of the quickest picture to the next: two clocks drift apart
_STILL: Final = 2  # levels; re-encoding an unmoved picture changes the mean of a block by less


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """Seconds: without a frame until a source counts as stalled; that opening may take; of unmoved pictures until it
    counts as frozen; between two looks at the picture."""

    stalled: float = 5.0
    opening: float = 15.0
    frozen: float = 10.0
    look: float = 0.5


class Watchdog:
    """Driven by calls with the time of a monotonic clock, in seconds.

    A picture counts as unmoved while no block of a 64 x 36 thumbnail of its luma differs by more than two levels
    from the picture in which it came to rest: a clock in the corner, a blink or sensor noise in the dark is movement.
    """

    def __init__(self, now: float, settings: WatchdogSettings | None = None) -> None:
        """``now``: when opening began."""
        self.settings = settings or WatchdogSettings()
        self._fed = now
        self._opened = False
        self._looked: float | None = None
        self._at_rest_since = now
        self._rest: U8 | None = None

    def opened(self, now: float) -> None:
        """The connection stands; frames are due from now on."""
        self._fed = now
        self._opened = True

    def fed(self, now: float, picture: Picture) -> None:
        """A frame came."""
        self._fed = now
        if self._looked is None or now - self._looked >= self.settings.look:
            self._looked = now
            self._look(now, shrink(picture.y, *_THUMBNAIL))

    def verdict(self, now: float) -> Verdict:
        """How the source stands."""
        if now - self._fed >= (self.settings.stalled if self._opened else self.settings.opening):
            return "stalled"
        if self._rest is not None and now - self._at_rest_since >= self.settings.frozen:
            return "frozen"
        return "fine"

    def _look(self, now: float, thumbnail: U8) -> None:
        rest = self._rest
        if rest is None or int(np.max(cv2.absdiff(rest, thumbnail))) > _STILL:
            self._rest = thumbnail
            self._at_rest_since = now


class Lateness:
    """How far pictures come behind the quickest of the last minutes: what waits on the way grows to seconds unseen.

    Driven by calls with a picture's timestamp and the time of a monotonic clock, both in seconds. A burst that makes up
    for itself is not late; what stays ``limit`` behind for as long as that is.

    >>> lateness = Lateness(limit=2.0)
    >>> [lateness.fed(pts, now) for pts, now in ((0.0, 50.0), (1.0, 51.1), (1.5, 54.0), (2.0, 54.5), (3.0, 56.1))]
    [False, False, False, False, True]
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._quickest = [math.inf, math.inf]  # arrival minus timestamp: in this span, in the one before
        self._since = -math.inf  # when this span began
        self._behind: float | None = None

    def fed(self, pts: float, now: float) -> bool:
        """A picture came. Whether the stream is late."""
        if now - self._since >= _CONVOY:
            self._quickest = [math.inf, self._quickest[0]]
            self._since = now
        taken = now - pts
        self._quickest[0] = min(self._quickest[0], taken)
        if taken - min(self._quickest) <= self._limit:
            self._behind = None
        elif self._behind is None:
            self._behind = now
        return self._behind is not None and now - self._behind >= self._limit
