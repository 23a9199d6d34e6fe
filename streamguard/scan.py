"""``streamguard scan``: files in, one verdict a file out, in the order given."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal

from streamguard.analysis import TrackOutcome
from streamguard.chain import usable_cores
from streamguard.config import Config
from streamguard.decision.calibration import OperatingPoint
from streamguard.decision.segments import NO_FACE
from streamguard.decision.verdicts import Verdict, image_verdict, verdict
from streamguard.errors import InputError
from streamguard.frames import State, sigmoid
from streamguard.ingest.container import media_files
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard, StreamReport

Kind = Literal["image", "video"]


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What is said of one file. ``error`` names what stopped the scan of it; what decoded before was judged."""

    path: str
    kind: Kind
    verdict: Verdict
    point: OperatingPoint
    tracks: tuple[TrackOutcome, ...]
    error: str | None

    def to_json(self) -> dict[str, Any]:
        """One line of ``scan --json``: scores and threshold are 0..1, times seconds."""
        return {
            "path": self.path,
            "kind": self.kind,
            "state": self.verdict.state.value,
            "reason": self.verdict.reason,
            "score": _rounded(self.verdict.score),
            "operating_point": self.point.name,
            "threshold": _rounded(sigmoid(self.point.threshold)),
            "faces": len(self.tracks),
            "tracks": [self._track(track) for track in self.tracks],
            "segments": [
                {
                    "track": segment.track,
                    "start": round(segment.started, 3),
                    "end": None if segment.ended is None else round(segment.ended, 3),
                    "score": _rounded(sigmoid(segment.mean)),
                    "state": segment.state.value,
                }
                for track in self.tracks
                for segment in track.segments
            ],
            "error": self.error,
        }

    def _track(self, track: TrackOutcome) -> dict[str, Any]:
        judged = track.judged
        logit, state = judged.peak, judged.state
        if self.kind == "image":
            logit = track.best
            state = image_verdict([] if logit is None else [logit], self.point).state
        score = None if logit is None else _rounded(sigmoid(logit))
        return {"id": judged.track, "score": score, "state": state.value, "frames": judged.frames}


def expand(paths: Sequence[str]) -> list[tuple[str, str | None]]:
    """(path, error) of every file to scan: folders give their media, in name order; a bad path gives its error."""
    files: list[tuple[str, str | None]] = []
    for path in paths:
        try:
            found = media_files(Path(path)) if Path(path).is_dir() else [Path(path)]
        except InputError as error:
            files.append((path, str(error)))
        else:
            files += [(str(file), None) for file in found]
    return files


def scan(
    files: Sequence[tuple[str, str | None]], config: Config, metrics: Metrics | None = None
) -> Iterator[FileVerdict]:
    """Judge every file, a few at a time, through the same chain as live streams.

    A file that can't be read gets its verdict with ``error``; the others go on.

    Raises:
        EngineError, ConfigError: before the first file.
    """
    reports: SimpleQueue[StreamReport] = SimpleQueue()
    guard = Guard(config, metrics=metrics, on_end=reports.put)
    point = guard.point
    done: dict[int, FileVerdict] = {}
    started = yielded = running = 0
    with guard:
        while yielded < len(files):
            while running <= usable_cores() and started < len(files):
                path, error = files[started]
                if error is None:
                    guard.add(open_source(path, name=str(started)))
                    running += 1
                else:
                    done[started] = _failed(path, error, point)
                started += 1
            if yielded not in done:
                report = reports.get()
                running -= 1
                number = int(report.stream)
                done[number] = _judge(files[number][0], report, point)
            while yielded in done:
                yield done.pop(yielded)
                yielded += 1


def _judge(path: str, report: StreamReport, point: OperatingPoint) -> FileVerdict:
    if report.still:
        reasons = [track.judged.reason for track in report.tracks if track.best is None]
        scores = [track.best for track in report.tracks if track.best is not None]
        found = image_verdict(scores, point, next((reason for reason in reasons if reason), NO_FACE))
    elif report.error is not None and not report.tracks:
        found = Verdict(State.INCONCLUSIVE, "unreadable", None)
    else:
        found = verdict([track.judged for track in report.tracks])
    return FileVerdict(path, "image" if report.still else "video", found, point, report.tracks, report.error)


def _failed(path: str, error: str, point: OperatingPoint) -> FileVerdict:
    return FileVerdict(path, "video", Verdict(State.INCONCLUSIVE, "unreadable", None), point, (), error)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
