"""The crossing between a decoder thread and the inference thread, one a stream.

:class:`Mailbox` is the policy, pure: a live stream keeps its newest frame and gives up the older one, a
file waits. Marks are never dropped and keep their place among the frames. :class:`Crossing` is the
lock round it.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from streamguard.frames import Frame
from streamguard.ingest.connection import StreamInfo
from streamguard.media import Recording

Policy = Literal["newest", "wait"]


@dataclass(frozen=True, slots=True)
class SessionStarted:
    """A connection delivers: frames of ``session`` follow. ``recording`` is what is kept of it for clips."""

    session: int
    info: StreamInfo
    recording: Recording | None = None


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """No frame of ``session`` follows. ``reason`` in words; ``final``: nor of any other session."""

    session: int
    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """Frames come that can't be judged, for ``reason``; None: they can again."""

    reason: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A frame in the mailbox; ``since`` on the monotonic clock, in seconds.

    A frame that is not ``due`` may be looked at and may be left out; nothing is lost without it. ``overtook``: due
    frames of the stream that were given up for this one.
    """

    frame: Frame
    since: float
    due: bool = True
    overtook: int = 0


Mark = SessionStarted | SessionEnded | Outage
Item = Waiting | Mark


class Mailbox:
    """At most ``bound`` frames, in order, between session marks.

    >>> box = Mailbox(1, "newest")
    >>> box.has_room()
    True
    """

    def __init__(self, bound: int, policy: Policy) -> None:
        self.bound = bound
        self.policy = policy
        self._items: deque[Item] = deque()
        self._frames = 0

    def __len__(self) -> int:
        """Frames waiting; marks do not count."""
        return self._frames

    def has_room(self) -> bool:
        """Whether :meth:`offer` may be called: always for ``newest``, else while under the bound."""
        return self.policy == "newest" or self._frames < self.bound

    def offer(self, waiting: Waiting) -> Waiting | None:
        """Put a frame in; the due one that had to go for it comes back, the oldest of a full ``newest`` mailbox.

        A frame that is not due pushes nothing out: in a full mailbox it is left out.
        """
        dropped = None
        if self._frames == self.bound:
            if not waiting.due:
                return None
            dropped = self._evict()
        if dropped is not None:
            waiting = replace(waiting, overtook=waiting.overtook + dropped.overtook + 1)
        self._items.append(waiting)
        self._frames += 1
        return dropped

    def mark(self, mark: Mark) -> None:
        """Put a mark in, behind the frames that wait."""
        self._items.append(mark)

    def take(self, *, due: bool = True) -> Item | None:
        """The oldest item, or None; without ``due``, a due frame stays where it is, and what is behind it."""
        if not self._items:
            return None
        head = self._items[0]
        if not due and isinstance(head, Waiting) and head.due:
            return None
        item = self._items.popleft()
        if isinstance(item, Waiting):
            self._frames -= 1
        return item

    def _evict(self) -> Waiting | None:
        """Make room: a frame that nobody misses, else the oldest, which comes back."""
        frames = [(index, item) for index, item in enumerate(self._items) if isinstance(item, Waiting)]
        index, item = next(((at, found) for at, found in frames if not found.due), frames[0])
        del self._items[index]
        self._frames -= 1
        return item if item.due else None


class Crossing:
    """A mailbox that two threads share. ``notify`` tells the taker, from the putter's thread."""

    def __init__(
        self, mailbox: Mailbox, notify: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._mailbox = mailbox
        self._notify = notify
        self._clock = clock
        self._room = threading.Condition()
        self._closed = False

    @property
    def closed(self) -> bool:
        """:meth:`close` was called."""
        return self._closed

    @property
    def live(self) -> bool:
        """Frames are given up rather than waited for."""
        return self._mailbox.policy == "newest"

    @property
    def frames(self) -> int:
        """Frames waiting at the moment."""
        return len(self._mailbox)

    def put(self, frame: Frame, *, due: bool = True, overtook: int = 0) -> Waiting | None:
        """Hand a frame over; waits for room where the policy is ``wait``. Returns the due frame dropped for it.

        ``overtook``: due frames that were given up for it before.

        After :meth:`close` the frame itself comes back at once.
        """
        waiting = Waiting(frame, self._clock(), due, overtook)
        with self._room:
            self._room.wait_for(lambda: self._closed or self._mailbox.has_room())
            if self._closed:
                return waiting
            dropped = self._mailbox.offer(waiting)
        self._notify()
        return dropped

    def mark(self, mark: Mark) -> None:
        """Hand a mark over."""
        with self._room:
            self._mailbox.mark(mark)
        self._notify()

    def take(self, *, due: bool = True) -> Item | None:
        """As :meth:`Mailbox.take`; never waits."""
        with self._room:
            item = self._mailbox.take(due=due)
            self._room.notify()
        return item

    def close(self) -> None:
        """Let a waiting putter go: the stream is being removed."""
        with self._room:
            self._closed = True
            self._room.notify_all()
