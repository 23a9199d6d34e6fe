"""Events, and sinks driven as their dispatcher drives them, for the tests of this folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from streamguard.delivery.events import Event, EventContext, EventFactory, TrackRef
from streamguard.delivery.events import Timeline as EventTimeline
from streamguard.delivery.sinks import Sink, SinkError
from streamguard.frames import State

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that a condition may take on a busy machine."""


def made_events(count: int, streams: Sequence[str] = ("door", "cam.2"), run: str = "r1") -> list[Event]:
    """``count`` events of tracks' states, the streams in turn; each valid by the schema."""
    factory = EventFactory(EventContext("studio", run, "default", 0.0, ()))
    timeline = EventTimeline("file", lambda pts: 1_790_000_000 + pts)
    return [
        factory.track_state(TrackRef(streams[n % len(streams)], 1, 1), State.CLEAR, n / 25, timeline, logit=-1.0)
        for n in range(count)
    ]


def names(events: Sequence[Event]) -> list[str]:
    """Identities."""
    return [f"{event['source']}/{event['id']}" for event in events]


def first_seen(identities: Sequence[str]) -> list[str]:
    """Without what came a second time."""
    return list(dict.fromkeys(identities))


def by_stream(identities: Sequence[str]) -> dict[str, list[str]]:
    """Identities of each stream, in order, doubles left out."""
    found: dict[str, list[str]] = {}
    for name in first_seen(identities):
        found.setdefault(name.split("/")[3], []).append(name)
    return found


async def delivered(sink: Sink, events: Sequence[Event], tries: int = 200) -> int:
    """Deliver in batches until all is acknowledged, as the dispatcher does; how many tries failed."""
    failures, at, opened = 0, 0, False
    while at < len(events):
        batch = events[at : at + sink.batch]
        try:
            if not opened:
                await sink.open()
                opened = True
            await sink.deliver(batch)
        except SinkError:
            failures += 1
            assert failures < tries, "it never came back"
            await sink.close()
            opened = False
            await asyncio.sleep(0.1)
        else:
            at += len(batch)
    return failures


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():
            await asyncio.sleep(0.05)


def run(main: Callable[[], Awaitable[T]]) -> T:
    """Run a test's coroutine in a loop of its own; a task that is left over fails the test."""

    async def whole() -> T:
        result = await main()
        for _ in range(50):
            left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            if not left:
                break
            await asyncio.sleep(0.1)
        assert not left, f"left running: {left}"
        return result

    return asyncio.run(whole())
