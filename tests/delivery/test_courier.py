"""The courier: every event to every sink, in order; what is lost is counted."""

from __future__ import annotations

import logging
import threading

import pytest
from prometheus_client import CollectorRegistry

from streamguard.delivery.courier import Courier
from streamguard.delivery.events import Event
from streamguard.delivery.sinks import SinkClosed, SinkError
from streamguard.metrics import Metrics

EVENTS: list[Event] = [{"id": f"a/{n}"} for n in range(5)]


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


def deliveries(metrics: Metrics, sink: str, outcome: str) -> float | None:
    labels = {"sink": sink, "outcome": outcome}
    return metrics.registry.get_sample_value("streamguard_sink_deliveries_total", labels)


def never(name: str) -> None:
    raise AssertionError(f"{name} was closed")


def test_every_event_reaches_every_sink_in_order(metrics: Metrics) -> None:
    first: list[Event] = []
    second: list[Event] = []
    with Courier({"first": first.append, "second": second.append}, metrics, never) as courier:
        for event in EVENTS:
            courier.take(event)
    assert first == second == EVENTS
    assert courier.lost == 0
    assert deliveries(metrics, "first", "delivered") == deliveries(metrics, "second", "delivered") == 5


def test_a_failing_sink_costs_its_neighbour_nothing(metrics: Metrics, caplog: pytest.LogCaptureFixture) -> None:
    taken: list[Event] = []

    def failing(event: Event) -> None:
        if event["id"] != "a/2":
            raise SinkError(f"event '{event['id']}' is lost, the disk is full")

    with caplog.at_level(logging.ERROR), Courier({"disk": failing, "list": taken.append}, metrics, never) as courier:
        for event in EVENTS:
            courier.take(event)
    assert taken == EVENTS
    assert courier.lost == 4
    assert deliveries(metrics, "disk", "failed") == 4
    assert deliveries(metrics, "disk", "delivered") == 1
    assert caplog.messages == ["event 'a/0' is lost, the disk is full"]


def test_a_closed_sink_is_told_once_and_gets_no_more(metrics: Metrics) -> None:
    closed: list[str] = []
    seen: list[Event] = []
    taken: list[Event] = []

    def pipe(event: Event) -> None:
        seen.append(event)
        if len(seen) == 2:
            raise SinkClosed("the reader is gone")

    with Courier({"pipe": pipe, "list": taken.append}, metrics, closed.append) as courier:
        for event in EVENTS:
            courier.take(event)
    assert seen == EVENTS[:2]
    assert taken == EVENTS
    assert closed == ["pipe"]
    assert courier.lost == 0
    assert deliveries(metrics, "pipe", "closed") == 1


def test_a_sink_that_hangs_blocks_nobody_and_its_losses_are_counted(metrics: Metrics) -> None:
    free, busy = threading.Event(), threading.Event()
    taken: list[Event] = []

    def slow(event: Event) -> None:
        busy.set()
        free.wait()
        taken.append(event)

    with Courier({"slow": slow}, metrics, never, bound=2) as courier:
        courier.take(EVENTS[0])
        busy.wait()
        for event in EVENTS[1:]:
            courier.take(event)
        assert courier.lost == 2
        free.set()
    assert taken == EVENTS[:3]
    assert deliveries(metrics, "slow", "overflow") == 2
