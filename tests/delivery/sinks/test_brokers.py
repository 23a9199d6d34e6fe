"""What every broker's sink promises, against the real server: all arrives, in order per stream, doubles by id alone."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import Sink, SinkError
from tests.brokers import Broker
from tests.delivery.sinks.made import by_stream, delivered, made_events, names, run, until
from tests.delivery.sinks.rigs import RIGS, Rig, Seen
from tests.rtsp_server import free_port
from tests.servers.proxy import Proxy

pytestmark = pytest.mark.servers

QUICK = 1.0  # seconds; on a busy machine an answer may take longer, and the try is repeated


@dataclass
class Site:
    """A server behind a proxy."""

    rig: Rig
    broker: Broker
    proxy: Proxy


@pytest.fixture(scope="module", params=list(RIGS))
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    rig = RIGS[request.param](tmp_path_factory.mktemp(request.param))
    with rig.broker() as broker, rig.proxy(broker) as proxy:
        yield Site(rig, broker, proxy)


@pytest.fixture(autouse=True)
def open_proxy(site: Site) -> None:
    site.proxy.open()


@pytest.fixture
def mark(request: pytest.FixtureRequest) -> str:
    return request.node.originalname.removeprefix("test_")[:40]


def test_all_arrives_in_order(site: Site, mark: str) -> None:
    events = made_events(130)

    async def main() -> list[str]:
        async with site.rig.reading(site.broker.port, mark) as seen:
            sink = site.rig.sink(site.proxy.port, mark)
            assert await delivered(sink, events) == 0
            await sink.close()
            if site.rig.durable:  # acknowledged is stored: nothing to wait for
                return await seen()
            await until(lambda: has(seen, events))
            return await seen()

    found = run(main)
    assert sorted(found) == sorted(names(events))
    assert by_stream(found) == by_stream(names(events))


async def handed_over(sink: Sink) -> None:
    """One try; a webhook connects with its first event."""
    await sink.open()
    await sink.deliver(made_events(1))


async def has(seen: Seen, events: Sequence[Event]) -> bool:
    return set(await seen()) >= set(names(events))


def test_a_line_that_is_cut_again_and_again(site: Site, mark: str) -> None:
    events = made_events(400)

    async def main() -> list[str]:
        async with site.rig.reading(site.broker.port, mark) as seen:
            sink = site.rig.sink(site.proxy.port, mark, timeout=5.0)
            work = asyncio.create_task(delivered(sink, events))
            for _ in range(3):
                await asyncio.sleep(0.2)
                await asyncio.to_thread(site.proxy.cut)
                await asyncio.sleep(0.3)
                await asyncio.to_thread(site.proxy.open)
            await work
            await sink.close()
            await until(lambda: has(seen, events))
            return await seen()

    found = run(main)
    assert by_stream(found) == by_stream(names(events))


def test_lost_answers_make_doubles_and_nothing_else(site: Site, mark: str) -> None:
    events = made_events(60)

    async def main() -> list[str]:
        async with site.rig.reading(site.broker.port, mark) as seen:
            sink = site.rig.sink(site.proxy.port, mark, timeout=QUICK)
            await delivered(sink, events[:20])
            await asyncio.to_thread(site.proxy.deafen)
            with pytest.raises(SinkError):
                await sink.deliver(events[20:40])
            await asyncio.to_thread(site.proxy.open)
            await sink.close()
            await delivered(sink, events[20:])
            await sink.close()
            await until(lambda: has(seen, events))
            return await seen()

    found = run(main)
    assert by_stream(found) == by_stream(names(events))


def test_a_server_that_takes_connections_and_never_answers(site: Site, mark: str) -> None:
    async def main() -> None:
        sink = site.rig.sink(site.proxy.port, mark, timeout=QUICK)
        await asyncio.to_thread(site.proxy.silence)
        for _ in range(2):
            with pytest.raises(SinkError, match="sink 'far': "):
                await handed_over(sink)
            await sink.close()
        await asyncio.to_thread(site.proxy.open)
        await delivered(sink, made_events(5))
        await asyncio.to_thread(site.proxy.silence)
        with pytest.raises(SinkError, match="sink 'far': "):
            await sink.deliver(made_events(5, run="r2"))
        await sink.close()

    run(main)


def test_nobody_listens(site: Site, mark: str) -> None:
    async def main() -> None:
        sink = site.rig.sink(free_port(), mark, timeout=QUICK)
        for _ in range(2):
            with pytest.raises(SinkError, match="sink 'far': "):
                await handed_over(sink)
            await sink.close()
        with pytest.raises(SinkError, match="is not "):
            await sink.deliver(made_events(1))

    run(main)


def test_the_dispatcher_may_cancel_at_any_moment(site: Site, mark: str) -> None:
    events = made_events(100)

    async def main() -> list[str]:
        async with site.rig.reading(site.broker.port, mark) as seen:
            sink = site.rig.sink(site.proxy.port, mark)
            for pause in (0.0, 0.001, 0.01, 0.05):
                with suppress(TimeoutError, SinkError):
                    async with asyncio.timeout(pause):
                        await sink.open()
                        for _ in range(100):  # asyncio.wait_for of Python 3.11 may swallow a cancellation
                            await sink.deliver(events[:10])
                await sink.close()
            await delivered(sink, events)
            await sink.close()
            await until(lambda: has(seen, events))
            return await seen()

    found = run(main)
    assert by_stream(found) == by_stream(names(events))


def test_a_server_that_is_killed_and_comes_back(site: Site, mark: str) -> None:
    """Last: a test after it would meet a server that has only just come back."""
    if type(site.rig).__name__ == "KafkaRig":
        pytest.skip("this Kafka broker keeps its records in memory")
    events = made_events(200)
    how = signal.SIGKILL if site.rig.durable else signal.SIGTERM

    async def main() -> list[str]:
        async with site.rig.reading(site.broker.port, mark) as seen:
            sink = site.rig.sink(site.proxy.port, mark, timeout=5.0)
            await delivered(sink, events[:50])
            work = asyncio.create_task(delivered(sink, events[50:], tries=1000))
            await asyncio.to_thread(site.broker.stop, how)
            await asyncio.to_thread(site.broker.start)
            await work
            await sink.close()
            await until(lambda: has(seen, events))
            return await seen()

    found = run(main)
    assert by_stream(found) == by_stream(names(events))
