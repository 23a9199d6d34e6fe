"""Redis streams: the fields of an entry, how many stay; a server that refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
import redis.asyncio

from streamguard.delivery.sinks import SinkError
from streamguard.delivery.sinks.redis import RedisSettings
from tests.brokers import Redis, require
from tests.delivery.sinks.made import delivered, made_events, names, run

PASSWORD = "made-up"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "http://a"}, "expected redis://HOST, or rediss://HOST"),
        ({"url": "redis://:hunter2@a"}, "password_file or password_env"),
        ({"url": "redis://a/b"}, "expected redis://HOST:PORT/NUMBER"),
        ({"url": "redis://a/0?password=hunter2"}, "expected redis://HOST:PORT/NUMBER"),
        ({"key": ""}, "key is empty"),
        ({"maxlen": 0}, "maxlen is 0"),
        ({"timeout": 0.0}, "timeout is 0"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        RedisSettings(**{"name": "cache", "type": "redis", "url": "redis://a", **settings})  # type: ignore[arg-type]
    assert "hunter2" not in str(caught.value)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    require(Redis)
    with Redis(tmp_path_factory.mktemp("redis"), PASSWORD) as broker:
        yield broker


def settings(server: Redis, **more: object) -> RedisSettings:
    return RedisSettings("cache", "redis", f"redis://127.0.0.1:{server.port}/1", **more)  # type: ignore[arg-type]


@pytest.mark.servers
def test_the_fields_of_an_entry(server: Redis) -> None:
    events = made_events(3)

    async def main() -> list[dict[bytes, bytes]]:
        sink = settings(server).make({"password": PASSWORD})
        await delivered(sink, events)
        await sink.close()
        async with redis.asyncio.Redis(port=server.port, db=1, password=PASSWORD) as client:
            return [fields for _, fields in await client.xrange("streamguard:events")]

    found = run(main)
    assert [fields[b"id"].decode() for fields in found] == names(events)
    assert [json.loads(fields[b"event"]) for fields in found] == events
    assert [fields[b"stream"] for fields in found] == [b"door", b"cam.2", b"door"]
    assert {fields[b"type"] for fields in found} == {b"streamguard.track.state.v1"}


@pytest.mark.servers
@pytest.mark.parametrize(("maxlen", "fewest", "most"), [(100, 100, 300), (None, 1000, 1000)])
def test_the_oldest_go(server: Redis, maxlen: int | None, fewest: int, most: int) -> None:
    key = f"bounded:{maxlen}"

    async def main() -> int:
        sink = settings(server, key=key, maxlen=maxlen).make({"password": PASSWORD})
        await delivered(sink, made_events(1000))
        await sink.close()
        async with redis.asyncio.Redis(port=server.port, db=1, password=PASSWORD) as client:
            return int(await client.xlen(key))

    assert fewest <= run(main) <= most


@pytest.mark.servers
def test_a_key_of_another_kind_is_said(server: Redis) -> None:
    async def main() -> str:
        async with redis.asyncio.Redis(port=server.port, db=1, password=PASSWORD) as client:
            await client.set("text", "x")
        sink = settings(server, key="text").make({"password": PASSWORD})
        await sink.open()
        with pytest.raises(SinkError) as caught:
            await sink.deliver(made_events(1))
        await sink.close()
        return str(caught.value)

    assert "did not take 1 events" in (message := run(main))
    assert "WRONGTYPE" in message


@pytest.mark.servers
@pytest.mark.parametrize("secrets", [{}, {"password": "another made up one"}])
def test_a_wrong_password_is_said_and_not_told(server: Redis, secrets: dict[str, str]) -> None:
    async def main() -> str:
        sink = settings(server).make(secrets)
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    message = run(main)
    assert "sink 'cache': redis://127.0.0.1" in message
    assert "authenticated" in message or "invalid username-password" in message
    assert "made up" not in message
