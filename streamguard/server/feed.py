"""The newest events, for whoever listens: a bounded ring that each listener reads at its own pace.

There is no queue a listener: whoever falls behind the ring has missed something, and is told how much.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from streamguard.delivery.events import Event

BOUND: Final = 1000
"""Events that are kept; a listener further behind than that has lost some."""


class Numbered(NamedTuple):
    """An event with its place in the feed, from 1 on."""

    number: int
    event: Event


class Missed(NamedTuple):
    """What a listener gets: how many events were gone before it came for them (None: not known), then the rest."""

    missed: int | None
    events: Sequence[Numbered]


class EventFeed:
    """Events in the order of :meth:`take`. Taken in any thread; listened to in one event loop.

    ``run`` sets the numbers of this feed apart from those of an earlier process.
    """

    def __init__(self, bound: int = BOUND, run: str | None = None) -> None:
        self.run = run or secrets.token_hex(4)
        self._ring: deque[Numbered] = deque(maxlen=bound)
        self._last = 0
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: asyncio.Event | None = None
        self._told = False  # a wake-up is on its way into the loop
        self._over = False

    @property
    def last(self) -> int:
        """The number of the newest event, 0 before the first."""
        return self._last

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept; of the next one, where none is."""
        with self._lock:
            return self._ring[0].number if self._ring else self._last + 1

    def take(self, event: Event) -> None:
        """Accept an event, from any thread, without waiting."""
        with self._lock:
            self._last += 1
            self._ring.append(Numbered(self._last, event))
            self._wake()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on listeners in that loop are woken."""
        with self._lock:
            self._loop, self._news, self._over = loop, asyncio.Event(), False

    def detach(self) -> None:
        """The loop is about to end: listeners get no more. To be called in it."""
        with self._lock:
            self._over, self._loop = True, None
        self._rouse()

    def after(self, number: int) -> Missed:
        """Events behind ``number``, those that are still there."""
        with self._lock:
            found = [entry for entry in self._ring if entry.number > number]
            first = self._ring[0].number if self._ring else self._last + 1
        return Missed(max(0, first - number - 1), found)

    async def wait(self, number: int, timeout: float) -> bool:
        """Until there is an event behind ``number``, for at most ``timeout`` seconds. False: the feed has ended."""
        try:
            async with asyncio.timeout(timeout):
                while self._last <= number and not self._over:
                    assert self._news is not None, "not attached to a loop"
                    await self._news.wait()
        except TimeoutError:
            pass
        return not self._over

    def place(self, text: str) -> int | None:
        """The number in an id of :meth:`name`; None if it is of another run, or none at all."""
        run, dot, number = text.partition(".")
        known = run == self.run and dot and number.isascii() and number.isdigit() and len(number) < 16
        return min(int(number), self._last) if known else None

    def name(self, number: int) -> str:
        """The id under which an event goes out, for ``Last-Event-ID``."""
        return f"{self.run}.{number}"

    def _wake(self) -> None:
        if self._loop is not None and not self._told:
            self._told = True
            self._loop.call_soon_threadsafe(self._rouse)

    def _rouse(self) -> None:
        """In the loop: wake everybody who waits now."""
        with self._lock:
            self._told = False
        if self._news is not None:
            self._news.set()
            self._news = asyncio.Event()
