"""Evidence of made media without a model: frames of a file are shown to a keeper as the inference thread shows them."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from prometheus_client import CollectorRegistry

from streamguard.delivery.events import Timeline
from streamguard.delivery.evidence import Clocks, EvidenceKeeper, EvidenceSettings
from streamguard.delivery.gathering import Collector, Span
from streamguard.frames import Box, Frame, Look, Segment, State
from streamguard.ingest.container import FileSource
from streamguard.metrics import Metrics
from streamguard.pixels import crop

BOX = Box(100.25, 60.5, 180.75, 160.125)
TIMELINE = Timeline("file", lambda pts: 1_000_000.0 + pts)
SPAN = Span(pre=1.0, post=1.0, longest=60.0)
FACTS = {"node": "test", "engines": []}


def segment(start: float, end: float | None = None, *, stream: str = "door", track: int = 1) -> Segment:
    """A flagged one."""
    return Segment(f"segment-{start:g}", stream, 1, track, start, end, State.FLAGGED, None, 1.0, 2.0, 10)


def logit(pts: float) -> float:
    """What the scores of these tests are: highest at 3 s."""
    return 3.0 - abs(pts - 3.0)


def look_at(frame: Frame) -> Look:
    """A face that is always in one place."""
    return Look(1, BOX, crop(frame.picture, BOX, 64, 0.1), logit(frame.pts))


def shown(
    path: Path, owner: Any, start: float = 2.0, end: float | None = 4.0, *, stream: str = "door", last: bool = True
) -> Iterator[Any]:
    """Show a film to a collector or keeper, whose segment opens at ``start`` and closes at ``end``; what that returns.

    ``last``: the session ends with the film.
    """
    keeper = isinstance(owner, EvidenceKeeper)
    source = FileSource(path, name=stream)
    source.keep(SPAN.keep)
    named = (stream,) if keeper else ()
    opened = closed = False
    with source.open(1) as connection:
        owner.begin(*named, connection.recording)
        for frame in connection:
            if frame.index % 5 == 0:
                owner.looked(frame, [look_at(frame)])
                if not opened and frame.pts >= start + 1.0:  # as in life: it is known late
                    opened = True
                    yield _changed(owner, "opened", segment(start, stream=stream))
                elif not closed and end is not None and frame.pts >= end + 0.5:
                    closed = True
                    yield _changed(owner, "closed", segment(start, end, stream=stream))
            yield (owner.analysed if keeper else owner.advance)(frame)
        if last:
            yield owner.end(stream, "end of stream", final=True) if keeper else owner.end("end of stream")


def _changed(owner: Any, kind: Any, of: Segment) -> Any:
    if isinstance(owner, EvidenceKeeper):
        return owner.segment(kind, f"run.{of.id}", of, TIMELINE)
    return owner.opened(of.id, of, TIMELINE) if kind == "opened" else owner.changed(of.id, of)


def exhibits_of(path: Path, start: float = 2.0, end: float | None = 4.0, span: Span = SPAN) -> list[Any]:
    """What a collector gives of a film."""
    collector = Collector(span, lambda: FACTS)
    return [exhibit for given in shown(path, collector, start, end) if isinstance(given, list) for exhibit in given]


class Kept:
    """A keeper over a folder, with its metrics."""

    def __init__(self, folder: Path, clocks: Clocks | None = None, bound: int = 8, **settings: Any) -> None:
        defaults = {"pre": SPAN.pre, "post": SPAN.post, "reserve_bytes": 0}
        self.metrics = Metrics(CollectorRegistry())
        self.folder = folder
        chosen = EvidenceSettings(folder=str(folder), **(defaults | settings))
        self.keeper = EvidenceKeeper(chosen, lambda: FACTS, self.metrics, clocks, bound)

    def __enter__(self) -> Kept:
        self.keeper.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.keeper.stop()

    def show(self, path: Path, start: float = 2.0, end: float | None = 4.0, stream: str = "door") -> list[Any]:
        """Show a film; what its segment's events say of evidence."""
        given = shown(path, self.keeper, start, end, stream=stream)
        return [item for item in given if isinstance(item, dict)]

    def count(self, outcome: str, stream: str = "door") -> float:
        """Of ``streamguard_evidence_total``."""
        labels = {"stream": stream, "outcome": outcome}
        return self.metrics.registry.get_sample_value("streamguard_evidence_total", labels) or 0.0


def pictures(file: Path | bytes) -> dict[int, str]:
    """SHA-256 of the planes of every picture that decodes, by its timestamp."""
    found: dict[int, str] = {}
    with av.open(io.BytesIO(file) if isinstance(file, bytes) else str(file), "r") as container:
        container.streams.video[0].thread_type = "NONE"
        for frame in container.decode(container.streams.video[0]):
            assert frame.pts is not None
            found[frame.pts] = hashlib.sha256(frame.to_ndarray().tobytes()).hexdigest()
    return found
