"""How long evidence is kept, and when it stops to be written: two pure policies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_RETRY: Final = 30.0  # seconds from a refused write to the next attempt


@dataclass(frozen=True, slots=True)
class Kept:
    """A folder of evidence: when it was written (Unix time), and its bytes."""

    folder: Path
    written: float
    size: int


class Retention:
    """Evidence goes when it is older than ``max_age`` seconds, and the oldest goes while all are over ``max_bytes``.

    >>> policy = Retention(max_age=100.0, max_bytes=25)
    >>> kept = [Kept(Path(name), written, 10) for name, written in (("b", 50.0), ("a", 5.0), ("c", 90.0))]
    >>> [gone.folder.name for gone in policy.due(kept, now=100.0)]
    ['a']
    >>> [gone.folder.name for gone in policy.due(kept, now=100.0, incoming=10)]
    ['a', 'b']
    >>> [gone.folder.name for gone in policy.due(kept, now=160.0)]
    ['a', 'b']
    """

    def __init__(self, max_age: float, max_bytes: int) -> None:
        self.max_age = max_age
        self.max_bytes = max_bytes

    def due(self, kept: Iterable[Kept], now: float, incoming: int = 0) -> list[Kept]:
        """What has to go, oldest first, so that ``incoming`` bytes more have room."""
        by_age = sorted(kept, key=lambda one: (one.written, one.folder))
        held = incoming + sum(one.size for one in by_age)
        gone = []
        for one in by_age:
            if held <= self.max_bytes and one.written >= now - self.max_age:
                break
            held -= one.size
            gone.append(one)
        return gone


class Room:
    """Whether evidence may be written: it stops first, while there is still room for events.

    ``reserve`` bytes of the disk are left to others. After an error of the disk, evidence pauses for half a minute.

    >>> room = Room(reserve=100)
    >>> room.refusal(free=150, need=40, now=0.0), room.refusal(free=150, need=60, now=0.0)
    (None, 'disk full')
    >>> room.failed("disk error", now=0.0)
    >>> room.refusal(free=500, need=40, now=10.0), room.refusal(free=500, need=40, now=31.0)
    ('disk error', None)
    """

    def __init__(self, reserve: int, retry: float = _RETRY) -> None:
        self.reserve = reserve
        self._retry = retry
        self._failed: tuple[str, float] | None = None

    def failed(self, reason: str, now: float) -> None:
        """The disk did not take what was written; ``now`` in seconds of any steady clock."""
        self._failed = (reason, now)

    def refusal(self, free: int, need: int, now: float) -> str | None:
        """Why ``need`` bytes may not be written, ``free`` being the disk's; None: they may."""
        if free < self.reserve + need:
            return "disk full"
        if self._failed is not None and now - self._failed[1] < self._retry:
            return self._failed[0]
        self._failed = None
        return None
