"""Which events stay when there is no room for all: the policy of the outbox, without a thread or a disk.

rank            what                                                      goes
UPDATED   0     ``segment.updated``: a later one says more                first, the oldest first
DEAD      1     dead letters, already given up for one sink               then
STATE     2     ``track.state``                                           then
STREAM    3     ``stream.up``, ``down``, ``degraded``                     then
KEPT      4     ``segment.opened``, ``closed``, and what is not known     never: what comes then is refused
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class Rank(IntEnum):
    """What goes first when there is no room."""

    UPDATED = 0
    DEAD = 1
    STATE = 2
    STREAM = 3
    KEPT = 4


_RANKS: Final = {
    "streamguard.segment.updated.v1": Rank.UPDATED,
    "streamguard.track.state.v1": Rank.STATE,
    "streamguard.stream.up.v1": Rank.STREAM,
    "streamguard.stream.down.v1": Rank.STREAM,
    "streamguard.stream.degraded.v1": Rank.STREAM,
}


def rank_of(kind: str) -> Rank:
    """The rank of events of a ``type``.

    >>> rank_of("streamguard.segment.updated.v1").name, rank_of("streamguard.segment.closed.v1").name
    ('UPDATED', 'KEPT')
    """
    return _RANKS.get(kind, Rank.KEPT)


@dataclass(frozen=True, slots=True)
class Row:
    """One event in the outbox: its place in the order, when it came (seconds of the outbox' own clock), its JSON."""

    sequence: int
    stored: float
    rank: Rank
    body: str


class Backlog:
    """Rows in memory, in order, ``bound`` of them at most.

    >>> backlog = Backlog(2)
    >>> backlog.add(Row(1, 0.0, Rank.UPDATED, "")), backlog.add(Row(2, 0.0, Rank.KEPT, ""))
    (None, None)
    >>> backlog.add(Row(3, 0.0, Rank.KEPT, "")).sequence
    1
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: Row, kept: int = 0) -> Row | None:
        """Take a row in. The row that had to go for it, if one had to: it may be ``row`` itself.

        Rows up to the sequence number ``kept`` can't go: they are being written.
        """
        if len(self._rows) < self.bound:
            self._rows.append(row)
            return None
        start = self._index(kept)
        least = min(range(start, len(self._rows)), key=lambda index: self._rows[index].rank, default=None)
        if least is None or self._rows[least].rank > row.rank or self._rows[least].rank is Rank.KEPT:
            return row
        gone = self._rows.pop(least)
        self._rows.append(row)
        return gone

    def after(self, sequence: int, limit: int | None = None, through: int | None = None) -> list[Row]:
        """Rows behind ``sequence``, ``limit`` of them at most, none beyond ``through``."""
        start = self._index(sequence)
        end = len(self._rows) if through is None else self._index(through)
        return self._rows[start : end if limit is None else min(end, start + limit)]

    def forget(self, through: int) -> None:
        """Rows up to that sequence number go."""
        del self._rows[: self._index(through)]

    def _index(self, sequence: int) -> int:
        return bisect_right(self._rows, sequence, key=lambda row: row.sequence)
