"""PostgreSQL: migrations, rows, doubles; what the database can't hold, and who is not let in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from streamguard.delivery.sinks import SinkError, SinkRejected
from streamguard.delivery.sinks.postgres import MIGRATIONS, PostgresSettings, PostgresSink
from streamguard.errors import UsageError
from tests.brokers import Postgres, require
from tests.delivery.sinks.made import delivered, made_events, run


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schema": "a b"}, "schema is no plain identifier"),
        ({"schema": "a;drop table x"}, "schema is no plain identifier"),
        ({"schema": "Guard"}, "schema is no plain identifier"),
        ({"ca_file": "a.pem"}, "no use without tls"),
        ({"timeout": 0.0}, "timeout is 0"),
    ],
)
def test_settings_that_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PostgresSettings("warehouse", "postgres", "a", "b", "c", **settings)  # type: ignore[arg-type]


def test_a_socket_has_no_tls() -> None:
    with pytest.raises(UsageError, match="a Unix socket has no TLS"):
        PostgresSettings("warehouse", "postgres", "/run/postgresql", "b", "c", tls=True).make({})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    require(Postgres)
    with Postgres(tmp_path_factory.mktemp("postgres")) as broker:
        yield broker


def made(server: Postgres, schema: str, secrets: dict[str, str] | None = None, **more: object) -> PostgresSink:
    base = {"database": Postgres.database, "user": Postgres.user, "port": server.port, "schema": schema}
    settings = PostgresSettings("warehouse", "postgres", "127.0.0.1", **(base | more))  # type: ignore[arg-type]
    return settings.make({"password": Postgres.password} if secrets is None else secrets)


async def query(server: Postgres, text: str, *arguments: object) -> list[Any]:
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=server.port,
        user=Postgres.user,
        password=Postgres.password,
        database=Postgres.database,
    )
    try:
        return list(await connection.fetch(text, *arguments))
    finally:
        await connection.close()


@pytest.mark.servers
def test_a_row_an_event_and_no_doubles(server: Postgres) -> None:
    events = made_events(5)

    async def main() -> list[Any]:
        sink = made(server, "rows")
        await sink.open()
        await sink.deliver(events[:3])
        await sink.deliver(events + events[:1])
        await sink.close()
        return await query(server, "SELECT * FROM rows.events ORDER BY position")

    rows = run(main)
    assert [json.loads(row["event"]) for row in rows] == events
    for row, event in zip(rows, events, strict=True):
        assert (row["source"], row["id"], row["type"]) == (event["source"], event["id"], event["type"])
        assert (row["stream"], row["subject"]) == (event["data"]["stream"], event["subject"])
        assert row["time"] == datetime.fromisoformat(event["time"])
        assert row["received_at"] <= datetime.now(UTC)


@pytest.mark.servers
def test_migrations_run_once_also_when_two_start_together(server: Postgres) -> None:
    async def main() -> list[Any]:
        sinks = [made(server, "twice") for _ in range(4)]
        await asyncio.gather(*(sink.open() for sink in sinks))
        await asyncio.gather(*(sink.deliver(made_events(30, run=f"r{n}")) for n, sink in enumerate(sinks)))
        for sink in sinks:
            await sink.close()
        assert (await query(server, "SELECT count(*) FROM twice.events"))[0][0] == 120
        return await query(server, "SELECT version FROM twice.migrations ORDER BY version")

    assert [row["version"] for row in run(main)] == list(range(1, len(MIGRATIONS) + 1))


@pytest.mark.servers
def test_a_newer_schema_is_refused(server: Postgres) -> None:
    async def main() -> str:
        sink = made(server, "newer")
        await sink.open()
        await sink.close()
        await query(server, "INSERT INTO newer.migrations (version) VALUES (99)")
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    assert f"schema 'newer' has version 99, this StreamGuard knows {len(MIGRATIONS)}. Upgrade it" in run(main)


@pytest.mark.servers
def test_what_jsonb_can_not_hold_is_told_apart(server: Postgres) -> None:
    events = made_events(4)
    events[2]["data"]["reason"] = "a\0b"

    async def main() -> tuple[int, int]:
        sink = made(server, "zero")
        await sink.open()
        with pytest.raises(SinkRejected, match=f"refuses event '{events[2]['id']}'") as caught:
            await sink.deliver(events)
        await sink.deliver(events[3:])
        await sink.close()
        return caught.value.taken, (await query(server, "SELECT count(*) FROM zero.events"))[0][0]

    assert run(main) == (2, 3)


@pytest.mark.servers
def test_acknowledged_means_on_disk_whatever_the_database_says(server: Postgres) -> None:
    async def main() -> str:
        await query(server, f"ALTER ROLE {Postgres.user} SET synchronous_commit = off")
        sink = made(server, "durable")
        await sink.open()
        assert sink._connection is not None
        found = await sink._connection.fetchval("SHOW synchronous_commit")
        await sink.close()
        await query(server, f"ALTER ROLE {Postgres.user} RESET synchronous_commit")
        return str(found)

    assert run(main) == "on"


@pytest.mark.servers
def test_a_user_who_may_insert_alone_is_enough_once_the_schema_is_there(server: Postgres) -> None:
    async def main() -> int:
        sink = made(server, "granted")
        await sink.open()
        await sink.close()
        for text in (
            "CREATE ROLE writer LOGIN PASSWORD 'made up'",
            "GRANT USAGE ON SCHEMA granted TO writer",
            "GRANT SELECT, INSERT ON ALL TABLES IN SCHEMA granted TO writer",
        ):
            await query(server, text)
        sink = made(server, "granted", {"password": "made up"}, user="writer")
        await delivered(sink, made_events(3))
        await sink.close()
        stranger = made(server, "not_yet", {"password": "made up"}, user="writer")
        with pytest.raises(SinkError, match="permission denied"):
            await stranger.open()
        await stranger.close()
        return int((await query(server, "SELECT count(*) FROM granted.events"))[0][0])

    assert run(main) == 3


@pytest.mark.servers
@pytest.mark.parametrize("secrets", [{}, {"password": "another made up one"}])
def test_a_wrong_password_is_said_and_not_told(server: Postgres, secrets: dict[str, str]) -> None:
    async def main() -> str:
        sink = made(server, "refused", secrets)
        with pytest.raises(SinkError) as caught:
            await sink.open()
        await sink.close()
        return str(caught.value)

    message = run(main)
    assert "sink 'warehouse': PostgreSQL at 127.0.0.1" in message
    assert "password" in message
    assert "made up" not in message
