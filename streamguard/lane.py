"""One stream in the stage: what it has in hand, in the order of the stream.

A lane holds marks and frames until their turn. One frame at a time is on its way from the mailbox through the tracker;
while the faces of the frame before it are scored, it may be searched already. Whatever the backends are quicker with,
frames are followed, scored and judged in order, so that one file gives the same verdict every time.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Final

from streamguard.analysis import FaceCrop, StreamAnalysis
from streamguard.frames import F32, Look, StreamSnapshot
from streamguard.ingest.mailbox import Crossing, Mark, Waiting
from streamguard.pixels import Letterbox

MOST: Final = 8
"""Marks and frames in hand, of one stream."""


@dataclass(slots=True, eq=False)
class Job:
    """One frame between mailbox and statistics.

    ``raw``: the detector's output; None until it is back, and for a frame that is not searched. ``chosen``: its faces
    are in line to be scored, ``left`` of them still.
    """

    lane: Lane
    waiting: Waiting
    letterbox: Letterbox | None = None
    raw: F32 | None = None
    chosen: bool = False
    crops: list[FaceCrop] = field(default_factory=list)
    logits: list[float | None] = field(default_factory=list)
    left: int = 0

    @property
    def looks(self) -> list[Look]:
        """Every face that was scored."""
        pairs = zip(self.crops, self.logits, strict=True)
        return [Look(crop.track, crop.box, crop.picture, logit) for crop, logit in pairs if logit is not None]


@dataclass(slots=True, eq=False)
class Lane:
    """One stream in the stage. ``searching``: its frame that is not followed yet; ``in_line``: it asks for a search.

    ``latency``: seconds from the last scored frame's decoding to its scores.
    """

    analysis: StreamAnalysis
    crossing: Crossing
    queue: deque[Mark | Job] = field(default_factory=deque)
    searching: Job | None = None
    in_line: bool = False
    removed: bool = False
    latency: float | None = None

    @property
    def stream(self) -> str:
        """Its name."""
        return self.analysis.stream

    def snapshot(self) -> StreamSnapshot:
        """The stream as it stands."""
        return replace(self.analysis.snapshot(), latency=self.latency)

    def fill(self) -> bool:
        """Take in what comes before the next frame to search. Whether there was anything."""
        before = len(self.queue)
        while len(self.queue) < MOST and (item := self.crossing.take(due=False)) is not None:
            self.queue.append(Job(self, item) if isinstance(item, Waiting) else item)
        return len(self.queue) > before

    def search(self) -> Waiting | None:
        """Take the frame to search, with what came before it meanwhile; None if there is none any more."""
        while (item := self.crossing.take()) is not None:
            if isinstance(item, Waiting) and item.due:
                return item
            self.queue.append(Job(self, item) if isinstance(item, Waiting) else item)
        return None

    def turn(self) -> Mark | Job | None:
        """What may go on now: the oldest thing in hand, unless it is waited for."""
        if not self.queue:
            return None
        head = self.queue[0]
        if isinstance(head, Job) and (head.left or (head is self.searching and head.raw is None)):
            return None
        return head

    @property
    def wants_search(self) -> bool:
        """A due frame waits, and the one before it is followed."""
        return self.searching is None and not self.in_line and len(self.queue) < MOST and self.crossing.frames > 0
