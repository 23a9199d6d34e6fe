"""An event on the wire: its bytes, its identity, what of a batch is still to be handed over."""

from __future__ import annotations

import json

import pytest

from streamguard.delivery.sinks.wire import Handed, identity, stream_of, structured
from tests.delivery.sinks.made import made_events


def test_an_event_is_one_line_of_utf_8() -> None:
    event = made_events(1)[0] | {"data": {"stream": "Tür", "reason": "a\nb"}}
    assert b"\n" not in structured(event)
    assert "Tür".encode() in structured(event)
    assert json.loads(structured(event)) == event


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        structured({"score": float("nan")})


def test_two_streams_may_use_the_same_id() -> None:
    events = made_events(2)
    assert identity(events[0] | {"id": "1/up@0"}) != identity(events[1] | {"id": "1/up@0"})
    assert identity(events[0]).isascii()
    assert [stream_of(event) for event in events] == ["door", "cam.2"]


def test_only_what_was_not_handed_over_is_left() -> None:
    batch, handed = made_events(4), Handed()
    for place, event in handed.rest(batch):
        if place == 2:
            break
        handed.add(event)
    assert [place for place, _ in handed.rest(batch)] == [2, 3]
    # The batch was gone through: it is forgotten.
    assert [place for place, _ in handed.rest(batch)] == [0, 1, 2, 3]


def test_it_remembers_no_more_than_the_batch_at_hand() -> None:
    batch, handed = made_events(6), Handed()
    for event in batch[:3]:
        handed.add(event)
    assert next(handed.rest(batch[2:])) == (1, batch[3])
    handed.add(batch[3])
    assert [place for place, _ in handed.rest(batch)] == [0, 1, 4, 5]
