"""PostgreSQL: a row an event in ``<schema>.events``; a second one of the same source and id is left out.

``position`` counts rows in the order they came in, so a reader goes on from the last it saw. The schema is made and
brought up to date by :data:`MIGRATIONS`, each once, in a transaction.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

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
from streamguard.delivery.sinks.wire import structured
from streamguard.errors import UsageError

if TYPE_CHECKING:
    from asyncpg import Connection

MIGRATIONS: Final = (
    """
    CREATE TABLE {schema}.events (
        position bigint GENERATED ALWAYS AS IDENTITY,
        source text NOT NULL,
        id text NOT NULL,
        type text NOT NULL,
        stream text NOT NULL,
        subject text,
        time timestamptz NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        event jsonb NOT NULL,
        PRIMARY KEY (source, id)
    );
    CREATE UNIQUE INDEX events_position ON {schema}.events (position);
    CREATE INDEX events_stream_time ON {schema}.events (stream, time);
    """,
)
"""What makes version n of the schema out of version n - 1. A landed one never changes: another is added."""

_IDENTIFIER: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# StreamGuards that write to one database take turns, so that a reader of positions never skips a row that was numbered
# earlier and committed later.
_LOCK: Final = 0x5374726D4764
_INSERT: Final = """
    INSERT INTO {schema}.events (source, id, type, stream, subject, time, event)
    SELECT e->>'source', e->>'id', e->>'type', e->'data'->>'stream', e->>'subject', (e->>'time')::timestamptz, e
    FROM (SELECT pg_advisory_xact_lock($2)) AS turn,
        (SELECT text::jsonb AS e, place FROM unnest($1::text[]) WITH ORDINALITY AS given (text, place)) AS parsed
    ORDER BY place
    ON CONFLICT (source, id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class PostgresSettings:
    """``host`` (a folder: its Unix socket), ``port``, ``database``, ``user``, with ``password_file`` or
    ``password_env``. ``tls``, and ``ca_file``: PEM of the authority behind the server's certificate. ``schema``: where
    the tables are; made if it is not there. ``timeout``: seconds an answer may take."""

    name: str
    type: Literal["postgres"]
    host: str
    database: str
    user: str
    port: int = 5432
    password_file: str | None = None
    password_env: str | None = None
    tls: bool = False
    ca_file: str | None = None
    schema: str = "streamguard"
    timeout: float = 10.0

    def __post_init__(self) -> None:
        positive(timeout=self.timeout)
        if not _IDENTIFIER.fullmatch(self.schema):
            raise ValueError("schema is no plain identifier: expected 1 to 63 of a-z 0-9 _, with no digit in front")
        authority_needs_tls(self.ca_file, tls=self.tls)

    def make(self, secrets: Mapping[str, str]) -> PostgresSink:
        """The sink, not yet open.

        Raises:
            UsageError: the extra `postgres` is not installed, or a bad ``ca_file``.
        """
        require("asyncpg", "postgres", self.name)
        tls = tls_context(self.name, secrets.get("ca")) if self.tls else None
        if tls is not None and self.host.startswith("/"):
            raise UsageError(f"sink '{self.name}': a Unix socket has no TLS. Take out tls, or name a host.")
        return PostgresSink(self, secrets, tls)


def _troubles() -> tuple[type[Exception], ...]:
    """What asyncpg raises when a connection is of no use: the last of them after a server died in mid-answer."""
    import asyncpg

    return asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError


class PostgresSink:
    """Inserts a batch in one statement, which is one transaction."""

    batch = 100

    def __init__(self, settings: PostgresSettings, secrets: Mapping[str, str], tls: ssl.SSLContext | None) -> None:
        self.name = settings.name
        self._settings = settings
        self._password = secrets.get("password", "")
        self._tls = tls
        self._said = f"sink '{self.name}': PostgreSQL at {settings.host}:{settings.port}"
        self._insert = _INSERT.format(schema=settings.schema)
        self._connection: Connection | None = None

    async def open(self) -> None:
        """Connect, and bring the schema up to date."""
        import asyncpg

        if self._connection is not None:
            return
        settings = self._settings
        try:
            async with within(settings.timeout, self._said):
                self._connection = await asyncpg.connect(
                    host=settings.host,
                    port=settings.port,
                    user=settings.user,
                    password=self._password,
                    database=settings.database,
                    ssl=self._tls if self._tls is not None else False,
                    timeout=settings.timeout,
                    server_settings={"application_name": "streamguard"},
                )
                await self._prepare(self._connection)
        except _troubles() as error:
            raise SinkError(f"{self._said} can't be used: {reason(error)}.") from error

    async def _prepare(self, connection: Connection) -> None:
        # An acknowledgement of what is not on the disk yet is none.
        if await connection.fetchval("SHOW synchronous_commit") == "off":
            await connection.execute("SET synchronous_commit = on")
        schema = self._settings.schema
        async with connection.transaction():
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
            if await connection.fetchval("SELECT to_regclass($1)", f"{schema}.migrations") is None:
                if not await connection.fetchval("SELECT 1 FROM pg_namespace WHERE nspname = $1", schema):
                    await connection.execute(f"CREATE SCHEMA {schema}")
                await connection.execute(
                    f"CREATE TABLE {schema}.migrations (version int PRIMARY KEY, at timestamptz NOT NULL DEFAULT now())"
                )
            version = await connection.fetchval(f"SELECT coalesce(max(version), 0) FROM {schema}.migrations")
            if version > len(MIGRATIONS):
                raise SinkError(
                    f"{self._said}: schema '{schema}' has version {version}, this StreamGuard knows "
                    f"{len(MIGRATIONS)}. Upgrade it, or name another schema."
                )
            for number, migration in enumerate(MIGRATIONS[version:], version + 1):
                await connection.execute(migration.format(schema=schema))
                await connection.execute(f"INSERT INTO {schema}.migrations (version) VALUES ($1)", number)

    async def deliver(self, events: Sequence[Event]) -> None:
        """Insert the batch; what is there already stays as it is."""
        import asyncpg

        connection = self._connection
        if connection is None:
            raise SinkError(f"{self._said} is not connected.")
        texts = [structured(event).decode() for event in events]
        try:
            async with within(self._settings.timeout, self._said):
                await connection.execute(self._insert, texts, _LOCK)
        except asyncpg.DataError:
            await self._one_by_one(connection, events, texts)
        except _troubles() as error:
            raise SinkError(f"{self._said} did not take {len(events)} events: {reason(error)}.") from error

    async def _one_by_one(self, connection: Connection, events: Sequence[Event], texts: Sequence[str]) -> None:
        """Find the event that the database can't hold, for instance a text with U+0000 in it."""
        import asyncpg

        for place, (event, text) in enumerate(zip(events, texts, strict=True)):
            try:
                async with within(self._settings.timeout, self._said):
                    await connection.execute(self._insert, [text], _LOCK)
            except asyncpg.DataError as error:
                raise SinkRejected(
                    f"{self._said} refuses event '{event['id']}': {reason(error)}.", taken=place
                ) from error
            except _troubles() as error:
                raise SinkError(f"{self._said} is gone: {reason(error)}.") from error

    async def close(self) -> None:
        """Disconnect."""

        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(*_troubles(), TimeoutError):
            await connection.close(timeout=GOODBYE)
        connection.terminate()
