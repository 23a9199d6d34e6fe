"""How many streams a node takes, by its own measure."""

from __future__ import annotations

import math
from typing import Final

EXPECTED: Final = 0.185
"""Cores that a 720p25 stream takes until a node has measured its own: docs/performance.md, 7.4 ms of CPU a frame."""
_WINDOW: Final = 5.0  # seconds that one measurement takes
_WEIGHT: Final = 0.3  # of a new measurement against those before it
_RELIEF: Final = 300.0  # seconds after an overload, in which one stream fewer than then is taken


class CapacityMeter:
    """Cores and what the streams took of them, against what is allowed. Pure; ``now`` in monotonic seconds.

    Where the cores are not what runs short (a GPU, memory, the disk), the overload policy tells: a node that does less
    than it was set to takes one stream fewer than it has, until five minutes after the last overload.

    >>> meter = CapacityMeter(cores=4, load=0.8)
    >>> meter.streams  # as long as nothing is measured
    17
    """

    def __init__(self, cores: int, load: float, expected: float = EXPECTED) -> None:
        self._allowed = cores * load
        self._cost = expected
        self._measured = False
        self._begun: tuple[float, float, int] | None = None
        self._ceiling: tuple[float, int] | None = None  # until when, how many

    @property
    def streams(self) -> int:
        """Streams that the node takes; never less than one."""
        most = math.floor(self._allowed / self._cost + 1e-9)
        if self._ceiling is not None:
            most = min(most, self._ceiling[1])
        return max(1, most)

    @property
    def cost(self) -> float:
        """Cores that a stream takes."""
        return self._cost

    def note(self, now: float, cpu: float, streams: int, *, overload: int) -> None:
        """``cpu``: seconds of CPU time that the process has used so far; ``streams``: that run since the last call;
        ``overload``: steps that the overload policy has taken."""
        if overload and streams:
            self._ceiling = (now + _RELIEF, streams - 1)
        elif self._ceiling is not None and now >= self._ceiling[0]:
            self._ceiling = None
        if self._begun is None or self._begun[2] != streams:  # other streams: begin anew
            self._begun = (now, cpu, streams)
            return
        since, before, _ = self._begun
        if now - since < _WINDOW:
            return
        self._begun = (now, cpu, streams)
        if streams:
            cost = max((cpu - before) / (now - since) / streams, 1e-4)
            self._cost = cost if not self._measured else (1 - _WEIGHT) * self._cost + _WEIGHT * cost
            self._measured = True
