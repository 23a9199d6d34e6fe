"""Streams that come and go through the API: what may be added, and how it is led out.

Everything here runs in the server's loop; the Guard, whose ``add`` and ``remove`` may wait, is reached in one thread,
one change after the other.
"""

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar, cast

from streamguard.access import ApiSettings
from streamguard.config import proxies_bypassed
from streamguard.decision.calibration import OperatingPoint, by_hand
from streamguard.errors import SourceRefused, UsageError
from streamguard.ingest.allowed import SourceRules, Target
from streamguard.ingest.container import FileSource
from streamguard.ingest.egress import Exit, open_http, open_rtsp, through
from streamguard.ingest.network import LiveSource, public
from streamguard.ingest.source import Source, SourceOptions, open_source
from streamguard.pipeline import Guard, WatchedStream
from streamguard.server.problems import Problem

_T = TypeVar("_T")
_WAITING: Final = 16  # changes that may wait for their turn; more are asked to come again


@dataclass(frozen=True, slots=True)
class NewStream:
    """What is asked for. ``uri`` may hold a password: it is not to be shown."""

    name: str
    uri: str = field(repr=False)


class StreamDesk:
    """Adds, removes and renames streams of a running Guard. ``guard`` gives None until the engines are loaded."""

    def __init__(
        self, settings: ApiSettings, guard: Callable[[], Guard | None], rules: SourceRules | None = None
    ) -> None:
        self._most = settings.most_streams
        self._rules = rules or SourceRules(settings.allow_sources)
        self._guard = guard
        self._exits: dict[str, Exit] = {}
        self._brought: set[Source] = set()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streams")

    def streams(self) -> Sequence[WatchedStream]:
        """All streams as they stand; none until the engines are loaded."""
        guard = self._guard()
        return () if guard is None else guard.streams()

    def stream(self, name: str) -> WatchedStream:
        """One stream.

        Raises:
            Problem: there is none of that name.
        """
        for stream in self.streams():
            if stream.source.name == name:
                return stream
        raise Problem(404, "no-stream", f"no stream '{name}' is being watched")

    async def add(self, wanted: NewStream) -> WatchedStream:
        """Watch a source from now on.

        Raises:
            Problem: the name is taken, the source is not allowed, or there are too many.
        """
        async with self._change() as guard:
            self._room(wanted.name)
            source, way = await self._source(wanted)
            try:
                await self._add(guard, source)
            except Problem:
                if way is not None:
                    way.close()
                raise
            if way is not None:
                self._exits[wanted.name] = way
            return self._snapshot(guard, source)

    async def bring(self, source: Source) -> None:
        """Watch a source that is at hand: what a peer sends.

        Raises:
            Problem: its name is taken, or there are too many.
        """
        async with self._change() as guard:
            self._room(source.name)
            await self._add(guard, source)
            self._brought.add(source)

    async def drop(self, source: Source) -> None:
        """Stop watching what was brought, if it is watched still."""
        async with self._turn:
            guard = self._guard()
            if guard is not None and self.watches(source):
                await self._run(guard.remove, source.name)
            self._brought.discard(source)

    def watches(self, source: Source) -> bool:
        """Whether this very source is being watched."""
        return any(stream.source is source for stream in self.streams())

    async def remove(self, name: str) -> None:
        """Stop watching a stream; returns when its name is free.

        Raises:
            Problem: there is none of that name.
        """
        async with self._change() as guard:
            self.stream(name)
            await self._run(guard.remove, name)
            self._sweep()

    def points(self) -> tuple[OperatingPoint, Sequence[OperatingPoint]]:
        """The operating point that streams begin with, and all there are.

        Raises:
            Problem: the engines are not loaded yet.
        """
        guard = self._loaded()
        return guard.point, guard.points

    def point(self, wanted: str | float) -> OperatingPoint:
        """The operating point of that name; one set by hand for a threshold, 0..1.

        Raises:
            Problem: there is none of that name, or the engines are not loaded yet.
        """
        guard = self._loaded()
        if isinstance(wanted, float):
            return by_hand(math.log(wanted / (1 - wanted)), guard.point)
        for point in guard.points:
            if point.name == wanted:
                return point
        known = ", ".join(f"'{point.name}'" for point in guard.points)
        raise Problem(422, "operating-point", f"there is no operating point '{wanted}'; there are {known}")

    async def retune(self, name: str, point: OperatingPoint) -> WatchedStream:
        """Hold a stream against another operating point; its open segments close.

        Raises:
            Problem: there is no stream of that name.
        """
        async with self._change() as guard:
            source = self.stream(name).source
            guard.retune(name, point)
            return self._snapshot(guard, source)

    async def rename(self, name: str, new: str) -> WatchedStream:
        """Watch a stream under another name: its tracks end, a file begins anew.

        Raises:
            Problem: there is none of that name, or the new one is taken.
        """
        async with self._change() as guard:
            stream = self.stream(name)
            source = stream.source
            if source in self._brought:
                raise Problem(409, "sent", f"stream '{name}' is named by who sends it")
            if new != name:
                self._free(new)
                await self._run(guard.remove, name)
                renamed = _named(source, new)
                way = self._exits.pop(name, None)
                if way is not None:
                    self._exits[new] = way
                await self._add(guard, renamed, stream.point)
                source = renamed
            return self._snapshot(guard, source)

    def close(self) -> None:
        """End every way out. What is under way in the thread is not waited for."""
        for way in self._exits.values():
            way.close()
        self._exits.clear()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[Guard]:
        """One change at a time."""
        if self._waiting >= _WAITING:
            raise Problem(503, "busy", "too many changes are waiting; come again", {"Retry-After": "5"})
        self._waiting += 1
        try:
            async with self._turn:
                guard = self._loaded()
                self._sweep()
                yield guard
        finally:
            self._waiting -= 1

    def _loaded(self) -> Guard:
        guard = self._guard()
        if guard is None or not guard.ready:
            raise Problem(503, "not-ready", "the engines are not loaded yet", {"Retry-After": "5"})
        return guard

    def _room(self, name: str) -> None:
        self._free(name)
        if len(self.streams()) >= self._most:
            raise Problem(409, "too-many", f"{self._most} streams are watched, the most that api.most_streams allows")

    def _free(self, name: str) -> None:
        if any(stream.source.name == name for stream in self.streams()):
            raise Problem(409, "name-taken", f"a stream '{name}' is being watched already")

    def _sweep(self) -> None:
        """Close the ways out of streams that have ended."""
        watched = {stream.source.name for stream in self.streams()}
        for name in self._exits.keys() - watched:
            self._exits.pop(name).close()

    async def _source(self, wanted: NewStream) -> tuple[Source, Exit | None]:
        try:
            scheme = self._rules.scheme(wanted.uri)
            if scheme == "demo":
                return open_source(wanted.uri, name=wanted.name), None
            if scheme == "file":
                path = await asyncio.to_thread(self._rules.file, wanted.uri)
                return FileSource(path, name=wanted.name, options=SourceOptions(confined=True)), None
            target = await asyncio.to_thread(self._rules.target, wanted.uri)
            if scheme == "rtsp":
                return await self._rtsp(wanted, target)
            return await self._http(wanted)
        except SourceRefused as refused:
            raise Problem(403, "source-not-allowed", str(refused)) from None

    async def _rtsp(self, wanted: NewStream, target: Target) -> tuple[Source, Exit]:
        way = await open_rtsp(wanted.name, target)
        source = LiveSource(through(way, wanted.uri), name=wanted.name)
        source.uri = public(wanted.uri)  # what people know it by
        return source, way

    async def _http(self, wanted: NewStream) -> tuple[Source, Exit]:
        if proxies_bypassed():
            raise Problem(
                503, "no-proxy", "the environment variable no_proxy would lead FFmpeg round the checks. Unset it."
            )
        way = await open_http(wanted.name, self._rules)
        options = SourceOptions(proxy=f"http://127.0.0.1:{way.port}")
        return open_source(wanted.uri, name=wanted.name, options=options), way

    async def _add(self, guard: Guard, source: Source, point: OperatingPoint | None = None) -> None:
        try:
            await self._run(lambda added: guard.add(added, point), source)
        except UsageError as refused:  # the name was taken meanwhile, by a reload of the configuration
            raise Problem(409, "name-taken", str(refused)) from None

    async def _run(self, call: Callable[[_T], None], argument: _T) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, call, argument)

    @staticmethod
    def _snapshot(guard: Guard, source: Source) -> WatchedStream:
        for stream in guard.streams():
            if stream.source is source:
                return stream
        raise Problem(409, "ended", f"stream '{source.name}' has ended already")


def _named(source: Source, name: str) -> Source:
    """The same source under another name."""
    twin: Any = copy.copy(source)
    twin.name = name
    return cast(Source, twin)
