"""Kafka: one topic, the key of a record is its stream, so that each stream keeps its order within its partition.

The producer is idempotent and waits for all in-sync replicas. A record's value is CloudEvents JSON (CloudEvents Kafka
binding 1.0.2, structured mode), its header ``id`` the event's identity. The topic is made by the operator, or by the
broker if that makes topics by itself.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.clients import (
    GOODBYE,
    authority_needs_tls,
    positive,
    reason,
    require,
    tls_context,
    within,
)
from streamguard.delivery.sinks.wire import CONTENT_TYPE, identity, stream_of, structured
from streamguard.errors import UsageError

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)
_TOPIC: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """``servers``: HOST:PORT of brokers to ask first. ``topic``: where events go. ``user`` with ``password_file`` or
    ``password_env``, by the SASL ``mechanism``. ``tls``, and ``ca_file``: PEM of the authority behind the brokers'
    certificate. ``timeout``: seconds an answer may take."""

    name: str
    type: Literal["kafka"]
    servers: tuple[str, ...]
    topic: str = "streamguard.events"
    user: str | None = None
    password_file: str | None = None
    password_env: str | None = None
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    tls: bool = False
    ca_file: str | None = None
    timeout: float = 10.0

    def __post_init__(self) -> None:
        positive(timeout=self.timeout)
        if not self.servers:
            raise ValueError("servers is empty; expected HOST:PORT")
        for server in self.servers:
            host, colon, port = server.rpartition(":")
            if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 65536) or "/" in host:
                raise ValueError(f"'{server}' is no broker; expected HOST:PORT")
        if not _TOPIC.fullmatch(self.topic):
            raise ValueError("topic is no name of a topic: expected 1 to 249 of A-Z a-z 0-9 . _ -")
        authority_needs_tls(self.ca_file, tls=self.tls)

    def make(self, secrets: Mapping[str, str]) -> KafkaSink:
        """The sink, not yet open.

        Raises:
            UsageError: the extra `kafka` is not installed, a user without a password or the reverse, or a bad
                ``ca_file``.
        """
        require("aiokafka", "kafka", self.name)
        if ("password" in secrets) is not (self.user is not None):
            raise UsageError(f"sink '{self.name}': user and password belong together. Set both, or none.")
        return KafkaSink(self, secrets, tls_context(self.name, secrets.get("ca")) if self.tls else None)


class _Ear(logging.Handler):
    """aiokafka tells its log alone why it finds no broker (a certificate, a password), and at every try; the
    dispatcher tells people, once."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what is said while a sink opens."""
        if (heard := _heard.get()) is not None:
            heard[:] = [record.getMessage()]


def _listen() -> None:
    library = logging.getLogger("aiokafka")
    if library.propagate:
        library.propagate = False
        library.setLevel(logging.WARNING)
        library.addHandler(_Ear())


class KafkaSink:
    """Sends a batch, and returns when the brokers have acknowledged every record of it."""

    batch = 100

    def __init__(self, settings: KafkaSettings, secrets: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        self.name = settings.name
        self._settings = settings
        self._password = secrets.get("password")
        self._tls = tls
        self._said = f"sink '{self.name}': Kafka at {' '.join(settings.servers)}"
        self._producer: AIOKafkaProducer | None = None
        self._starting: asyncio.Future[None] | None = None
        _listen()

    async def open(self) -> None:
        """Find the brokers, and the topic."""
        from aiokafka.errors import KafkaError

        if self._producer is not None:
            return
        self._producer = self._made()
        heard: list[str] = []
        _heard.set(heard)
        self._starting = asyncio.ensure_future(self._producer.start())
        try:
            async with within(self._settings.timeout, self._said):
                await asyncio.shield(self._starting)
                await self._producer.partitions_for(self._settings.topic)
        except (KafkaError, OSError) as error:
            login = "" if self._settings.user is None else ", if its user and password are right"
            why = heard[0].rstrip(".") if heard else reason(error)
            raise SinkError(f"{self._said} can't be used{login}: {why}.") from error

    def _made(self) -> AIOKafkaProducer:
        from aiokafka import AIOKafkaProducer

        sasl: dict[str, Any] = {}
        if self._settings.user is not None:
            sasl = {
                "sasl_mechanism": self._settings.mechanism,
                "sasl_plain_username": self._settings.user,
                "sasl_plain_password": self._password,
            }
        protocol = ("SASL_" if sasl else "") + ("PLAINTEXT" if self._tls is None else "SSL")
        return AIOKafkaProducer(
            bootstrap_servers=list(self._settings.servers),
            client_id="streamguard",
            enable_idempotence=True,
            acks="all",
            security_protocol=protocol,
            ssl_context=self._tls,
            request_timeout_ms=round(self._settings.timeout * 500),  # so that a request ends before its call does
            **sasl,
        )

    async def deliver(self, events: Sequence[Event]) -> None:
        """Send the batch."""
        if self._producer is None:
            raise SinkError(f"{self._said} is not connected.")
        sent: list[asyncio.Future[Any]] = []
        try:
            async with within(self._settings.timeout, self._said):
                await self._send(self._producer, events, sent)
        finally:
            for future in sent:
                future.cancel()

    async def _send(self, producer: AIOKafkaProducer, events: Sequence[Event], sent: list[asyncio.Future[Any]]) -> None:
        from aiokafka.errors import KafkaError, MessageSizeTooLargeError, RecordListTooLargeError

        acknowledged = 0
        try:
            for event in events:
                headers = [("content-type", CONTENT_TYPE.encode()), ("id", identity(event).encode())]
                key = stream_of(event).encode()
                sent.append(await producer.send(self._settings.topic, structured(event), key=key, headers=headers))
            for future in sent:
                await future
                acknowledged += 1
        except (MessageSizeTooLargeError, RecordListTooLargeError) as error:
            # Records are put together only up to 16 kB: what is too large stands alone.
            refused = acknowledged if len(sent) == len(events) else len(sent)
            if any(isinstance(one, Exception) for one in await asyncio.gather(*sent[:refused], return_exceptions=True)):
                raise SinkError(f"{self._said} did not take {len(events)} events.") from error
            raise SinkRejected(
                f"{self._said} refuses event '{events[refused]['id']}': {reason(error)}.", taken=refused
            ) from error
        except (KafkaError, OSError) as error:
            raise SinkError(f"{self._said} did not take {len(events)} events: {reason(error)}.") from error

    async def close(self) -> None:
        """Disconnect. What the brokers have not acknowledged is dropped here: the outbox has it, and comes again."""
        from aiokafka.errors import KafkaError

        producer, self._producer = self._producer, None
        starting, self._starting = self._starting, None
        if producer is None or starting is None:
            return
        # A connection in the making is never closed if it is cancelled.
        await asyncio.wait({starting}, timeout=GOODBYE)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        # By itself an idempotent producer neither gives up nor stops while something waits in it.
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await producer._sender.close()
        producer._message_accumulator._batches.clear()
        with suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(GOODBYE):
                await producer.stop()
