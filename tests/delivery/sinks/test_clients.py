"""What the sinks with a network client share."""

from __future__ import annotations

import asyncio
import logging

import pytest

from streamguard.delivery.sinks import SinkError
from streamguard.delivery.sinks.clients import address, hush, positive, reason, require, tls_context, within
from streamguard.delivery.sinks.kafka import KafkaSettings
from streamguard.delivery.sinks.mqtt import MqttSettings
from streamguard.delivery.sinks.nats import NatsSettings
from streamguard.delivery.sinks.postgres import PostgresSettings
from streamguard.delivery.sinks.redis import RedisSettings
from streamguard.errors import UsageError

EXTRAS = [
    (MqttSettings("hall", "mqtt", "127.0.0.1"), "aiomqtt", "mqtt"),
    (NatsSettings("hall", "nats", ("nats://127.0.0.1",)), "nats", "nats"),
    (RedisSettings("hall", "redis", "redis://127.0.0.1"), "redis", "redis"),
    (KafkaSettings("hall", "kafka", ("127.0.0.1:9092",)), "aiokafka", "kafka"),
    (PostgresSettings("hall", "postgres", "127.0.0.1", "a", "b"), "asyncpg", "postgres"),
]


@pytest.mark.parametrize(("settings", "library", "extra"), EXTRAS, ids=[extra for _, _, extra in EXTRAS])
def test_a_missing_library_is_named_with_the_command(
    monkeypatch: pytest.MonkeyPatch,
    settings: MqttSettings | NatsSettings | RedisSettings | KafkaSettings | PostgresSettings,
    library: str,
    extra: str,
) -> None:
    monkeypatch.setattr("streamguard.delivery.sinks.clients.find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        settings.make({})
    assert str(caught.value) == (
        f"sink 'hall' needs the library {library}, which is not installed: pip install 'streamguard[{extra}]'"
    )


def test_a_library_that_is_there() -> None:
    require("json", "json", "hall")


@pytest.mark.parametrize(
    "url", ["http://a", "redis:", "redis://", "redis://a:99999", "redis://a:0", "redis://[a", "a", ""]
)
def test_addresses_that_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected redis://HOST, or rediss://HOST"):
        address(url, "redis", "rediss")


@pytest.mark.parametrize("url", ["redis://bob:hunter2@a", "redis://:hunter2@a", "redis://hunter2@a"])
def test_secrets_in_an_address_are_refused_and_not_told(url: str) -> None:
    with pytest.raises(ValueError, match="password_file or password_env") as caught:
        address(url, "redis")
    assert "hunter2" not in str(caught.value)


def test_what_must_be_positive() -> None:
    positive(timeout=0.1, maxlen=1)
    for value in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"timeout is .*; expected more than 0"):
            positive(timeout=value)


def test_tls_is_always_verified() -> None:
    context = tls_context("hall", None)
    assert context.check_hostname
    with pytest.raises(UsageError, match="sink 'hall': ca_file holds no certificate"):
        tls_context("hall", "-----BEGIN CERTIFICATE-----\nmade up\n-----END CERTIFICATE-----\n")


def test_time_that_runs_out_is_a_sinks_error() -> None:
    async def main() -> None:
        async with within(0.05, "sink 'hall': a far side"):
            await asyncio.sleep(60)

    with pytest.raises(SinkError, match=r"sink 'hall': a far side gave no answer for 0\.05 s"):
        asyncio.run(main())


def test_an_error_without_a_text_has_its_name() -> None:
    assert reason(ConnectionResetError()) == "ConnectionResetError"
    assert reason(ValueError("no. ")) == "no"


def test_a_talkative_library_is_hushed(caplog: pytest.LogCaptureFixture) -> None:
    hush("some.library")
    logging.getLogger("some.library").error("again and again")
    assert caplog.messages == []
