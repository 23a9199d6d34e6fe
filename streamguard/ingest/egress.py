"""The way out for sources that somebody else named: a door on the loopback that leads to judged addresses alone.

FFmpeg resolves names itself, and follows what a server answers. So it is not given the server's address but that of an
:class:`Exit`, a listener of this process that connects to where :class:`~streamguard.ingest.allowed.SourceRules` said:

* RTSP: the URL is rewritten to the exit. Answers that would send FFmpeg elsewhere (3xx, RFC 2326, 11.3) end the
  connection; media travel inside it (TCP), so no other address is ever spoken to.
* HTTP and HTTPS: the exit is FFmpeg's proxy. Every request is judged, those of redirects and of playlists too, and each
  name is resolved once for as long as the source is watched. HTTPS is tunnelled (RFC 9110, 9.3.6): it stays end to end.

Everything runs in the caller's event loop. What is held back or refused is logged once an exit.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Coroutine
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from streamguard.errors import SourceRefused
from streamguard.ingest.allowed import SourceRules, Target

log = logging.getLogger(__name__)

_CHUNK: Final = 65_536
_LONGEST_HEAD: Final = 32_768
_PATIENCE: Final = 10.0  # seconds for a request's head, and for a connection
_MOST: Final = 16  # connections of one source at once; HLS has two or three
_ANSWER: Final = re.compile(rb"RTSP/1\.\d (\d{3})(?: [^\r\n]*)?")
_REQUEST: Final = re.compile(rb"(OPTIONS|GET_PARAMETER|SET_PARAMETER|ANNOUNCE) \S+ RTSP/1\.\d")
_LENGTH: Final = re.compile(rb"Content-Length: *(\d{1,9})", re.IGNORECASE)
_ASKED: Final = re.compile(rb"(GET|HEAD|CONNECT) ([\x21-\x7e]+) HTTP/1\.[01]")
_LEAST_MEDIA: Final = 8  # bytes: the smallest RTCP packet


class Diverted(Exception):
    """A server's answer that is not let through, with why."""


class Filter(Protocol):
    """What stands between a server and FFmpeg."""

    def feed(self, data: bytes) -> bytes:
        """What of the stream may go on.

        Raises:
            Diverted: the connection is to end.
        """


class RtspFilter:
    """Lets an RTSP server's side of a connection through, message by message, but nothing that leads elsewhere.

    What is not written as RFC 2326 has it ends the connection: where two readers could differ, nothing passes.

    >>> RtspFilter().feed(b"RTSP/1.0 200 OK\\r\\nCSeq: 1\\r\\n\\r\\n")
    b'RTSP/1.0 200 OK\\r\\nCSeq: 1\\r\\n\\r\\n'
    """

    def __init__(self) -> None:
        self._held = bytearray()
        self._body = 0  # bytes of a message under way that may simply pass

    def feed(self, data: bytes) -> bytes:
        self._held += data
        passed = bytearray()
        while self._held:
            if self._body:
                passed += self._held[: self._body]
                taken = min(self._body, len(self._held))
                del self._held[:taken]
                self._body -= taken
            elif not self._next(passed):
                break
        return bytes(passed)

    def _next(self, passed: bytearray) -> bool:
        """Judge the beginning of a message; False while too little of it is there."""
        if self._held[0] == 0x24:  # $: media between the messages (RFC 2326, 10.12)
            if len(self._held) < 4:
                return False
            self._body = 4 + int.from_bytes(self._held[2:4], "big")
            if self._body < 4 + _LEAST_MEDIA:
                raise Diverted("media too short to be any")
            return True
        end = self._held.find(b"\r\n\r\n")
        if end < 0:
            if len(self._held) > _LONGEST_HEAD:
                raise Diverted("an answer without an end")
            return False
        self._body = end + 4 + _judged(bytes(self._held[:end]))
        return True


def _judged(head: bytes) -> int:
    """The length of the body behind a head that may pass."""
    first, *lines = head.split(b"\r\n")
    answer = _ANSWER.fullmatch(first)
    if answer is None and _REQUEST.fullmatch(first) is None:
        raise Diverted("what is no RTSP answer")
    if answer is not None and answer[1].startswith(b"3"):
        raise Diverted(f"a redirection (status {answer[1].decode()})")
    lengths = [line for line in lines if line.lower().lstrip().startswith(b"content-length")]
    if any(b"\n" in line or b"\r" in line or b"\0" in line or line[:1] in b"$ \t" for line in (first, *lines)):
        raise Diverted("a line that is not written as RTSP has it")
    if not lengths:
        return 0
    length = _LENGTH.fullmatch(lengths[0].rstrip())
    if len(lengths) > 1 or length is None:
        raise Diverted("a length that can be read in two ways")
    return int(length[1])


