"""A short form of benchmarks/brokers.py: outbox, dispatcher and every sink, with all lines cut for a moment."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.brokers import Plan, drive
from tests.brokers import require
from tests.delivery.sinks.rigs import RIGS


@pytest.mark.servers
def test_every_event_arrives_in_order_when_all_lines_are_cut() -> None:
    for rig in RIGS.values():
        require(rig.server)
    plan = Plan(before=1.0, fault=2.0, after=1.0, rate=50.0, kind="cut")
    results = asyncio.run(drive(plan, list(RIGS)))
    assert [result.broker for result in results] == list(RIGS)
    for result in results:
        assert (result.sent, result.arrived, result.lost, result.lost_after_ack) == (200, 200, 0, 0), result
        assert result.disorder == 0, result
