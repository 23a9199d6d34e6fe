"""Events: the envelope, the data, and a schema that takes them and refuses wrong ones."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from streamguard.delivery.events import (
    Bar,
    EngineRef,
    EventContext,
    EventFactory,
    Sighting,
    StreamKind,
    Timeline,
    TrackRef,
    event_schema,
    rfc3339,
    run_name,
)
from streamguard.frames import Box, Quality, Segment, State

ENGINES = (EngineRef("face-yolov8n", "a" * 64, "int8"), EngineRef("deepfake-steady", "b" * 64, "bf16"))
CONTEXT = EventContext("studio 1", "r7", "default", 0.0, ENGINES)
TIMELINE = Timeline("file", lambda pts: 1_700_000_000 + pts)
SIGHTING = Sighting(Box(10.04, 20, 110, 140.26), Quality(100.0, 251.333))
OPEN = Segment("door.1.3.1", "door", 1, 3, 12.0, None, State.FLAGGED, None, 1.5, 2.5, 31)
CLOSED = Segment("door.1.3.1", "door", 1, 3, 12.0, 19.5, State.FLAGGED, None, 2.0, 4.0, 60)


@pytest.fixture
def factory() -> EventFactory:
    return EventFactory(CONTEXT)


def check(event: dict[str, Any]) -> None:
    Draft202012Validator(event_schema()).validate(event)
    assert json.loads(json.dumps(event, allow_nan=False)) == event


def opened() -> dict[str, Any]:
    return EventFactory(CONTEXT).segment("opened", OPEN, 13.0, TIMELINE, SIGHTING)


def closed() -> dict[str, Any]:
    return EventFactory(CONTEXT).segment("closed", CLOSED, 21.5, TIMELINE, SIGHTING)


def track_state() -> dict[str, Any]:
    return EventFactory(CONTEXT).track_state(
        TrackRef("door", 1, 3), State.INCONCLUSIVE, 4.25, TIMELINE, reason="too little evidence", logit=-1.0
    )


def stream_down() -> dict[str, Any]:
    return EventFactory(CONTEXT).stream("down", "door", 2, at=1_700_000_000.5, reason="no frames for 5 s")


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(event_schema())


def test_segment_opened_is_complete(factory: EventFactory) -> None:
    event = factory.segment("opened", OPEN, 13.0, TIMELINE, SIGHTING)
    check(event)
    assert event == {
        "specversion": "1.0",
        "id": "r7.door.1.3.1/0",
        "source": "/streamguard/studio%201/door",
        "type": "streamguard.segment.opened.v1",
        "time": "2023-11-14T22:13:33.000Z",
        "datacontenttype": "application/json",
        "dataschema": "urn:streamguard:event:v1#/$defs/segment",
        "subject": "3",
        "data": {
            "segment_id": "r7.door.1.3.1",
            "stream": "door",
            "session": 1,
            "track": 3,
            "started_at": "2023-11-14T22:13:32.000Z",
            "ended_at": None,
            "clock": "file",
            "pts": {"start": 12.0, "end": None},
            "state": "flagged",
            "reason": None,
            "score": {"mean": 0.817574, "peak": 0.924142},
            "frames": 31,
            "bbox": {"x1": 10.0, "y1": 20.0, "x2": 110.0, "y2": 140.3},
            "quality": {"size": 100.0, "sharpness": 251.3, "reason": None},
            "evidence": None,
            "operating_point": "default",
            "threshold": 0.5,
            "engines": [
                {"name": "face-yolov8n", "sha256": "a" * 64, "variant": "int8"},
                {"name": "deepfake-steady", "sha256": "b" * 64, "variant": "bf16"},
            ],
        },
    }


def test_a_segment_names_its_evidence(factory: EventFactory) -> None:
    folder = {"folder": f"door/{factory.name_of(OPEN)}"}
    event = factory.segment("opened", OPEN, 13.0, TIMELINE, evidence=folder)
    check(event)
    assert event["data"]["evidence"] == {"folder": "door/r7.door.1.3.1"}


def test_a_segments_events_count_up_from_0(factory: EventFactory) -> None:
    events = [factory.segment(kind, OPEN, 13.0, TIMELINE) for kind in ("opened", "updated", "updated")]
    events.append(factory.segment("closed", CLOSED, 21.5, TIMELINE))
    for event in events:
        check(event)
    assert [event["id"] for event in events] == [f"r7.door.1.3.1/{n}" for n in range(4)]
    assert events[-1]["data"]["ended_at"] == "2023-11-14T22:13:39.500Z"
    assert events[-1]["data"]["pts"] == {"start": 12.0, "end": 19.5}
    assert events[-1]["time"] == "2023-11-14T22:13:41.500Z"


def test_segments_count_apart(factory: EventFactory) -> None:
    other = Segment("gate.1.1.1", "gate", 1, 1, 0.0, None, State.FLAGGED, None, 1.0, 1.0, 5)
    ids = [factory.segment("opened", segment, 13.0, TIMELINE)["id"] for segment in (OPEN, other)]
    ids.append(factory.segment("updated", OPEN, 14.0, TIMELINE)["id"])
    assert ids == ["r7.door.1.3.1/0", "r7.gate.1.1.1/0", "r7.door.1.3.1/1"]


def test_two_runs_never_share_an_id() -> None:
    first, second = (
        EventFactory(EventContext("n", run_name(start), "default", 0.0, ())) for start in (1000.0, 1000.001)
    )
    assert first.segment("opened", OPEN, 13.0, TIMELINE)["id"] != second.segment("opened", OPEN, 13.0, TIMELINE)["id"]


def test_track_state() -> None:
    event = track_state()
    check(event)
    assert event["type"] == "streamguard.track.state.v1"
    assert event["id"] == "r7.1.3/inconclusive@4.250"
    assert event["subject"] == "3"
    assert event["data"]["score"] == pytest.approx(0.268941)
    assert event["data"]["bbox"] is None
    assert event["data"]["at"] == event["time"] == "2023-11-14T22:13:24.250Z"


def test_a_track_without_a_score(factory: EventFactory) -> None:
    event = factory.track_state(TrackRef("door", 1, 3), State.INCONCLUSIVE, 4.0, TIMELINE, reason="blurred")
    check(event)
    assert event["data"]["score"] is None


@pytest.mark.parametrize("kind", ["up", "down", "degraded"])
def test_stream_events(factory: EventFactory, kind: StreamKind) -> None:
    event = factory.stream(kind, "door", 2, at=1_700_000_000.5, reason=None)
    check(event)
    assert event["type"] == f"streamguard.stream.{kind}.v1"
    assert event["id"] == f"r7.2/{kind}@1700000000.500"
    assert "subject" not in event


def test_a_secret_in_a_reason_is_redacted(factory: EventFactory) -> None:
    event = factory.stream("down", "door", 1, at=0.0, reason="rtsp://bob:hunter2@cam/1 refused")
    assert event["data"]["reason"] == "rtsp://***@cam/1 refused"


def test_names_are_percent_encoded() -> None:
    factory = EventFactory(EventContext("a/b", "r", "default", 0.0, ()))
    event = factory.stream("up", "Tür 1", 1, at=0.0)
    check(event)
    assert event["source"] == "/streamguard/a%2Fb/T%C3%BCr%201"


@settings(deadline=None)
@given(
    logit=st.floats(-1e4, 1e4),
    threshold=st.floats(-50, 50),
    stream=st.text(min_size=1, max_size=20),
    node=st.text(min_size=1, max_size=20),
    start=st.floats(0, 1e6),
)
def test_any_segment_makes_a_valid_event(logit: float, threshold: float, stream: str, node: str, start: float) -> None:
    try:
        stream.encode(), node.encode()
    except UnicodeEncodeError:
        return
    segment = Segment("s", stream, 1, 1, start, start + 1, State.FLAGGED, None, logit, logit, 1)
    context = EventContext(node, "r", "default", threshold, ENGINES)
    check(EventFactory(context).segment("closed", segment, start + 3, TIMELINE, SIGHTING))


def _without(*path: str) -> Callable[[dict[str, Any]], None]:
    def spoil(event: dict[str, Any]) -> None:
        for key in path[:-1]:
            event = event[key]
        del event[path[-1]]

    return spoil


def _with(value: object, *path: str) -> Callable[[dict[str, Any]], None]:
    def spoil(event: dict[str, Any]) -> None:
        for key in path[:-1]:
            event = event[key]
        event[path[-1]] = value

    return spoil


@pytest.mark.parametrize("make", [opened, closed, track_state, stream_down])
@pytest.mark.parametrize(
    "spoil",
    [
        _without("id"),
        _without("source"),
        _without("specversion"),
        _without("data"),
        _without("data", "stream"),
        _without("data", "reason"),
        _with("0.3", "specversion"),
        _with("streamguard.segment.vanished.v1", "type"),
        _with("yesterday", "time"),
        _with("2023-11-14T22:13:33+01:00", "time"),
        _with("door", "source"),
        _with("text/plain", "datacontenttype"),
        _with(1, "extra"),
        _with(1, "data", "extra"),
        _with("1", "data", "session"),
        _with(-1, "data", "session"),
    ],
)
def test_the_schema_refuses_a_wrong_envelope(
    make: Callable[[], dict[str, Any]], spoil: Callable[[dict[str, Any]], None]
) -> None:
    event = copy.deepcopy(make())
    check(event)
    spoil(event)
    with pytest.raises(ValidationError):
        check(event)


@pytest.mark.parametrize(
    "spoil",
    [
        _without("subject"),
        _without("data", "segment_id"),
        _without("data", "score", "mean"),
        _without("data", "engines"),
        _with("suspicious", "data", "state"),
        _with(1.2, "data", "score", "peak"),
        _with(-0.1, "data", "score", "mean"),
        _with(1.01, "data", "threshold"),
        _with("wall", "data", "clock"),
        _with(None, "data", "pts", "start"),
        _with(1.5, "data", "frames"),
        _with([0, 0, 1, 1], "data", "bbox"),
        _with([{"name": "x", "sha256": "short", "variant": "fp32"}], "data", "engines"),
        _with("urn:streamguard:event:v1#/$defs/stream", "dataschema"),
    ],
)
def test_the_schema_refuses_wrong_data(spoil: Callable[[dict[str, Any]], None]) -> None:
    event = copy.deepcopy(opened())
    spoil(event)
    with pytest.raises(ValidationError):
        check(event)


def test_a_closed_segment_has_an_end() -> None:
    event = copy.deepcopy(closed())
    event["data"]["ended_at"] = event["data"]["pts"]["end"] = None
    with pytest.raises(ValidationError):
        check(event)


@pytest.mark.parametrize(
    ("unix", "text"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1_700_000_000.1239, "2023-11-14T22:13:20.123Z")],
)
def test_rfc3339(unix: float, text: str) -> None:
    assert rfc3339(unix) == text


def test_what_a_stream_alone_is_held_against():
    factory = EventFactory(CONTEXT)
    bar = Bar("by hand", 2.0)
    events = [
        factory.segment("opened", OPEN, 13.0, TIMELINE, bar=bar),
        factory.track_state(TrackRef("door", 1, 3), State.CLEAR, 2.0, TIMELINE, bar=bar),
    ]
    for event in events:
        check(event)
        assert (event["data"]["operating_point"], event["data"]["threshold"]) == ("by hand", 0.880797)
