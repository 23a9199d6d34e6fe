"""What the API shows of a stream, and of an operating point."""

from jsonschema import Draft202012Validator

from streamguard.decision.calibration import OperatingPoint
from streamguard.frames import Box, State, StreamSnapshot, Track
from streamguard.ingest.source import open_source
from streamguard.pipeline import WatchedStream
from streamguard.readers import Reading
from streamguard.server.shown import openapi, point_json, stream_json

POINT = OperatingPoint("default", 0.0, "at most 1 %")


def shown(snapshot, reading):
    told = stream_json(WatchedStream(open_source("demo:", name="door"), snapshot, reading, POINT))
    root = {"$ref": "#/components/schemas/Stream", "components": openapi()["components"]}
    Draft202012Validator(root).validate(told)
    return told


def test_a_stream_that_has_not_begun():
    told = shown(StreamSnapshot("door", 0, 0.0, State.INCONCLUSIVE, "no frames"), Reading())
    assert (told["up"], told["last_frame_at"], told["latency"], told["reconnects"]) == (False, None, None, 0)
    assert (told["operating_point"], told["threshold"]) == ("default", 0.5)


def test_a_stream_under_way():
    track = Track(3, 1, Box(1.04, 2, 3, 4), 0.9, 0.0, 1.0)
    snapshot = StreamSnapshot(
        "door", 1, 2.0004, State.FLAGGED, None, (track,), ((3, State.FLAGGED),), "drops", latency=0.123456
    )
    told = shown(snapshot, Reading(up=True, last_frame_at=1.5, reconnects=2, size=(640, 360)))
    assert told["last_frame_at"] == "1970-01-01T00:00:01.500Z"
    assert (told["latency"], told["reconnects"], told["overload"]) == (0.1235, 2, "drops")
    assert told["size"] == {"width": 640, "height": 360}
    assert told["tracks"] == [{"id": 3, "state": "flagged", "bbox": {"x1": 1.0, "y1": 2, "x2": 3, "y2": 4}}]


def test_an_operating_point_stands_on_the_scale_of_the_scores():
    assert point_json(POINT) == {"name": "default", "threshold": 0.5, "promise": "at most 1 %"}
