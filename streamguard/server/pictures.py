"""The picture over HTTP, for whoever may read.

=============================== =====================================================================================
``/preview/{stream}``           MJPEG (multipart/x-mixed-replace); ``height`` in pixels, ``rate`` in pictures a second
``/preview/{stream}/still``     the next picture as JPEG; ``height``
``/hls/{stream}/``              HLS: the playlist; header and segments beside it, by the names that it gives
=============================== =====================================================================================

Everything is made while somebody asks, once for all who ask for the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from aiohttp import web

from streamguard.delivery.broadcast import Broadcast
from streamguard.delivery.hls import PLAYLIST, HlsChannel
from streamguard.errors import StreamUnknown
from streamguard.pipeline import Guard
from streamguard.server.problems import Problem

MOST: Final = 64
"""Previews at once; more are asked to come again."""

HEIGHTS: Final = (90, 1080)
RATES: Final = (1, 15)
FIRST: Final = 10.0
"""Seconds that the first picture, or the first segment, may take to come."""

_HEIGHT, _RATE, _QUALITY = 360, 5, 75
_LOOK: Final = 0.1  # seconds from one look at a playlist that is not there yet to the next
_BOUNDARY: Final = "streamguard-picture"
_TYPES: Final = {".m3u8": "application/vnd.apple.mpegurl", ".mp4": "video/mp4", ".m4s": "video/mp4"}


class Pictures:
    """The handlers. ``patience``: seconds that a client may take nothing before it is let go."""

    def __init__(self, guard: Callable[[], Guard | None], patience: float, refused: Callable[[str], None]) -> None:
        self._guard = guard
        self._patience = patience
        self._refused = refused
        self._previews = 0
        self._channels: dict[str, tuple[Broadcast, HlsChannel]] = {}

    def attach(self, app: web.Application) -> None:
        """Add the routes."""
        app.add_routes(
            [
                web.get("/preview/{stream}", self._preview),
                web.get("/preview/{stream}/still", self._still),
                web.get("/hls/{stream}/", self._hls),
                web.get("/hls/{stream}/{file}", self._hls),
            ]
        )
        app.on_shutdown.append(self._end)

    async def _end(self, app: web.Application) -> None:
        for _, channel in self._channels.values():
            channel.stop()

    # Previews.

    async def _still(self, request: web.Request) -> web.Response:
        height = _number(request, "height", _HEIGHT, HEIGHTS, {"height"})
        jpeg = await self._picture(self._broadcast(request), height)
        return web.Response(body=jpeg, content_type="image/jpeg")

    async def _preview(self, request: web.Request) -> web.StreamResponse:
        height = _number(request, "height", _HEIGHT, HEIGHTS, {"height", "rate"})
        rate = _number(request, "rate", _RATE, RATES, {"height", "rate"})
        broadcast = self._broadcast(request)
        if self._previews >= MOST:
            self._refused("previews")
            raise Problem(503, "previews", "too many previews are watched; come again", {"Retry-After": "10"})
        self._previews += 1
        try:
            with broadcast.counted("preview"):
                return await self._show(request, broadcast, height, 1 / rate)
        finally:
            self._previews -= 1

    async def _show(self, request: web.Request, broadcast: Broadcast, height: int, every: float) -> web.StreamResponse:
        """Until the stream is gone, or the client is."""
        clock = asyncio.get_running_loop().time
        began = clock()
        jpeg: bytes | None = await self._picture(broadcast, height)
        answer = web.StreamResponse(headers={"Content-Type": f"multipart/x-mixed-replace; boundary={_BOUNDARY}"})
        try:
            await answer.prepare(request)
            await self._send(answer, f"--{_BOUNDARY}\r\n".encode())
            while not _left(request):
                if jpeg is not None:
                    await self._send(answer, _part(jpeg))
                await asyncio.sleep(max(0.0, began + every - clock()))
                began, jpeg = clock(), await _next(broadcast, height)
        except TimeoutError:
            self._refused("slow reader")
            if request.transport is not None:
                request.transport.abort()
        except (ConnectionError, StopAsyncIteration):
            pass  # it left, or the stream has gone
        return answer

    async def _send(self, answer: web.StreamResponse, data: bytes) -> None:
        async with asyncio.timeout(self._patience):
            await answer.write(data)

    async def _picture(self, broadcast: Broadcast, height: int) -> bytes:
        try:
            jpeg = await _next(broadcast, height)
        except StopAsyncIteration:
            jpeg = None
        if jpeg is None:
            raise _no_picture(broadcast)
        return jpeg

    # HLS.

    async def _hls(self, request: web.Request) -> web.Response:
        broadcast = self._broadcast(request)
        name = request.match_info.get("file", PLAYLIST)
        content = await self._playlist(broadcast) if name == PLAYLIST else self._file(broadcast, name)
        if content is None:
            raise Problem(404, "no-segment-file", f"'{name}' is not there, or not any more; the playlist names what is")
        return web.Response(body=content, content_type=_TYPES[name[name.rindex(".") :]])

    def _file(self, broadcast: Broadcast, name: str) -> bytes | None:
        entry = self._channels.get(broadcast.stream)
        return None if entry is None or entry[0] is not broadcast else entry[1].get(name)

    async def _playlist(self, broadcast: Broadcast) -> bytes:
        """The playlist, once there is a segment in it; the first request starts the channel."""
        channel = self._channel(broadcast)
        deadline = asyncio.get_running_loop().time() + FIRST
        while (content := channel.get(PLAYLIST)) is None:
            if asyncio.get_running_loop().time() > deadline or not channel.running:
                raise _no_picture(broadcast)
            await asyncio.sleep(_LOOK)
        return content

    def _channel(self, broadcast: Broadcast) -> HlsChannel:
        self._channels = {name: entry for name, entry in self._channels.items() if entry[1].running}
        entry = self._channels.get(broadcast.stream)
        if entry is not None and entry[0] is broadcast:
            return entry[1]
        channel = HlsChannel(broadcast)
        channel.start()
        self._channels[broadcast.stream] = (broadcast, channel)
        return channel

    def _broadcast(self, request: web.Request) -> Broadcast:
        guard = self._guard()
        if guard is None:
            raise Problem(503, "not-ready", "the engines are not loaded yet", {"Retry-After": "5"})
        try:
            return guard.broadcast(request.match_info["stream"])
        except StreamUnknown:
            name = request.match_info["stream"]
            raise Problem(404, "no-stream", f"no stream '{name}' is being watched") from None


async def _next(broadcast: Broadcast, height: int) -> bytes | None:
    """The next picture; None if there is none for so long that somebody should see whether the client is there."""
    try:
        async with asyncio.timeout(FIRST):
            return await broadcast.still(height, _QUALITY)
    except TimeoutError:
        return None


def _left(request: web.Request) -> bool:
    return request.transport is None or request.transport.is_closing()


def _no_picture(broadcast: Broadcast) -> Problem:
    detail = f"stream '{broadcast.stream}' gives no picture at the moment"
    return Problem(503, "no-picture", detail, {"Retry-After": "5"})


def _part(jpeg: bytes) -> bytes:
    """A picture with the boundary behind it: a browser shows it when it has seen that."""
    head = f"Content-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
    return head.encode() + jpeg + f"\r\n--{_BOUNDARY}\r\n".encode()


def _number(request: web.Request, name: str, usual: int, within: tuple[int, int], known: set[str]) -> int:
    if request.query.keys() - known or len(set(request.query)) != len(request.query):
        raise Problem(400, "query", f"known here, each once: {', '.join(sorted(known))}")
    text, (least, most) = request.query.get(name, str(usual)), within
    if not (text.isascii() and text.isdigit() and len(text) < 6 and least <= int(text) <= most):
        raise Problem(400, "query", f"{name}: expected a whole number of {least} to {most}")
    return int(text)