class Exit:
    """One source's way out. Made by :func:`open_rtsp` or :func:`open_http`; :meth:`close` it with the source."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._complained: set[str] = set()
        self.refused = 0
        self.port = 0

    async def listen(self) -> None:
        """Begin: from now on connections to ``port`` of the loopback are led out."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_LONGEST_HEAD)
        self.port = int(self._server.sockets[0].getsockname()[1])

    def close(self) -> None:
        """End it, with what is under way; in the thread of its loop."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if len(self._open) <= _MOST:
                await self._lead(reader, writer)
        except (SourceRefused, Diverted) as refused:
            self._complain(str(refused))
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # either side left, or never came: FFmpeg sees its connection end, and says so
        finally:
            self._open.discard(writer)
            await _end(writer)

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise NotImplementedError

    def _complain(self, why: str) -> None:
        self.refused += 1
        if why not in self._complained and len(self._complained) < _MOST:
            self._complained.add(why)
            log.warning("stream '%s': refused: %s", self._what, why)


class RtspExit(Exit):
    """Leads every connection to one address."""

    def __init__(self, what: str, target: Target) -> None:
        super().__init__(what)
        self._target = target

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await _connect(self._target)
        try:
            await _both(_pump(reader, away), _pump(there, writer, RtspFilter()))
        finally:
            await _end(away)


class HttpExit(Exit):
    """An HTTP proxy for one source: one request a connection, each name resolved once."""

    def __init__(self, what: str, rules: SourceRules) -> None:
        super().__init__(what)
        self._rules = rules
        self._pins: dict[tuple[str, int], Target] = {}

    async def _lead(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_PATIENCE):
            head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        asked = _ASKED.fullmatch(first)
        if asked is None:
            raise SourceRefused("a request that is none.")
        try:
            if asked[1] == b"CONNECT":
                await self._tunnel(asked[2].decode(), reader, writer)
            else:
                await self._fetch(asked[1], asked[2].decode(), lines, writer)
        except SourceRefused:
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            raise

    async def _tunnel(self, authority: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, away = await _connect(await self._pin("https", f"//{authority}"))
        try:
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            await _both(_pump(reader, away), _pump(there, writer))
        finally:
            await _end(away)

    async def _fetch(self, method: bytes, url: str, lines: list[bytes], writer: asyncio.StreamWriter) -> None:
        if not url.lower().startswith("http://"):
            raise SourceRefused("a request for what is no http:// address.")
        there, away = await _connect(await self._pin("http", url[5:]))
        try:
            parts = urlsplit(url)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            kept = [line for line in lines if not line.lower().startswith((b"connection:", b"proxy-"))]
            away.write(
                b"\r\n".join([method + b" " + path.encode() + b" HTTP/1.1", *kept, b"Connection: close", b"", b""])
            )
            await _pump(there, writer)
        finally:
            await _end(away)

    async def _pin(self, scheme: str, authority: str) -> Target:
        """Where a request leads, by the first answer that its name ever gave."""
        if not self._rules.allows(scheme):
            raise SourceRefused(f"the scheme '{scheme}' is not allowed here. Name it in api.allow_sources.schemes.")
        try:
            parts = urlsplit(authority)
            host, port = parts.hostname or "", parts.port or (443 if scheme == "https" else 80)
        except ValueError:
            raise SourceRefused("a request for an address that is none.") from None
        if (host, port) not in self._pins:
            if len(self._pins) >= _MOST:
                raise SourceRefused(f"more than {_MOST} hosts in one source.")
            self._pins[(host, port)] = await asyncio.to_thread(self._rules.pin, host, port)
        return self._pins[(host, port)]


async def open_rtsp(what: str, target: Target) -> RtspExit:
    """An exit that leads to ``target``; ``what`` is the stream's name."""
    made = RtspExit(what, target)
    await made.listen()
    return made


async def open_http(what: str, rules: SourceRules) -> HttpExit:
    """An exit that is an HTTP proxy under ``rules``; ``what`` is the stream's name."""
    made = HttpExit(what, rules)
    await made.listen()
    return made


def through(exit_: RtspExit, uri: str) -> str:
    """An ``rtsp://`` URI, rewritten so that it leads through the exit; user name and password stay in it."""
    parts = urlsplit(uri)
    login, at, _host = parts.netloc.rpartition("@")
    return parts._replace(scheme="rtsp", netloc=f"{login}{at}127.0.0.1:{exit_.port}").geturl()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(_PATIENCE):
        return await asyncio.open_connection(target.address, target.port)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, filter_: Filter | None = None) -> None:
    """Until the reader's side ends; no more is held than what is under way."""
    while data := await reader.read(_CHUNK):
        writer.write(data if filter_ is None else filter_.feed(data))
        await writer.drain()


async def _both(*pumps: Coroutine[Any, Any, None]) -> None:
    """Run both directions until one of them ends."""
    tasks = [asyncio.create_task(pump) for pump in pumps]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        await writer.wait_closed()
