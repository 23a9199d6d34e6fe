"""Which pictures go to a model together.

A batch leaves when it is full, when nobody else can come, or when its oldest picture has waited long enough; so on a
CPU, where a batch is one picture, nothing ever waits for company. Streams are served in turn: one item of each before
a second of any, and whoever was served goes to the end of the line. A stream that puts nothing in is not waited for.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Batcher(Generic[Item]):
    """The line in front of one model, pure. ``wait``: seconds that an incomplete batch waits for more.

    Times are on a monotonic clock, in seconds.

    >>> line = Batcher(wait=0.01)
    >>> for stream, item in (("a", "a1"), ("a", "a2"), ("b", "b1")):
    ...     line.put(stream, item, now=0.0)
    >>> line.take(0.0, most=2), line.take(0.0, most=2), line.take(0.02, most=2)
    (['a1', 'b1'], [], ['a2'])
    """

    def __init__(self, wait: float = 0.0) -> None:
        self.wait = wait
        self._lines: OrderedDict[Hashable, deque[tuple[float, Item]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        """Items in line."""
        return self._count

    def put(self, stream: Hashable, item: Item, now: float) -> None:
        """Put an item in line, behind those of its stream."""
        self._lines.setdefault(stream, deque()).append((now, item))
        self._count += 1

    def drop(self, stream: Hashable) -> None:
        """Forget all that waits of a stream."""
        self._count -= len(self._lines.pop(stream, ()))

    def take(self, now: float, most: int, enough: int | None = None) -> list[Item]:
        """The next batch of at most ``most`` items, or nothing if it had better wait.

        ``enough``: a batch of so many is full, since nobody else can come.
        """
        full = most if enough is None else min(most, enough)
        if not self._count or (self._count < full and not self._is_due(now)):
            return []
        taken: list[Item] = []
        while self._lines and len(taken) < most:
            stream, line = self._lines.popitem(last=False)
            taken.append(line.popleft()[1])
            if line:
                self._lines[stream] = line
        self._count -= len(taken)
        return taken

    @property
    def due(self) -> float | None:
        """When the oldest item has waited long enough; None if there is none."""
        if not self._lines:
            return None
        return min(line[0][0] for line in self._lines.values()) + self.wait

    def _is_due(self, now: float) -> bool:
        due = self.due
        return due is not None and now >= due
