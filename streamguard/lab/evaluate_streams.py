"""What the whole chain says of streams: is a forged passage found, how soon, how exactly, and what is it silent about?

Every stream is a file watched by :class:`~streamguard.pipeline.Guard` with its default settings: the shipped detector,
the serving sampler's rate, the operating point `default`. Two kinds: *simulated* streams of real people with a forged
passage (:mod:`streamguard.lab.simulated`), and *real recordings* as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import numpy as np

from streamguard.config import ClassifierChoice, Config
from streamguard.decision.verdicts import verdict
from streamguard.errors import InputError
from streamguard.frames import State
from streamguard.inference.engines import Engine
from streamguard.ingest.source import open_source
from streamguard.lab.data import Parts
from streamguard.lab.dataset import Dataset, Entry
from streamguard.lab.ledger import Ledger
from streamguard.lab.simulated import FaceForger, Plan, StreamSettings, frames_of, plans, recordings, write
from streamguard.lab.statistics import poisson, wilson
from streamguard.pipeline import Guard, StreamReport

SOON: Final = 10.0  # seconds after its start in which a passage should be found
GRACE: Final = 2.0  # seconds after a passage in which a segment still belongs to it
JUDGED_FROM: Final = 4.0  # seconds that a recording must last to be counted
ForgerOf = Callable[[str, int], FaceForger]


@dataclass(slots=True)
class Watched:
    """What the chain said of one stream: segments (start, end, when it was opened; seconds), and the whole."""

    segments: list[tuple[float, float, float]] = field(default_factory=list)
    state: str = ""
    reason: str | None = None
    error: str | None = None


class Watcher:
    """A Guard on one engine that watches file after file."""

    def __init__(self, engine: Engine, variant: str = "auto") -> None:
        self._reports: SimpleQueue[StreamReport] = SimpleQueue()
        self._opened: dict[str, float] = {}
        self._segments: list[tuple[float, float, float]] = []
        choice = ClassifierChoice(engine=str(engine.folder), variant=variant)
        self._guard = Guard(Config(classifier=choice), on_event=self._hear, on_end=self._reports.put)

    def __enter__(self) -> Watcher:
        self._guard.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._guard.__exit__(*exception)

    def watch(self, path: Path) -> Watched:
        """The whole of one file."""
        self._segments.clear()
        self._guard.add(open_source(str(path), name="stream"))
        report = self._reports.get()
        found = verdict([track.judged for track in report.tracks])
        return Watched(list(self._segments), found.state.value, found.reason, report.error)

    def _hear(self, event: dict[str, Any]) -> None:
        """In the inference thread, before the stream's end is told."""
        data = event["data"]
        if event["type"] == "streamguard.segment.opened.v1":
            waited = datetime.fromisoformat(event["time"]) - datetime.fromisoformat(data["started_at"])
            self._opened[data["segment_id"]] = data["pts"]["start"] + waited.total_seconds()
        elif event["type"] == "streamguard.segment.closed.v1" and data["state"] == State.FLAGGED.value:
            start, end = data["pts"]["start"], data["pts"]["end"]
            self._segments.append((start, end, self._opened.pop(data["segment_id"], start)))


def passage_found(watched: Watched, start: float, end: float) -> dict[str, Any]:
    """``delay`` (None: not found), ``iou`` of all that was flagged with the passage, ``alarms`` outside it."""
    inside = [s for s in watched.segments if s[0] < end + GRACE and s[1] > start and s[2] >= start]
    alarms = len(watched.segments) - len(inside)
    delay = min((opened for _, _, opened in inside), default=None)
    return {
        "delay": None if delay is None else round(max(0.0, delay - start), 2),
        "iou": round(_overlap([(s[0], s[1]) for s in inside], start, end), 3),
        "alarms": alarms,
    }


def _overlap(flagged: Sequence[tuple[float, float]], start: float, end: float) -> float:
    """Intersection over union of several passages, which do not overlap, with one."""
    grid = np.arange(0, max([end, *(stop for _, stop in flagged)]), 0.05)
    covered = np.zeros(grid.size, bool)
    for first, stop in flagged:
        covered |= (grid >= first) & (grid < stop)
    true = (grid >= start) & (grid < end)
    return float((covered & true).sum() / max(1, (covered | true).sum()))


def simulate(
    ledger: Ledger, data: Dataset, engine: Engine, families: Sequence[str], forger_of: ForgerOf,
    settings: StreamSettings, step: Callable[[int], None] = lambda left: None,
) -> dict[str, Any]:  # fmt: skip
    """Watch one simulated stream a person and family; ``step`` hears how many are left."""
    todo = plans(recordings(data, ("calibration", "measure")), families, settings)
    rows = []
    with Watcher(engine) as watcher:
        for done, plan in enumerate(todo):
            name = f"simulated/{plan.name}"
            if name not in ledger:
                path = data.root / plan.entry.path
                ledger.value(name, lambda p=plan, f=path: _one(watcher, ledger.out, p, f, forger_of, settings))  # type: ignore[misc]
            rows.append(ledger.value(name, dict))
            step(len(todo) - done - 1)
    return summary([row for row in rows if row["state"]], settings)


