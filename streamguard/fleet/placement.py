"""Which node should watch which stream. Pure; what is needed for 100,000 streams on 5,000 nodes costs no more than a
heap entry for each stream that changes hands.

A stream moves for three reasons alone: its node is lost, its node is over its capacity, or nobody has it yet. A new
node draws nothing away from nodes that are well.
"""

from __future__ import annotations

import heapq
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Final, Literal, NamedTuple

Reason = Literal["new", "lost", "over"]

_STALE: Final = 4  # entries of a heap for each that counts, before it is built anew


class Move(NamedTuple):
    """A stream that has another node from now on; ``source`` None: nobody had it."""

    stream: str
    source: str | None
    target: str
    reason: Reason


@dataclass(slots=True)
class _Node:
    capacity: int
    streams: dict[str, float] = field(default_factory=dict)  # stream: since when, in the order in which they came
    over_since: float | None = None
    version: int = -1  # of its entry in the heap that counts

    @property
    def room(self) -> int:
        return self.capacity - len(self.streams)

    @property
    def fullness(self) -> float:
        """Share of the capacity that is taken once one more stream comes."""
        return (len(self.streams) + 1) / self.capacity if self.capacity else math.inf


class Placement:
    """Streams, nodes, and who has what. ``clock``: monotonic seconds.

    ``patience``: a node is over its capacity for so long before it gives streams away; ``settle``: a stream that moved
    stays for so long. Where capacities are measured they change with the load: without both, streams would wander.

    >>> placement = Placement(clock=lambda: 0.0)
    >>> placement.node("a", capacity=2)
    >>> placement.want(["door", "hall", "yard"])
    >>> [move.stream for move in placement.turn()], placement.unowned
    (['door', 'hall'], 1)
    """

    def __init__(
        self, *, patience: float = 10.0, settle: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.moves: Counter[Reason] = Counter()
        self._patience = patience
        self._settle = settle
        self._clock = clock
        self._nodes: dict[str, _Node] = {}
        self._owner: dict[str, str] = {}
        self._rank: dict[str, int] = {}  # of every wanted stream: the configuration's order, first come first served
        self._waiting: list[tuple[int, str]] = []  # a heap of streams without an owner, entries may be stale
        self._why: dict[str, tuple[str | None, Reason]] = {}  # of streams without an owner: who had them, why no more
        self._roomy: list[tuple[float, str, int]] = []  # a heap of nodes by fullness, entries may be stale
        self._over: set[str] = set()
        self._versions = count()

    # What is so.

    @property
    def unowned(self) -> int:
        """Streams that nobody has: there is no room for them."""
        return len(self._why)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that there are."""
        return tuple(self._nodes)

    def owner(self, stream: str) -> str | None:
        """The node that should watch a stream."""
        return self._owner.get(stream)

    def streams(self, node: str) -> tuple[str, ...]:
        """What a node should watch."""
        known = self._nodes.get(node)
        return () if known is None else tuple(known.streams)

    def capacity(self, node: str) -> int:
        """How many streams a node takes."""
        return self._nodes[node].capacity

    def waiting(self) -> list[str]:
        """Streams without an owner, in the order in which they get one."""
        return sorted(self._why, key=self._rank.__getitem__)

    # What changes.

    def want(self, streams: Iterable[str]) -> None:
        """These streams, and no others, are to be watched; the first are placed first.

        Raises:
            ValueError: a stream is named twice.
        """
        ranks: dict[str, int] = {}
        for rank, stream in enumerate(streams):
            if stream in ranks:
                raise ValueError(f"stream '{stream}' is named twice")
            ranks[stream] = rank
        gone, new = self._rank.keys() - ranks.keys(), [stream for stream in ranks if stream not in self._rank]
        self._rank = ranks
        for stream in gone:
            self._why.pop(stream, None)
            if (owner := self._owner.pop(stream, None)) is not None:
                self._take_from(owner, stream)
        for stream in new:
            self._why[stream] = (None, "new")
        self._waiting = [(ranks[stream], stream) for stream in self._why]
        heapq.heapify(self._waiting)

    def node(self, name: str, capacity: int) -> None:
        """A node is there, or takes another number of streams from now on; 0 takes none. It keeps what it has."""
        known = self._nodes.get(name)
        if known is None:
            self._nodes[name] = _Node(capacity)
        elif known.capacity == capacity:
            return
        else:
            known.capacity = capacity
        self._changed(name)

    def lost(self, name: str) -> None:
        """A node is gone: its streams go elsewhere. One that is not known is ignored."""
        node = self._nodes.pop(name, None)
        if node is None:
            return
        self._over.discard(name)
        for stream in node.streams:
            del self._owner[stream]
            self._free(stream, name, "lost")

    def claim(self, stream: str, node: str) -> bool:
        """A node watches a stream already, from the time of another head. Whether it is left to it."""
        if stream not in self._why or node not in self._nodes:
            return self._owner.get(stream) == node
        self._give(stream, node)
        return True

    def turn(self) -> list[Move]:
        """Place what has no owner, as far as there is room; lighten nodes that are over. What changed."""
        moves = self._place()
        for name in sorted(self._over):
            moves += self._lighten(name)
        return moves

    # How it is done.

    def _place(self) -> list[Move]:
        moves = []
        while self._waiting:
            _, stream = self._waiting[0]
            if stream in self._why:
                target = self._roomiest()
                if target is None:
                    break
                source, reason = self._why[stream]
                self._give(stream, target)
                moves.append(self._counted(Move(stream, source, target, reason)))
            heapq.heappop(self._waiting)
        return moves

    def _lighten(self, name: str) -> list[Move]:
        """Give away what a node has too much of, the newest first, once it has been over for long enough."""
        node, now = self._nodes[name], self._clock()
        if node.over_since is None or now - node.over_since < self._patience:
            return []
        moves: list[Move] = []
        for stream, since in reversed(list(node.streams.items())):
            if node.room >= 0:
                break
            if now - since < self._settle:
                continue
            target = self._roomiest()
            if target is None:
                break
            del self._owner[stream]
            self._take_from(name, stream)
            self._why[stream] = (name, "over")
            self._give(stream, target)
            moves.append(self._counted(Move(stream, name, target, "over")))
        return moves

    def _counted(self, move: Move) -> Move:
        self.moves[move.reason] += 1
        return move

    def _free(self, stream: str, source: str, reason: Reason) -> None:
        self._why[stream] = (source, reason)
        heapq.heappush(self._waiting, (self._rank[stream], stream))

    def _give(self, stream: str, node: str) -> None:
        reason = self._why.pop(stream)[1]
        self._owner[stream] = node
        # What nobody had, or has lost, may go on to where it fits better at once; what was given away stays.
        self._nodes[node].streams[stream] = self._clock() if reason == "over" else -math.inf
        self._changed(node)

    def _take_from(self, name: str, stream: str) -> None:
        del self._nodes[name].streams[stream]
        self._changed(name)

    def _changed(self, name: str) -> None:
        """A node has more or less room than before."""
        node = self._nodes[name]
        node.version = next(self._versions)
        if node.room < 0:
            self._over.add(name)
            if node.over_since is None:
                node.over_since = self._clock()
        else:
            self._over.discard(name)
            node.over_since = None
        if node.room > 0:
            heapq.heappush(self._roomy, (node.fullness, name, node.version))
        if len(self._roomy) > _STALE * (len(self._nodes) + 1):
            self._roomy = [(node.fullness, name, node.version) for name, node in self._nodes.items() if node.room > 0]
            heapq.heapify(self._roomy)

    def _roomiest(self) -> str | None:
        """The node that is least full, of those with room."""
        while self._roomy:
            _, name, version = self._roomy[0]
            node = self._nodes.get(name)
            if node is not None and node.version == version:
                return name
            heapq.heappop(self._roomy)
        return None
