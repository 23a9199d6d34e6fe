"""Stream time and damage of one session: two small policies, driven by what the decoder says."""

from __future__ import annotations

from collections import deque
from typing import Final

HEALS_AFTER: Final = 10.0  # seconds; a stream with periodic intra refresh never sends another keyframe


class StreamTime:
    """Presentation timestamps to seconds of stream time, strictly rising from the start of the session.

    A missing timestamp is the last one plus one frame. One that does not rise (a broken muxer, timestamps that
    start again in the middle) moves the origin, so that time goes on by one frame. Gaps stay as they are.

    >>> time = StreamTime(rate=25.0)
    >>> [time.at(pts) for pts in (7.0, 7.04, None, 3.0, 3.04)]
    [0.0, 0.04, 0.08, 0.12, 0.16]
    """

    def __init__(self, rate: float | None, origin: float | None = None) -> None:
        """``origin``: the timestamp that counts as zero; the first one where it is None."""
        self._step = 1.0 / rate if rate else 0.04
        self._origin = origin
        self._last: float | None = None

    @property
    def last(self) -> float | None:
        """The stream time given out last."""
        return self._last

    def at(self, pts: float | None) -> float:
        """Stream time of the next frame, seconds; ``pts`` in seconds too."""
        if self._last is None:
            if self._origin is None:
                self._origin = pts
            seconds = 0.0 if pts is None or self._origin is None else max(0.0, pts - self._origin)
        else:
            seconds = self._next(pts, self._last)
        self._last = round(seconds, 6)
        return self._last

    def of(self, pts: float) -> float:
        """Stream time of a timestamp, without moving anything."""
        return pts - (self._origin or 0.0)

    def _next(self, pts: float | None, last: float) -> float:
        expected = last + self._step
        if pts is None:
            return expected
        if self._origin is None or pts - self._origin <= last:
            self._origin = pts - expected
        return pts - self._origin


class Damage:
    """Which pictures are damaged: from a loss, or from a repaired picture, until the next sound keyframe.

    A decoder marks few of the pictures that a loss spoils; those that follow are predicted from them.

    >>> damage = Damage()
    >>> [damage.judge(i / 25, corrupt=i == 1, keyframe=i in (0, 3)) for i in range(5)]
    [False, True, True, False, False]
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._lost = False

    def lost(self) -> None:
        """Data is missing in front of the next picture."""
        self._lost = True

    def judge(self, seconds: float, *, corrupt: bool, keyframe: bool) -> bool:
        """Whether the picture at that stream time is damaged."""
        if corrupt or (self._lost and not keyframe):
            self._since = seconds
        elif self._since is not None and (keyframe or seconds - self._since > HEALS_AFTER):
            self._since = None
        self._lost = False
        return self._since is not None


class Gaps:
    """Pictures missing between two others, from the timestamps of a stream that is otherwise regular.

    A decoder does not tell when a whole picture was lost on the way. A camera that varies its frame rate would look
    like loss, so only streams whose last intervals agree are judged.

    >>> gaps = Gaps()
    >>> seen = [gaps.missing(i / 25) for i in range(20)]
    >>> any(seen), gaps.missing(21 / 25)
    (False, True)
    """

    _REMEMBERED: Final = 16
    _NEEDED: Final = 4

    def __init__(self) -> None:
        self._last: float | None = None
        self._intervals: deque[float] = deque(maxlen=self._REMEMBERED)

    def missing(self, seconds: float) -> bool:
        """Whether something is missing in front of the picture at that stream time."""
        last, self._last = self._last, seconds
        if last is None:
            return False
        interval = seconds - last
        missing = False
        known = len(self._intervals)
        if known >= self._NEEDED:
            usual = sorted(self._intervals)[known // 2]
            regular = sum(abs(i - usual) < 0.25 * usual for i in self._intervals) >= 0.75 * known
            missing = regular and interval > 1.6 * usual
        self._intervals.append(interval)
        return missing
