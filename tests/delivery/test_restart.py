"""Segments that a crash left open."""

from __future__ import annotations

import pytest
from jsonschema import Draft202012Validator

from streamguard.delivery.events import event_schema
from streamguard.delivery.restart import closed_by_restart, closes, segment_of
from tests.delivery.making import Made


def test_the_closing_of_a_segment_that_was_open() -> None:
    made = Made()
    made.segment("opened")
    last = made.segment("updated", pts=17.25)
    event = closed_by_restart(last)
    Draft202012Validator(event_schema()).validate(event)
    assert event["id"] == "r7.door.1.3.1/1000001"
    assert event["type"] == "streamguard.segment.closed.v1"
    assert event["time"] == last["time"] == event["data"]["ended_at"] == "2023-11-14T22:13:37.250Z"
    assert event["data"]["pts"] == {"start": 12.0, "end": 17.25}
    assert (event["data"]["state"], event["data"]["reason"]) == ("inconclusive", "restart")
    same = ("segment_id", "stream", "session", "track", "started_at", "score", "frames", "threshold", "engines")
    assert {key: event["data"][key] for key in same} == {key: last["data"][key] for key in same}
    assert last["data"]["state"] == "flagged", "the event it was made from is as it was"


def test_a_second_crash_makes_the_same_closing() -> None:
    last = Made().segment("opened")
    assert closed_by_restart(last) == closed_by_restart(last)


@pytest.mark.parametrize("kind", ["opened", "updated", "closed"])
def test_which_segment_an_event_is_of(kind: str) -> None:
    event = Made().segment(kind)
    assert segment_of(event) == "r7.door.1.3.1"
    assert closes(event) == (kind == "closed")


def test_other_events_are_of_no_segment() -> None:
    assert segment_of(Made().up()) is None
