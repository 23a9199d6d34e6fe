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
_WON: Final = 0.02  # seconds: a packet that is nearer by less is as late as those before
_NOTHING_WON: Final = 1.0  # seconds without one that is nearer
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
        self.by = 0.0
        """Seconds by which the last picture came behind the quickest."""

    def fed(self, pts: float, now: float) -> bool:
        """A picture came. Whether the stream is late."""
        if now - self._since >= _CONVOY:
            self._quickest = [math.inf, self._quickest[0]]
            self._since = now
        taken = now - pts
        self._quickest[0] = min(self._quickest[0], taken)
        self.by = taken - min(self._quickest)
        if self.by <= self._limit:
            self._behind = None
        elif self._behind is None:
            self._behind = now
        return self._behind is not None and now - self._behind >= self._limit


class CatchUp:
    """Which packets of a live stream are decoded, so that a machine that decodes too slowly is late for seconds only.

    Packets that are left out cost next to nothing, so that what waits on the way is soon used up; decoding goes on at
    the next keyframe. A stream that is behind although its reader mostly waits for packets has only come to take a
    longer way: nothing is left out, and that is how late it is from now on. Driven as :class:`Lateness` is, in the
    order of decoding.

    >>> catch_up = CatchUp(limit=1.0)
    >>> packets = (0.0, 50.0), (1.0, 52.1), (2.0, 54.2), (2.1, 54.2), (4.0, 54.3)
    >>> [catch_up.wanted(pts, now, keyframe=pts.is_integer(), waited=0.0) for pts, now in packets]
    [True, True, False, False, True]
    """

    def __init__(self, limit: float) -> None:
        """``limit``: seconds behind the quickest, for that long."""
        self._limit = limit
        self._lateness = Lateness(limit)
        self._last = -math.inf
        self._idle = Idle(limit)
        self._nearest: float | None = None  # arrival minus timestamp, the least since packets are left out
        self._won_at = 0.0  # when that was last better than before

    def wanted(self, pts: float, now: float, *, keyframe: bool, waited: float) -> bool:
        """A packet came, for which the reader waited so many seconds. Whether it is decoded."""
        if pts < self._last - self._limit:  # a jump back is no delay
            self._lateness = Lateness(self._limit)
        self._last = pts
        self._idle.add(waited, now)
        late = self._lateness.fed(pts, now)
        taken = now - pts
        if self._nearest is None:
            if not late:
                return True
            if self._idle.mostly:
                self._lateness = Lateness(self._limit)
                return True
            self._nearest, self._won_at = taken, now
        elif taken < self._nearest - _WON:
            self._nearest, self._won_at = taken, now
        caught_up = self._lateness.by <= self._limit / 2
        if not keyframe or not (caught_up or now - self._won_at >= _NOTHING_WON):
            return False
        if not caught_up:
            self._lateness = Lateness(self._limit)
        self._nearest = None
        return True


class Idle:
    """Whether somebody mostly waited in the last ``span`` seconds that are over."""

    def __init__(self, span: float) -> None:
        self.mostly = True
        self._span = span
        self._since: float | None = None
        self._waited = 0.0

    def add(self, waited: float, now: float) -> None:
        """So many seconds, that end now, were waited."""
        if self._since is None:
            self._since = now
            return
        self._waited += waited
        if now - self._since >= self._span:
            self.mostly = self._waited > 0.5 * (now - self._since)
            self._since, self._waited = now, 0.0
