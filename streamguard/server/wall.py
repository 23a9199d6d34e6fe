"""``/preview?stream=a&stream=b``: pictures of many streams over one connection.

A browser opens six connections to a server at most, and a wall has 64 tiles. So one answer of multipart/x-mixed-replace
(RFC 2046, 5.1) carries the pictures of all that can be seen, each part with the stream's name in ``X-Stream``. What all
of them together cost is bounded: the more streams, the fewer pictures a second of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from aiohttp import web

from streamguard.delivery.broadcast import Broadcast
from streamguard.errors import StreamUnknown
from streamguard.pipeline import Guard
from streamguard.server.problems import Problem

PATH: Final = "/preview"
MOST: Final = 64
"""Streams of one wall."""

WALLS: Final = 16
"""Walls at once; more are asked to come again."""

PICTURES: Final = 48.0
"""A second, of all streams of one wall together."""

HEIGHTS: Final = (120, 720)
_FASTEST: Final = 12.0  # pictures a second of one stream
_QUALITY: Final = 70
_LOOK: Final = 2.0  # seconds from one look at whether anybody is still there to the next
_BOUNDARY: Final = "picture"

Refused = Callable[[str], None]


class Wall:
    """The handler. ``patience``: seconds that a client may take nothing before it is let go."""

    def __init__(self, guard: Callable[[], Guard | None], patience: float, refused: Refused) -> None:
        self._guard = guard
        self._patience = patience
        self._refused = refused
        self._walls = 0

    def attach(self, app: web.Application) -> None:
        """Add the route."""
        app.router.add_get(PATH, self._show)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        height = _height(request)
        broadcasts = self._broadcasts(_names(request))
        if self._walls >= WALLS:
            self._refused("walls")
            raise Problem(503, "walls", "too many walls of pictures are watched", {"Retry-After": "10"})
        answer = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"})
        self._walls += 1
        try:
            await answer.prepare(request)
            await self._send(request, answer, broadcasts, height)
        except* TimeoutError:
            self._refused("slow reader")
            if request.transport is not None:
                request.transport.abort()
        except* ConnectionError:
            pass  # it left
        finally:
            self._walls -= 1
        return answer

    def _broadcasts(self, names: Sequence[str]) -> list[Broadcast]:
        """Those that are there: a stream may have gone since the page heard of it."""
        guard = self._guard()
        if guard is None:
            raise Problem(503, "not-ready", "the engines are not loaded yet", {"Retry-After": "5"})
        watched = {stream.source.name for stream in guard.streams()}
        found = []
        for name in names:
            try:
                if name in watched:
                    found.append(guard.broadcast(name))
            except StreamUnknown:  # gone in between
                continue
        if not found:
            raise Problem(404, "no-stream", "none of these streams is being watched")
        return found

    async def _send(
        self, request: web.Request, answer: web.StreamResponse, broadcasts: Sequence[Broadcast], height: int
    ) -> None:
        """Until all streams are gone, or the client is."""
        turn = asyncio.Lock()
        every = 1 / min(_FASTEST, PICTURES / len(broadcasts))

        async def show(broadcast: Broadcast) -> None:
            clock = asyncio.get_running_loop().time
            while True:
                began = clock()
                try:
                    jpeg = await broadcast.still(height, _QUALITY)
                except StopAsyncIteration:
                    return
                async with turn, asyncio.timeout(self._patience):
                    await answer.write(_part(broadcast.stream, jpeg))
                await asyncio.sleep(max(0.0, began + every - clock()))

        async with asyncio.TaskGroup() as group:
            showing = [group.create_task(show(broadcast)) for broadcast in broadcasts]
            while not all(task.done() for task in showing):
                await asyncio.wait(showing, timeout=_LOOK)
                if request.transport is None or request.transport.is_closing():
                    raise ConnectionResetError


def _part(stream: str, jpeg: bytes) -> bytes:
    head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Stream: {stream}\r\n\r\n"
    return head.encode() + jpeg + b"\r\n"


def _names(request: web.Request) -> Sequence[str]:
    names = list(dict.fromkeys(request.query.getall("stream", [])))
    if not 1 <= len(names) <= MOST or request.query.keys() - {"stream", "height"}:
        raise Problem(400, "query", f"expected 1 to {MOST} times stream, and height")
    return names


def _height(request: web.Request) -> int:
    text = request.query.get("height", "180")
    least, most = HEIGHTS
    if not (text.isascii() and text.isdigit() and len(text) < 5 and least <= int(text) <= most):
        raise Problem(400, "query", f"height: expected a whole number of {least} to {most}")
    return int(text)
