"""For each broker: the server, a sink that goes to it, and a reader of what it got, which is not the sink's code."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import aiokafka
import aiomqtt
import asyncpg
import nats
import redis.asyncio

from streamguard.delivery.sinks import Sink
from streamguard.delivery.sinks.kafka import KafkaSettings
from streamguard.delivery.sinks.mqtt import MqttSettings
from streamguard.delivery.sinks.nats import NatsSettings
from streamguard.delivery.sinks.postgres import PostgresSettings
from streamguard.delivery.sinks.redis import RedisSettings
from streamguard.delivery.sinks.webhook import WebhookSettings
from tests.brokers import Broker, Kafka, Mosquitto, Nats, Postgres, Receiver, Redis, require
from tests.rtsp_server import free_port
from tests.servers.proxy import Proxy

Seen = Callable[[], Awaitable[list[str]]]
"""The identities of all that the broker has, in its order; doubles stand there twice."""


def named(text: str | bytes) -> str:
    """The identity of an event in JSON."""
    event = json.loads(text)
    return f"{event['source']}/{event['id']}"


class Rig:
    """A broker in ``folder``; ``mark`` keeps apart what the tests of one server leave there."""

    server: ClassVar[type[Broker]]
    durable: ClassVar[bool] = True
    """What it acknowledged survives a SIGKILL."""

    def __init__(self, folder: Path) -> None:
        require(self.server)
        self.folder = folder

    def broker(self) -> Broker:
        """The server, not started."""
        return self.server(self.folder)

    def proxy(self, broker: Broker) -> Proxy:
        """A proxy in front of the started server."""
        return Proxy(broker.port)

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        """The sink ``name``, going to ``port``."""
        raise NotImplementedError

    def reading(self, port: int, mark: str) -> Any:
        """A context that gives :data:`Seen`."""
        raise NotImplementedError


class WebhookRig(Rig):
    server = Receiver

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        settings = WebhookSettings(name, "webhook", f"http://127.0.0.1:{port}/{mark}", timeout=timeout)
        return settings.make({"secret": Receiver.key})

    @asynccontextmanager
    async def reading(self, port: int, mark: str) -> AsyncIterator[Seen]:
        async def seen() -> list[str]:
            return [named(line) for line in (self.folder / f"{mark}.jsonl").read_bytes().splitlines()]

        yield seen


class MqttRig(Rig):
    server = Mosquitto
    durable = False  # mosquitto saves what it holds every 30 minutes, and when it ends

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        return MqttSettings(name, "mqtt", "127.0.0.1", port, prefix=mark, timeout=timeout).make({})

    @asynccontextmanager
    async def reading(self, port: int, mark: str) -> AsyncIterator[Seen]:
        found: list[str] = []
        ready = asyncio.Event()

        async def follow() -> None:
            while True:
                with suppress(aiomqtt.MqttError):
                    async with aiomqtt.Client(
                        "127.0.0.1", port, identifier=f"reader-{mark}", clean_session=False
                    ) as client:
                        await client.subscribe(f"{mark}/+/events", qos=1)
                        ready.set()
                        async for message in client.messages:
                            found.append(named(bytes(message.payload)))
                await asyncio.sleep(0.1)

        async def seen() -> list[str]:
            return list(found)

        task = asyncio.create_task(follow())
        try:
            await asyncio.wait_for(ready.wait(), 60)
            yield seen
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


class NatsRig(Rig):
    server = Nats

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        servers = (f"nats://127.0.0.1:{port}",)
        return NatsSettings(name, "nats", servers, jetstream=mark, subject=mark, timeout=timeout).make({})

    @asynccontextmanager
    async def reading(self, port: int, mark: str) -> AsyncIterator[Seen]:
        async def seen() -> list[str]:
            client = await nats.connect(f"nats://127.0.0.1:{port}")
            jetstream = client.jetstream(timeout=30)
            try:
                last = (await jetstream.stream_info(mark)).state.last_seq
                found = [await jetstream.get_msg(mark, seq) for seq in range(1, last + 1)]
                return [named(message.data or b"") for message in found]
            finally:
                await client.close()

        yield seen


class RedisRig(Rig):
    server = Redis

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        return RedisSettings(name, "redis", f"redis://127.0.0.1:{port}/0", key=mark, timeout=timeout).make({})

    @asynccontextmanager
    async def reading(self, port: int, mark: str) -> AsyncIterator[Seen]:
        async def seen() -> list[str]:
            async with redis.asyncio.Redis(port=port) as client:
                entries: list[Any] = await client.xrange(mark) or []
                return [named(fields[b"event"]) for _, fields in entries]

        yield seen


class KafkaRig(Rig):
    server = Kafka
    durable = False  # this broker keeps records in memory

    def proxy(self, broker: Broker) -> Proxy:
        assert isinstance(broker, Kafka)
        port = free_port()
        return Proxy(broker.port, port, told=broker.sent_to(port))

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        return KafkaSettings(name, "kafka", (f"127.0.0.1:{port}",), topic=mark, timeout=timeout).make({})

    @asynccontextmanager
    async def reading(self, port: int, mark: str) -> AsyncIterator[Seen]:
        async def seen() -> list[str]:
            consumer = aiokafka.AIOKafkaConsumer(
                mark,
                bootstrap_servers=f"127.0.0.1:{port}",
                auto_offset_reset="earliest",
                enable_auto_commit=False,
            )
            await consumer.start()
            try:
                places = list(consumer.assignment())
                ends = await consumer.end_offsets(places)
                found: list[str] = []
                for place in places:
                    await consumer.seek_to_beginning(place)
                while any([await consumer.position(place) < ends[place] for place in places]):
                    for records in (await consumer.getmany(timeout_ms=500)).values():
                        found += [named(record.value or b"") for record in records]
                return found
            finally:
                await consumer.stop()

        yield seen


class PostgresRig(Rig):
    server = Postgres

    def sink(self, port: int, mark: str, timeout: float = 10.0, name: str = "far") -> Sink:
        settings = PostgresSettings(
            name, "postgres", "127.0.0.1", Postgres.database, Postgres.user, port, schema=mark, timeout=timeout
        )
        return settings.make({"password": Postgres.password})

    @asynccontextmanager
    async def reading(self, port: int, mark: str) -> AsyncIterator[Seen]:
        async def seen() -> list[str]:
            login = {"user": Postgres.user, "password": Postgres.password, "database": Postgres.database}
            connection = await asyncpg.connect(host="127.0.0.1", port=port, **login)
            try:
                rows = await connection.fetch(f"SELECT event FROM {mark}.events ORDER BY position")
                return [named(row["event"]) for row in rows]
            finally:
                await connection.close()

        yield seen


RIGS: dict[str, type[Rig]] = {
    "webhook": WebhookRig,
    "mqtt": MqttRig,
    "nats": NatsRig,
    "redis": RedisRig,
    "kafka": KafkaRig,
    "postgres": PostgresRig,
}
