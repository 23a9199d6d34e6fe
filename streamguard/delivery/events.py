"""Events: what leaves the chain, as CloudEvents 1.0 in JSON.

An event's ``source`` and ``id`` together are unique, so a consumer that sees one twice may drop the second.
Scores leave as probabilities (the sigmoid of the calibrated logit), with the threshold they are held against.
The JSON Schema of every event is :func:`event_schema`; it ships with the package as ``event.schema.json``.

Envelope: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md; times: RFC 3339, UTC.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal, NamedTuple
from urllib.parse import quote

from streamguard.errors import redact
from streamguard.frames import Box, Clock, Quality, Segment, State, sigmoid

Event = dict[str, Any]
SegmentKind = Literal["opened", "updated", "closed"]
StreamKind = Literal["up", "down", "degraded"]

SCHEMA_URI: Final = "urn:streamguard:event:v1"
_PREFIX: Final = "streamguard"
_BASE36: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class EngineRef:
    """The model behind a score: engine folder's name, SHA-256 of its model file in hex, variant."""

    name: str
    sha256: str
    variant: str


@dataclass(frozen=True, slots=True)
class EventContext:
    """What every event of one run shares.

    ``run`` sets the ids of this run apart from those of an earlier one (:func:`run_name`);
    ``threshold`` is the operating point's, a logit.
    """

    node: str
    run: str
    operating_point: str
    threshold: float
    engines: tuple[EngineRef, ...]


@dataclass(frozen=True, slots=True)
class Timeline:
    """How stream time maps to the wall clock: ``wall(pts)`` is Unix time in seconds, ``clock`` says whose."""

    clock: Clock
    wall: Callable[[float], float]

    def at(self, pts: float) -> str:
        """RFC 3339 of a moment of stream time."""
        return rfc3339(self.wall(pts))


@dataclass(frozen=True, slots=True)
class Sighting:
    """Where the face was last seen, and how well."""

    bbox: Box | None = None
    quality: Quality | None = None


class Bar(NamedTuple):
    """What the evidence was held against: an operating point, and its threshold (a logit)."""

    operating_point: str
    threshold: float


class TrackRef(NamedTuple):
    """A track's full name: its number counts within one session of one stream."""

    stream: str
    session: int
    track: int


