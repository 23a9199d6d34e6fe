"""What one viewer of a broadcast has in hand: encoded pictures and sound, bounded, the newest win.

:class:`Backlog` is the policy, pure. :class:`Viewing` is the lock round it, with one face for event loops and one for
threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, Final

import av

from streamguard.media import MediaFormat, MediaPacket

_SOUNDS: Final = 8  # packets of sound that may wait for each picture that may


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """One picture: H.264 in Annex B. All viewers share ``packet``, so it is to be read alone.

    ``pts``: seconds of the broadcast's own time, which rises through every session of its stream. ``key``: decoding
    can begin here; the parameter sets are in the packet. ``size``: width and height.
    """

    packet: av.Packet[Any]
    pts: float
    key: bool
    size: tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """One packet of sound, as it came. ``pts`` as the pictures have it; ``format`` says what a muxer must know."""

    packet: MediaPacket
    pts: float
    format: MediaFormat


class Backlog:
    """Pictures that wait for a viewer, at most ``most``, from a key frame on, with the sound between them.

    A viewer that is too slow loses whole groups: what lies before the newest key frame goes first; where there is
    none, everything goes, and pictures are left out until the next one.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._items: deque[Encoded | Heard] = deque()
        self._pictures = 0
        self._blind = True  # nothing can be decoded before the next key frame

    def __len__(self) -> int:
        """Pictures that wait."""
        return self._pictures

    @property
    def empty(self) -> bool:
        """Nothing waits, neither pictures nor sound."""
        return not self._items

    @property
    def blind(self) -> bool:
        """The viewer waits for a key frame."""
        return self._blind

    def offer(self, item: Encoded | Heard) -> int:
        """Put something in. Returns how many pictures were given up for it; those before the first are none."""
        if isinstance(item, Heard):
            if not self._blind and len(self._items) - self._pictures < _SOUNDS * self.most:
                self._items.append(item)
            return 0
        if self._blind and not item.key:
            return 0
        lost = 0
        if self._pictures >= self.most:
            lost = self._make_room(item)
            if self._blind and not item.key:
                return lost + 1
        self._blind = False
        self._items.append(item)
        self._pictures += 1
        return lost

    def take(self) -> Encoded | Heard | None:
        """What has waited longest, or None."""
        if not self._items:
            return None
        item = self._items.popleft()
        self._pictures -= isinstance(item, Encoded)
        return item

    def _make_room(self, item: Encoded) -> int:
        keys = [at for at, held in enumerate(self._items) if isinstance(held, Encoded) and held.key]
        before = self._pictures
        if item.key or not keys or keys[-1] == 0:
            self._items.clear()
            self._pictures = 0
            self._blind = True
            return before
        for _ in range(keys[-1]):
            self.take()
        return before - self._pictures


class Viewing:
    """One viewer's place at a broadcast: iterate it in an event loop, or :meth:`take` in a thread.

    It begins at a key frame that is made for it. ``lost`` is told how many pictures were given up, ``left`` that it
    is closed, ``ask`` that it wants a key frame.
    """

    def __init__(
        self,
        most: int,
        *,
        sound: bool = False,
        lost: Callable[[int], None] = lambda pictures: None,
        left: Callable[[Viewing], None] = lambda viewing: None,
        ask: Callable[[], None] = lambda: None,
    ) -> None:
        self.sound = sound
        self._backlog = Backlog(most)
        self._lost = lost
        self._left = left
        self._ask = ask
        self._changed = threading.Condition()
        self._over = False
        self._waiter: asyncio.Future[None] | None = None

    # The viewer's side.

    @property
    def over(self) -> bool:
        """Nothing follows what waits: the stream is gone, or the viewing was closed."""
        return self._over

    async def next(self) -> Encoded:
        """The next picture.

        Raises:
            StopAsyncIteration: the stream is gone, or the viewing was closed.
        """
        loop = asyncio.get_running_loop()
        while True:
            with self._changed:
                item = self._backlog.take()
                if item is None:
                    if self._over:
                        raise StopAsyncIteration
                    waiter = self._waiter = loop.create_future()
            if isinstance(item, Encoded):
                return item
            if item is None:
                await waiter

    def __aiter__(self) -> AsyncIterator[Encoded]:
        return self

    async def __anext__(self) -> Encoded:
        return await self.next()

    def take(self, timeout: float) -> Encoded | Heard | None:
        """The next picture or packet of sound; None if none comes within ``timeout`` seconds, or :attr:`over`."""
        with self._changed:
            self._changed.wait_for(lambda: self._over or not self._backlog.empty, timeout)
            return self._backlog.take()

    def refresh(self) -> None:
        """Ask for a key frame: something was lost on the way to the screen. Not more than a few a second are made."""
        self._ask()

    def close(self) -> None:
        """Leave. What waits is forgotten."""
        self.end()
        with self._changed:
            while self._backlog.take() is not None:
                pass
        self._left(self)

    # The broadcast's side.

    def put(self, item: Encoded | Heard) -> None:
        """Hand something over, from the broadcast's thread or the decoder's; never waits."""
        if isinstance(item, Heard) and not self.sound:
            return
        with self._changed:
            lost = 0 if self._over else self._backlog.offer(item)
            self._wake()
        if lost:
            self._lost(lost)

    @property
    def blind(self) -> bool:
        """It waits for a key frame."""
        return self._backlog.blind

    def end(self) -> None:
        """Nothing follows what waits."""
        with self._changed:
            self._over = True
            self._wake()

    def _wake(self) -> None:
        self._changed.notify_all()
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            with contextlib.suppress(RuntimeError):  # its loop has ended, and nobody waits any more
                waiter.get_loop().call_soon_threadsafe(_done, waiter)


def _done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
