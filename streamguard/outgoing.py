"""The sinks of a configuration as the outbox takes them: with their secrets, none of them open yet."""

from __future__ import annotations

from streamguard.config import Config, sink_secrets
from streamguard.delivery.dispatch import Consumer
from streamguard.delivery.sinks import Sink
from streamguard.delivery.sinks.jsonl import JsonlSink


def configured(settings: Config) -> list[Sink]:
    """The sinks of the configuration.

    Raises:
        UsageError: one can't be used, or its secret is not where it should be.
    """
    return [sink.make(sink_secrets(sink)) for sink in settings.sinks]


def patient(settings: Config) -> list[Consumer]:
    """The same, each with its time: a file may take as long as its disk does; what answers over a network has to
    answer.

    Raises:
        UsageError: as in :func:`configured`.
    """
    return [
        Consumer(sink, patience=None) if isinstance(sink, JsonlSink) else Consumer(sink)
        for sink in configured(settings)
    ]
