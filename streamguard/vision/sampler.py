"""How often to look: which frames are searched for faces, which tracks are scored.

Searches come every k-th frame. Between two searches a track is scored where its face should be by now, if it needs
more scores than there are searches: often while its evidence is undecided, seldom once it is settled, and always
between the lowest and the highest rate that the operating points were calibrated at.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

Mode = Literal["latency", "throughput", "every-frame"]

_EARLY: Final = 0.25  # share of an interval that a score may come before its time
_SLOW: Final = 1.25  # times the longest interval that was calibrated, after which scores come too seldom
_GAPS: Final = 5  # intervals that a rate is judged by
_GRAIN: Final = 1e-6  # seconds: times that differ by less are the same

_WAITING: Final[dict[Mode, int]] = {"latency": 1, "throughput": 4, "every-frame": 16}
_BATCH_WAIT: Final[dict[Mode, float]] = {"latency": 0.005, "throughput": 0.04, "every-frame": 0.04}


class Look(enum.Enum):
    """What is done with a frame."""

    SEARCH = enum.auto()
    """It is searched for faces."""
    BETWEEN = enum.auto()
    """Tracks that need it may be scored in it, without a search."""
    PASS = enum.auto()


class Need(enum.Enum):
    """How much a track asks for scores; the value is a multiple of the usual rate."""

    UNDECIDED = 2.0
    USUAL = 1.0
    SETTLED = 0.5


@dataclass(frozen=True, slots=True)
class Pace:
    """What an overloaded machine does less of: :mod:`streamguard.vision.overload` sets it.

    ``step``: its name, None for all that is asked for. ``ceiling``: the most of :class:`Need` that is served.
    ``lowest``: every track is scored at the lowest rate. ``spread``: times as many frames from one search to the next.
    """

    step: str | None = None
    ceiling: float = Need.UNDECIDED.value
    lowest: bool = False
    spread: float = 1.0


FULL: Final = Pace()
"""Nothing is done less of."""


def unhurried() -> Pace:
    """The pace of what can wait: files, and whatever runs without an overload policy."""
    return FULL


@dataclass(frozen=True, slots=True)
class SamplerSettings:
    """What matters more, and how often is looked.

    ``mode``: ``latency`` analyses the newest frame of a live stream at once; ``throughput`` lets a few frames wait, so
    that none is lost to a short burst and batches on a GPU fill up; ``every-frame`` searches every frame and never
    looks less often. Whatever the mode, a live frame that has waited for more than ``max_staleness`` seconds is
    dropped, by name, and files wait. ``detect_every``: frames from one search to the next. ``classify_hz``: usual
    scores a second and track.

    The rate of scores stays between ``lowest_hz`` and ``highest_hz``; scores that come more seldom nevertheless say
    nothing. They may narrow the rates that the operating points were calibrated at (of the engine's manifest), which
    hold in any case.
    """

    mode: Mode = "latency"
    max_staleness: float = 0.5
    detect_every: int = 5
    classify_hz: float = 5.0
    lowest_hz: float | None = None
    highest_hz: float | None = None

    def __post_init__(self) -> None:
        if self.detect_every < 1:
            raise ValueError(f"detect_every is {self.detect_every}; expected 1 or more frames")
        if not self.max_staleness > 0:
            raise ValueError(f"max_staleness is {self.max_staleness}; expected more than 0 seconds")
        for name in ("classify_hz", "lowest_hz", "highest_hz"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} is {value}; expected more than 0 scores a second")
        if self.lowest_hz and self.highest_hz and self.lowest_hz > self.highest_hz:
            raise ValueError(f"lowest_hz is {self.lowest_hz}; expected highest_hz, {self.highest_hz}, or less")

    def within(self, lowest: float, highest: float) -> SamplerSettings:
        """The same, with rates inside those that an engine was calibrated at.

        Raises:
            ValueError: ``lowest_hz`` and ``highest_hz`` leave nothing of them.
        """
        return replace(
            self, lowest_hz=max(lowest, self.lowest_hz or lowest), highest_hz=min(highest, self.highest_hz or highest)
        )

    @property
    def stride(self) -> int:
        """Frames from one search to the next, as long as there is no overload."""
        return 1 if self.mode == "every-frame" else self.detect_every

    @property
    def waiting(self) -> int:
        """Frames of a live stream that may wait."""
        return _WAITING[self.mode]

    @property
    def batch_wait(self) -> float:
        """Seconds that an incomplete batch may wait for more pictures."""
        return _BATCH_WAIT[self.mode]

    @property
    def slowest(self) -> float:
        """The fewest scores a second that are asked for."""
        return self.lowest_hz or self.classify_hz * Need.SETTLED.value

    def rate(self, need: Need, pace: Pace = FULL) -> float:
        """Scores a second and track."""
        wanted = self.slowest if pace.lowest else self.classify_hz * min(need.value, pace.ceiling)
        return min(max(wanted, self.lowest_hz or wanted), self.highest_hz or wanted)


class FrameSampler:
    """The schedule of one stream's frames; its owner is the decoder's thread.

    ``pace`` is asked at every frame. However slow the pace, searches stay frequent enough for the lowest rate.
    """

    def __init__(self, settings: SamplerSettings | None = None, pace: Callable[[], Pace] = unhurried) -> None:
        self.settings = settings or SamplerSettings()
        self._pace = pace
        self.restart()

    def restart(self) -> None:
        """Another session: stream time starts anew."""
        self._frames = 0
        self._searched: float | None = None
        self._looked = 0.0

    def look(self, pts: float) -> Look:
        """What to do with the next frame; ``pts`` in seconds of stream time. The first one is searched."""
        pace = self._pace()
        self._frames += 1
        if self._searched is None or self._search_due(pts - self._searched, pace):
            self._frames, self._searched, self._looked = 0, pts, pts
            return Look.SEARCH
        if pts - self._looked < 1 / self.settings.rate(Need.UNDECIDED, pace) - _GRAIN:
            return Look.PASS
        self._looked = pts
        return Look.BETWEEN

    def _search_due(self, elapsed: float, pace: Pace) -> bool:
        stride = self.settings.stride
        if self._frames < stride:
            return False
        return self._frames >= stride * pace.spread or elapsed >= 1 / self.settings.slowest - _GRAIN


class TrackSampler:
    """The schedule of one stream's tracks; its owner is the inference thread."""

    def __init__(self, settings: SamplerSettings | None = None, pace: Callable[[], Pace] = unhurried) -> None:
        self.settings = settings or SamplerSettings()
        self._pace = pace
        self._booked: dict[int, float] = {}
        self._times: dict[int, deque[float]] = {}

    def due(self, track_id: int, pts: float, need: Need = Need.USUAL, *, searched: bool = True) -> bool:
        """Whether the track is scored now; a yes books the time. ``searched``: the frame was, and showed the face.

        A score may come a quarter of an interval early, so that jitter costs none; the next time counts from the
        *booked* one, so that the mean rate still never exceeds what was set. A track that comes late is not
        made up for. ``pts`` in seconds of stream time.
        """
        interval = 1 / self.settings.rate(need, self._pace())
        due = self._booked[track_id] + interval if track_id in self._booked else pts
        if pts < due - _EARLY * interval:
            return False
        self._booked[track_id] = max(due, pts - _EARLY * interval)
        if searched:
            self._times.setdefault(track_id, deque(maxlen=_GAPS + 1)).append(pts)
        return True

    def too_slow(self, track_id: int) -> bool:
        """Whether the track's last scores came more seldom than the lowest rate.

        Those of searched frames count: a handful at once, then nothing for a second, is no higher rate. Of a few
        intervals the longest is left out: a face that was turned away for a while is no slow stream.
        """
        times = self._times.get(track_id, ())
        if self.settings.lowest_hz is None or len(times) < 2:
            return False
        gaps = sorted(later - earlier for earlier, later in zip(times, list(times)[1:], strict=False))
        counted = gaps[:-1] or gaps
        return sum(counted) / len(counted) > _SLOW / self.settings.lowest_hz

    def forget(self, track_id: int) -> None:
        """Drop a track that has ended."""
        self._booked.pop(track_id, None)
        self._times.pop(track_id, None)
