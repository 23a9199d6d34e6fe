"""What the stage has to say of its load: told to the overload policy, and what that decides to people."""

from __future__ import annotations

import logging

from streamguard.lane import Lane
from streamguard.metrics import Metrics
from streamguard.vision.overload import Overload

log = logging.getLogger(__name__)


class LoadWatch:
    """Which live streams wait, and how many of their due frames were lost; the inference thread's alone."""

    def __init__(self, overload: Overload, metrics: Metrics) -> None:
        self._overload = overload
        self._metrics = metrics
        self._held: set[str] = set()

    def look(self, lane: Lane) -> None:
        """Whether a due frame of this stream waits now. Files may wait: they are no load."""
        if lane.crossing.live and lane.crossing.frames and not lane.removed:
            self._held.add(lane.stream)
        else:
            self._held.discard(lane.stream)

    def frame(self, lost: int) -> None:
        """A live stream's due frame was taken; ``lost`` of them were given up."""
        self._overload.frame(lost)

    def turn(self, now: float) -> None:
        """Time passes: step down or up, and say so once."""
        before = self._overload.level
        pace = self._overload.turn(now, waiting=bool(self._held))
        if pace is None:
            return
        level, most = self._overload.level, len(self._overload.steps) - 1
        self._metrics.overload_level.set(level)
        if pace.step is None:
            log.warning("the overload is over: everything is done as it is set")
        elif level < before:
            log.info("the overload eases: step %d of %d, %s", level, most, pace.step)
        else:
            self._metrics.overload_steps.labels(pace.step).inc()
            log.warning("overload, frames of live streams are lost: step %d of %d, %s", level, most, pace.step)