def _one(
    watcher: Watcher, out: Path, plan: Plan, recording: Path, forger_of: ForgerOf, settings: StreamSettings
) -> dict[str, Any]:
    row = {"part": plan.part, "family": plan.family, "crf": plan.crf, "state": ""}
    frames = frames_of(recording, settings)
    if len(frames) < settings.shortest * settings.fps * 0.8:
        return row | {"left_out": "too short"}
    path = out / "stream.mp4"
    try:
        forge = None if plan.family is None else forger_of(plan.family, len(plan.name) + plan.crf)
        write(path, frames, plan, settings, forge)
        watched = watcher.watch(path)
    except InputError as error:
        return row | {"left_out": str(error)}
    finally:
        path.unlink(missing_ok=True)  # real people: nothing of them stays in a run folder
    row |= {"state": watched.state, "reason": watched.reason}
    if plan.start is None:
        return row | {"alarms": len(watched.segments)}
    return row | passage_found(watched, plan.start, plan.start + settings.passage)


def summary(rows: Sequence[dict[str, Any]], settings: StreamSettings) -> dict[str, Any]:
    """By family and for all: streams, shares found at all and soon, median delay, mean IoU; false alarms an hour."""
    forged = [row for row in rows if row["family"] is not None]
    families = sorted({row["family"] for row in forged})
    real = [row for row in rows if row["family"] is None]
    seconds = len(real) * settings.length + len(forged) * (settings.length - settings.passage)
    return {
        "settings": asdict(settings),
        "families": [_found(name, [row for row in forged if row["family"] == name]) for name in families],
        "all": _found("all", forged),
        "false_alarms": an_hour(sum(row["alarms"] for row in rows), seconds),
        "real_streams": share(sum(row["state"] == State.FLAGGED for row in real), len(real)),
        "inconclusive": share(sum(row["state"] == State.INCONCLUSIVE for row in rows), len(rows)),
    }


def _found(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    delays = [row["delay"] for row in rows if row["delay"] is not None]
    return {
        "family": name,
        "found": share(len(delays), len(rows)),
        "soon": share(sum(delay <= SOON for delay in delays), len(rows)),
        "median_delay": round(float(np.median(delays)), 2) if delays else "none found",
        "mean_iou": round(float(np.mean([row["iou"] for row in rows])), 3) if rows else "no streams",
    }


def share(count: int, of: int) -> dict[str, Any]:
    """``count`` of ``of`` with its Wilson interval; of nothing, 0 to 1."""
    low, high = wilson(count, of) if of else (0.0, 1.0)
    return {"count": count, "of": of, "low": round(low, 4), "high": round(high, 4)}


def an_hour(count: int, seconds: float) -> dict[str, Any]:
    """False alarms in ``seconds`` of real video, and an hour, with the exact Poisson interval."""
    hours = max(seconds, 1e-9) / 3600
    low, high = poisson(count)
    return {"count": count, "seconds": round(seconds, 1), "value": round(count / hours, 2),
            "low": round(low / hours, 2), "high": round(high / hours, 2)}  # fmt: skip


def real_recordings(ledger: Ledger, data: Dataset, engine: Engine) -> dict[str, Any]:
    """The clips, and the measuring half of the talking people, as they are."""
    part_of = Parts(data.manifest)
    rows = []
    with Watcher(engine) as watcher:
        for entry in data.entries(split="sample"):
            if not entry.path.startswith("clips/") and part_of(entry) != "measure":
                continue
            rows.append(ledger.value(f"real/{entry.path}", lambda e=entry: _recording(watcher, data, e)))  # type: ignore[misc]
    return recorded(rows)


def _recording(watcher: Watcher, data: Dataset, entry: Entry) -> dict[str, Any]:
    path = data.root / entry.path
    watched = watcher.watch(path)
    with open_source(str(path)).open(1) as connection:
        last = max((frame.pts for frame in connection), default=0.0)
    return {
        "set": entry.path.partition("/")[0], "name": Path(entry.path).name, "label": entry.label,
        "seconds": round(last, 2), "state": watched.state, "reason": watched.reason,
        "segments": len(watched.segments), "error": watched.error,
    }  # fmt: skip


def recorded(rows: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Real recordings of :data:`JUDGED_FROM` seconds and more: flagged, inconclusive, alarms an hour; the fakes."""
    rows = list(rows)
    long = [row for row in rows if row["label"] == "real" and row["seconds"] >= JUDGED_FROM]
    found: dict[str, Any] = {}
    for name in (*sorted({row["set"] for row in long}), "both"):
        of = [row for row in long if name in (row["set"], "both")]
        found[name] = {
            "flagged": share(sum(row["state"] == State.FLAGGED for row in of), len(of)),
            "inconclusive": share(sum(row["state"] == State.INCONCLUSIVE for row in of), len(of)),
            "false_alarms": an_hour(sum(row["segments"] for row in of), sum(row["seconds"] for row in of)),
        }
    told = [row for row in long if row["state"] != State.CLEAR]
    return {"real": found, "not_clear": told, "fake": [row for row in rows if row["label"] == "fake"],
            "short": sum(row["label"] == "real" and row["seconds"] < JUDGED_FROM for row in rows)}  # fmt: skip
