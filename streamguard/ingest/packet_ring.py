"""The last seconds of compressed video, in whole groups of pictures, for clips without re-encoding."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Generic, TypeVar

P = TypeVar("P")


@dataclass(slots=True)
class _Group(Generic[P]):
    """A keyframe and what is predicted from it, in decoding order."""

    packets: list[tuple[float, P]] = field(default_factory=list)
    size: int = 0
    start: float = 0.0
    end: float = 0.0


class PacketRing(Generic[P]):
    """Keeps packets while they are at most ``seconds`` old and ``size`` bytes in all; forgets whole groups.

    The newest group always stays, even when it alone is over the bound in seconds: a clip must begin with a
    keyframe. A group over the bound in bytes is given up as a whole and packets wait for the next keyframe.
    Nothing is kept before the first keyframe. A packet is whatever the caller keeps; times are seconds of stream time.

    >>> ring = PacketRing[str](seconds=2.0, size=1000)
    >>> for i in range(6):
    ...     ring.append(f"p{i}", i * 1.0, keyframe=i % 2 == 0, size=100)
    >>> ring.since(3.5)
    ['p2', 'p3', 'p4', 'p5']
    """

    def __init__(self, seconds: float, size: int) -> None:
        self.seconds = seconds
        self.size = size
        self._groups: deque[_Group[P]] = deque()
        self._held = 0
        self._waiting = True

    @property
    def held_bytes(self) -> int:
        """Bytes of all packets kept."""
        return self._held

    @property
    def span(self) -> tuple[float, float] | None:
        """Stream times of the first and the last picture kept; None when there is none."""
        if not self._groups:
            return None
        return self._groups[0].start, max(group.end for group in self._groups)

    def append(self, packet: P, seconds: float, *, keyframe: bool, size: int) -> None:
        """Keep the next packet, in decoding order; ``seconds`` is when its picture is shown."""
        if keyframe:
            self._waiting = False
            self._groups.append(_Group(start=seconds, end=seconds))
        elif self._waiting:
            return
        group = self._groups[-1]
        group.packets.append((seconds, packet))
        group.size += size
        group.end = max(group.end, seconds)
        self._held += size
        self._forget(seconds)

    def since(self, start: float) -> list[P]:
        """Everything kept from the keyframe at or before ``start``, or from the oldest one, in decoding order."""
        groups = list(self._groups)  # a snapshot: the decoder thread may append meanwhile
        first = max((i for i, group in enumerate(groups) if group.start <= start), default=0)
        return [packet for group in groups[first:] for _, packet in list(group.packets)]

    def clear(self) -> None:
        """Forget everything, as at a new session."""
        self._groups.clear()
        self._held = 0
        self._waiting = True

    def _forget(self, now: float) -> None:
        while len(self._groups) > 1 and (self._held > self.size or self._groups[1].start <= now - self.seconds):
            self._held -= self._groups.popleft().size
        if self._held > self.size:
            self.clear()
