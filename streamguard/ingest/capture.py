"""When a live picture was taken, and when it is due: the two clocks of a live connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from streamguard.frames import Clock

BELIEVED = 5.0
"""Seconds; a sender's clock that is further off than this is shown, and not used."""

_JUMPED: Final = 2.0  # seconds


@dataclass(frozen=True, slots=True)
class Capture:
    """Unix time at which a picture was taken, in seconds, and the clock that says so."""

    at: float
    clock: Clock


class CaptureClock:
    """Capture time from the sender's clock (RTCP sender reports, RFC 3550, 6.4.1) where there is one.

    The sender tells which wall-clock time belongs to which timestamp, again and again: the last word counts, so
    that a camera that sets its clock is followed. Without it a picture counts as taken one frame before it came:
    a decoder gives it out when the next begins.

    >>> clock = CaptureClock(rate=25.0)
    >>> clock.capture(pts=10.0, arrival=1000.0)
    Capture(at=999.96, clock='arrival')
    >>> clock.heard(pts=10.0, wall=999.9)
    >>> clock.capture(pts=10.04, arrival=1000.04)
    Capture(at=999.94, clock='rtcp')
    """

    def __init__(self, rate: float | None, believed: float = BELIEVED) -> None:
        self._step = 1.0 / rate if rate else 0.04
        self._believed = believed
        self._said: tuple[float, float] | None = None
        self.offset: float | None = None

    def heard(self, pts: float, wall: float) -> None:
        """The sender says that it took the picture of timestamp ``pts`` (seconds) at Unix time ``wall``."""
        self._said = (pts, wall)

    def capture(self, pts: float | None, arrival: float) -> Capture:
        """When the picture of timestamp ``pts`` was taken; ``arrival``: Unix time at which it was decoded.

        Sets ``offset``: arrival minus the sender's clock, delay of the network and the decoder included.
        """
        if self._said is not None and pts is not None:
            taken = self._said[1] + pts - self._said[0]
            self.offset = round(arrival - taken, 6)
            if abs(self.offset) <= self._believed:
                return Capture(round(taken, 6), "rtcp")
        return Capture(round(arrival - self._step, 6), "arrival")


class Pacer:
    """Spreads pictures that come in bursts (the segments of HLS) over the time they are of.

    ``speed`` a little over 1 drains what has piled up: in the end the pictures of a burst are shown just before the
    next one comes. A picture that is late, or over two seconds early (timestamps jumped), is due at once, and those
    after it count from there.

    >>> pacer = Pacer(speed=1.0)
    >>> [pacer.wait(pts, now) for pts, now in ((0.0, 50.0), (0.5, 50.0), (1.0, 50.5), (1.5, 55.0), (2.0, 55.0))]
    [0.0, 0.5, 0.5, 0.0, 0.5]
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._last: tuple[float, float] | None = None  # stream time, and when it was due

    def wait(self, pts: float, now: float) -> float:
        """Seconds until the picture of that stream time is due."""
        due = now if self._last is None else self._last[1] + (pts - self._last[0]) / self._speed
        if not now <= due <= now + _JUMPED:
            due = now
        self._last = (pts, due)
        return due - now