class EventFactory:
    """Turns segments, states and stream changes into events.

    The only state held is the next sequence number of each open segment. ``engines``, at first the context's, is what
    judges from now on.

    >>> context = EventContext("studio", "r1", "default", 0.0, ())
    >>> event = EventFactory(context).stream("down", "door", 0, at=0.0, reason="no frames")
    >>> event["type"], event["source"], event["time"]
    ('streamguard.stream.down.v1', '/streamguard/studio/door', '1970-01-01T00:00:00.000Z')
    """

    def __init__(self, context: EventContext) -> None:
        self.context = context
        self._sequence: dict[str, int] = {}
        self.engines = context.engines

    def name_of(self, segment: Segment) -> str:
        """The name that is unique over all runs: ``segment_id`` in events."""
        return f"{self.context.run}.{segment.id}"

    def segment(
        self,
        kind: SegmentKind,
        segment: Segment,
        pts: float,
        timeline: Timeline,
        sighting: Sighting = Sighting(),
        evidence: Event | None = None,
        bar: Bar | None = None,
    ) -> Event:
        """``streamguard.segment.<kind>.v1``: ``pts`` is the moment of the change, in seconds of stream time.

        ``evidence`` says where the segment's evidence is going to lie; without a ``bar`` it was the context's.
        """
        name = self.name_of(segment)
        sequence = self._sequence.pop(name, 0)
        if kind != "closed":
            self._sequence[name] = sequence + 1
        at, end = timeline.at(pts), segment.ended
        data = {
            "segment_id": name,
            "stream": segment.stream,
            "session": segment.session,
            "track": segment.track,
            "started_at": timeline.at(segment.started),
            "ended_at": None if end is None else timeline.at(end),
            "clock": timeline.clock,
            "pts": {"start": _seconds(segment.started), "end": None if end is None else _seconds(end)},
            "state": segment.state.value,
            "reason": segment.reason,
            "score": {"mean": _probability(segment.mean), "peak": _probability(segment.peak)},
            "frames": segment.frames,
            **_seen(sighting),
            "evidence": evidence,
            **self._judged(bar),
        }
        return self._event(f"segment.{kind}", segment.stream, f"{name}/{sequence}", at, data, segment.track)

    def track_state(
        self,
        of: TrackRef,
        state: State,
        pts: float,
        timeline: Timeline,
        *,
        reason: str | None = None,
        logit: float | None = None,
        sighting: Sighting = Sighting(),
        bar: Bar | None = None,
    ) -> Event:
        """``streamguard.track.state.v1``: the track is in ``state`` from ``pts`` on; ``logit`` is its statistic."""
        stream, session, track = of
        at = timeline.at(pts)
        data = {
            "stream": stream,
            "session": session,
            "track": track,
            "at": at,
            "clock": timeline.clock,
            "pts": _seconds(pts),
            "state": state.value,
            "reason": reason,
            "score": None if logit is None else _probability(logit),
            **_seen(sighting),
            **self._judged(bar),
        }
        name = f"{self.context.run}.{session}.{track}/{state.value}@{pts:.3f}"
        return self._event("track.state", stream, name, at, data, track)

    def stream(self, kind: StreamKind, stream: str, session: int, *, at: float, reason: str | None = None) -> Event:
        """``streamguard.stream.<kind>.v1`` at Unix time ``at``; URLs in ``reason`` are redacted."""
        data = {
            "stream": stream,
            "session": session,
            "at": rfc3339(at),
            "reason": None if reason is None else redact(reason),
        }
        name = f"{self.context.run}.{session}/{kind}@{at:.3f}"
        return self._event(f"stream.{kind}", stream, name, rfc3339(at), data, None)

    def _judged(self, bar: Bar | None) -> Event:
        """By what was judged."""
        point, threshold = bar or (self.context.operating_point, self.context.threshold)
        return {
            "operating_point": point,
            "threshold": _probability(threshold),
            "engines": [asdict(engine) for engine in self.engines],
        }

    def _event(self, kind: str, stream: str, name: str, time: str, data: Event, track: int | None) -> Event:
        event: Event = {
            "specversion": "1.0",
            "id": name,
            "source": f"/{_PREFIX}/{quote(self.context.node, safe='')}/{quote(stream, safe='')}",
            "type": f"{_PREFIX}.{kind}.v1",
            "time": time,
            "datacontenttype": "application/json",
            "dataschema": f"{SCHEMA_URI}#/$defs/{kind.partition('.')[0]}",
        }
        if track is not None:
            event["subject"] = str(track)
        event["data"] = data
        return event


def run_name(now: float) -> str:
    """A short name of a run that starts at Unix time ``now``: its milliseconds in base 36.

    >>> run_name(0.036)
    '10'
    """
    left = round(now * 1000)
    digits = ""
    while left:
        left, digit = divmod(left, 36)
        digits = _BASE36[digit] + digits
    return digits or "0"


def rfc3339(unix: float) -> str:
    """Unix time as RFC 3339 in UTC, to the millisecond.

    >>> rfc3339(1.5)
    '1970-01-01T00:00:01.500Z'
    """
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@cache
def event_schema() -> Event:
    """The JSON Schema (draft 2020-12) that every event satisfies. Not to be changed: it is shared."""
    text = files("streamguard.delivery").joinpath("event.schema.json").read_text(encoding="utf-8")
    schema: Event = json.loads(text)
    return schema


def _seen(sighting: Sighting) -> Event:
    box, quality = sighting.bbox, sighting.quality
    return {
        "bbox": None if box is None else {side: round(value, 1) for side, value in box._asdict().items()},
        "quality": None
        if quality is None
        else {"size": round(quality.size, 1), "sharpness": round(quality.sharpness, 1), "reason": quality.reason},
    }


def _probability(logit: float) -> float:
    return round(sigmoid(logit), 6)


def _seconds(pts: float) -> float:
    return round(pts, 3)
