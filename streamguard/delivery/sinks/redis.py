"""Redis streams: ``XADD`` to one key, a batch in one transaction.

Each entry has the fields ``id`` (the event's identity), ``type``, ``stream`` and ``event`` (CloudEvents JSON). Redis 7
keeps no ids: an entry whose acknowledgement was lost comes again, with the same ``id``. What an acknowledgement is
worth is the server's setting: with ``appendfsync always`` the disk has the entry, with ``everysec`` up to a second is
lost with the machine.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkError
from streamguard.delivery.sinks.clients import GOODBYE, address, positive, reason, require, tls_context, within
from streamguard.delivery.sinks.wire import identity, stream_of, structured

if TYPE_CHECKING:
    from redis.asyncio import Redis


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """``url``: redis://HOST:PORT/DATABASE, or rediss:// with TLS. ``user``, ``password_file`` or ``password_env``;
    ``ca_file``: PEM of the authority behind the server's certificate. ``key``: the Redis stream. ``maxlen``: about how
    many entries it keeps, the oldest go first, read or not; null keeps all. ``timeout``: seconds an answer may take."""

    name: str
    type: Literal["redis"]
    url: str
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    ca_file: str | None = None
    key: str = "streamguard:events"
    maxlen: int | None = 100_000
    timeout: float = 10.0

    def __post_init__(self) -> None:
        positive(timeout=self.timeout, maxlen=1 if self.maxlen is None else self.maxlen)
        parts = address(self.url, "redis", "rediss")
        database = parts.path.removeprefix("/")
        if (database and not (database.isascii() and database.isdigit())) or parts.query:
            raise ValueError("the address can't be used: expected redis://HOST:PORT/NUMBER")
        if not self.key:
            raise ValueError("key is empty; expected the name of a Redis stream")

    def make(self, secrets: Mapping[str, str]) -> RedisSink:
        """The sink, not yet open.

        Raises:
            UsageError: the extra `redis` is not installed, or a bad ``ca_file``.
        """
        require("redis", "redis", self.name)
        if "ca" in secrets:
            tls_context(self.name, secrets["ca"])
        return RedisSink(self, secrets)


class RedisSink:
    """Adds a batch in one transaction: all of it is there, or nothing."""

    batch = 100

    def __init__(self, settings: RedisSettings, secrets: Mapping[str, str]) -> None:
        parts = address(settings.url, "redis", "rediss")
        self.name = settings.name
        self._settings = settings
        self._secrets = dict(secrets)
        self._parts = parts
        self._said = f"sink '{self.name}': {parts.scheme}://{parts.netloc}"
        self._redis: Redis | None = None

    async def open(self) -> None:
        """Connect, and ask whether the server answers."""
        import redis

        if self._redis is None:
            self._redis = self._client()
        try:
            async with within(self._settings.timeout, self._said):
                await self._redis.ping()
        except (redis.RedisError, OSError) as error:
            raise SinkError(f"{self._said} can't be used: {reason(error)}.") from error

    def _client(self) -> Redis:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        tls: dict[str, Any] = {}
        if self._parts.scheme == "rediss":
            tls = {"ssl": True, "ssl_ca_data": self._secrets.get("ca"), "ssl_min_version": ssl.TLSVersion.TLSv1_2}
        return Redis(
            host=self._parts.hostname or "",
            port=self._parts.port or 6379,
            db=int(self._parts.path.removeprefix("/") or 0),
            username=self._settings.user,
            password=self._secrets.get("password"),
            socket_timeout=self._settings.timeout,
            socket_connect_timeout=self._settings.timeout,
            retry=Retry(NoBackoff(), 0),  # a second try inside the client would write a batch twice
            single_connection_client=True,
            client_name="streamguard",
            **tls,
        )

    async def deliver(self, events: Sequence[Event]) -> None:
        """Add the batch."""
        import redis

        if self._redis is None:
            raise SinkError(f"{self._said} is not connected.")
        pipeline = self._redis.pipeline(transaction=True)
        for event in events:
            fields: dict[Any, Any] = {
                "id": identity(event),
                "type": event["type"],
                "stream": stream_of(event),
                "event": structured(event),
            }
            pipeline.xadd(self._settings.key, fields, maxlen=self._settings.maxlen, approximate=True)
        try:
            async with within(self._settings.timeout, self._said):
                await pipeline.execute()
        except (redis.RedisError, OSError) as error:
            raise SinkError(f"{self._said} did not take {len(events)} events: {reason(error)}.") from error

    async def close(self) -> None:
        """Disconnect."""
        import redis

        client, self._redis = self._redis, None
        if client is not None:
            with suppress(redis.RedisError, OSError):
                async with asyncio.timeout(GOODBYE):
                    await client.aclose()
