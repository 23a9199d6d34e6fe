"""How the API shows things in JSON; ``openapi.yaml`` beside this file says what it all means."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from streamguard.decision.calibration import OperatingPoint
from streamguard.delivery.events import rfc3339
from streamguard.frames import State, sigmoid
from streamguard.pipeline import WatchedStream


@cache
def openapi() -> dict[str, Any]:
    """The description of the API (OpenAPI 3.1). Not to be changed: it is shared."""
    text = files("streamguard.server").joinpath("openapi.yaml").read_text(encoding="utf-8")
    description: dict[str, Any] = yaml.safe_load(text)
    return description


def stream_json(stream: WatchedStream) -> dict[str, Any]:
    """A stream as it stands."""
    source, seen, reading, point = stream.source, stream.snapshot, stream.reading, stream.point
    states = dict(seen.states)
    return {
        "name": source.name,
        "uri": source.uri,
        "live": source.live,
        "up": reading.up,
        "session": seen.session,
        "pts": round(seen.pts, 3),
        "state": seen.state.value,
        "reason": seen.reason,
        "last_frame_at": None if reading.last_frame_at is None else rfc3339(reading.last_frame_at),
        "latency": None if seen.latency is None else round(seen.latency, 4),
        "reconnects": reading.reconnects,
        "size": {"width": reading.size[0], "height": reading.size[1]},
        "overload": seen.overload,
        "operating_point": point.name,
        "threshold": round(sigmoid(point.threshold), 6),
        "tracks": [
            {
                "id": track.id,
                "state": states[track.id].value if track.id in states else State.INCONCLUSIVE.value,
                "bbox": {side: round(value, 1) for side, value in track.box._asdict().items()},
            }
            for track in seen.tracks
        ],
    }


def point_json(point: OperatingPoint) -> dict[str, Any]:
    """An operating point, on the scale of the scores."""
    return {"name": point.name, "threshold": round(sigmoid(point.threshold), 6), "promise": point.promise}
