"""A TCP proxy between a client and a server, which a test cuts, silences or makes swallow the answers.

>>> with Proxy(1) as proxy:
...     proxy.cut()
...     proxy.open()
"""

from __future__ import annotations

import asyncio
import enum
import socket
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, Self

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Door = Callable[[Ends, Ends], Awaitable[None]]


class Mode(enum.Enum):
    """What becomes of bytes."""

    OPEN = "they pass"
    CUT = "connections are reset, new ones refused"
    SILENT = "connections are taken, and nothing passes either way"
    DEAF = "what the client says passes, the answers do not"


class Proxy:
    """Listens on ``port`` (0: any) of 127.0.0.1, forwards to ``target`` there; a thread with a loop of its own.

    ``told``: bytes in the server's answers, and what a client gets in their place, of the same length: a server that
    tells clients its own address would lead them past the proxy. ``tls``: clients come by TLS, which ends here.
    ``door``: what is said first on each connection, before bytes pass; it gets both ends, and raises an OSError to
    refuse.
    """

    def __init__(
        self,
        target: int,
        port: int = 0,
        told: tuple[bytes, bytes] = (b"", b""),
        tls: ssl.SSLContext | None = None,
        door: Door | None = None,
    ) -> None:
        self.port = port
        self._target = target
        self._told = told
        self._tls = tls
        self._door = door
        self._mode = Mode.OPEN
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")

    def cut(self) -> None:
        """Reset every connection; nobody listens any more."""
        self._call(self._change(Mode.CUT))

    def silence(self) -> None:
        """Connections stay, and are taken, but nothing passes."""
        self._call(self._change(Mode.SILENT))

    def deafen(self) -> None:
        """The server hears; its answers are thrown away."""
        self._call(self._change(Mode.DEAF))

    def open(self) -> None:
        """All passes again. What was silenced or swallowed meanwhile is gone, with its connections."""
        self._call(self._change(Mode.OPEN))

    async def _change(self, mode: Mode) -> None:
        if mode in (Mode.CUT, Mode.OPEN):
            for writer in list(self._writers):
                _reset(writer)
        if mode is Mode.CUT and self._server is not None:
            self._server.close()
            self._server = None
        self._mode = mode
        if mode is not Mode.CUT and self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        far: asyncio.StreamWriter | None = None
        try:
            answers, far = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(far)
            if self._door is not None and not await self._opened((reader, writer), (answers, far)):
                return
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far, asking=True))
                group.create_task(self._pump(answers, writer, asking=False))
        except (OSError, ExceptionGroup):
            pass
        finally:
            self._tasks.discard(task)
            for one in (writer, far):
                if one is not None:
                    self._writers.discard(one)
                    _reset(one)

    async def _opened(self, near: Ends, far: Ends) -> bool:
        """Whether the door lets somebody in; who is not gets its last word."""
        assert self._door is not None
        try:
            await self._door(near, far)
        except OSError:
            near[1].close()
            await near[1].wait_closed()
            return False
        return True

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, asking: bool) -> None:
        while data := await source.read(65536):
            if self._mode is Mode.OPEN or (self._mode is Mode.DEAF and asking):
                target.write(data if asking or not self._told[0] else data.replace(*self._told))
                await target.drain()
        raise ConnectionResetError  # the other direction ends as well

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def __enter__(self) -> Self:
        self._thread.start()
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self._call(self._change(Mode.CUT))
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*self._tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a goodbye: the other end gets a reset, as from a machine that has gone."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None:  # a TLS connection that is closed has none
        with suppress(OSError):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
