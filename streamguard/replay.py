"""Replay: score the frames of an evidence folder again, and hold the scores against those recorded.

The clip is decoded by the same code as any file, each face cut out at the box recorded and scored by the same engine
in the same variant. Pictures are found by the clip's own timestamps, which ``scores.json`` took from the finished file;
the SHA-256 of each crop tells a clip that decodes to other pixels from an engine that says something else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from streamguard.decision.calibration import OperatingPoint, Temperature
from streamguard.decision.segments import DecisionSettings, TrackJudge
from streamguard.delivery.dossier import read_document, read_manifest
from streamguard.delivery.exhibit import SCORES_FORMAT
from streamguard.errors import EngineError, EngineForeign, EvidenceDamaged, EvidenceMissing, InputError
from streamguard.frames import U8, Box, Score, State
from streamguard.inference.backend import Backend, create_backend, run
from streamguard.inference.engines import Engine, carrier, load_engine
from streamguard.ingest.container import FileSource
from streamguard.vision.classifier import FaceInput

TOLERANCE: Final = 1e-3
"""The most by which two logits of one frame may differ."""


@dataclass(frozen=True, slots=True)
class Line:
    """One frame, scored again. ``found`` is None where the clip gives no such picture; logits, calibrated."""

    pts: float
    recorded: float
    found: float | None
    same_pixels: bool

    @property
    def difference(self) -> float | None:
        """Found minus recorded."""
        return None if self.found is None else self.found - self.recorded

    @property
    def holds(self) -> bool:
        """The score is the same."""
        return self.difference is not None and abs(self.difference) <= TOLERANCE


@dataclass(frozen=True, slots=True)
class Replay:
    """What came out. ``clip_error`` is set where the clip could not be read to its end; ``reencoded`` where its
    pictures are not those that were scored but encoded again, so that differences are no surprise."""

    lines: tuple[Line, ...]
    recorded: State
    found: State
    clip_error: str | None = None
    reencoded: bool = False

    @property
    def holds(self) -> bool:
        """Every score and the state are the same."""
        return self.found is self.recorded and bool(self.lines) and all(line.holds for line in self.lines)

    @property
    def largest(self) -> float:
        """The largest difference of logits."""
        return max((abs(line.difference) for line in self.lines if line.difference is not None), default=0.0)


def replay(folder: Path, engine: str | None = None) -> Replay:
    """Score a folder of evidence again. ``engine``: a folder with the classifier, where it is not one that ships.

    Raises:
        EvidenceMissing: the folder or a file of it is absent, or it has no clip.
        EvidenceDamaged: a file is not what the manifest states, or says nothing sensible.
        EngineError: the engine, variant or backend that scored is not at hand.
    """
    read_manifest(folder)
    path = folder / "scores.json"
    document = read_document(path, SCORES_FORMAT)
    try:
        recorded = _Recorded.of(document)
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceDamaged(f"'{path}' lacks or misstates {error}.") from error
    if recorded.clip is None:
        raise EvidenceMissing(f"'{folder}' holds no clip ({document.get('cut')}): there is nothing to score.")
    chosen = _engine(recorded.engine, engine)
    face = FaceInput.of(chosen)
    if (face.size, face.margin) != recorded.face:
        raise EngineForeign(
            f"engine '{chosen.name}' takes crops of {face.size} pixels, margin {face.margin}; the evidence was scored"
            f" with {recorded.face[0]} and {recorded.face[1]}."
        )
    completions: SimpleQueue[Any] = SimpleQueue()
    backend = create_backend(
        str(recorded.engine["backend"]), chosen, str(recorded.engine["variant"]), completions, slots=1
    )
    try:
        crops, problem = _crops(folder / recorded.clip, recorded, face)
        lines = tuple(_line(shot, crops.get(shot.ticks), recorded, backend, completions) for shot in recorded.shots)
    finally:
        backend.close()
    return Replay(lines, recorded.state, _state(recorded, lines), problem, recorded.reencoded)


@dataclass(frozen=True, slots=True)
class _Shot:
    """One score of scores.json."""

    pts: float
    ticks: int | None
    box: Box
    logit: float
    digest: str


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What scores.json says, in types."""

    shots: tuple[_Shot, ...]
    earlier: tuple[tuple[float, float], ...]
    state: State
    track: int
    clip: str | None
    reencoded: bool
    engine: Mapping[str, Any]
    face: tuple[int, float]
    calibration: Temperature
    point: OperatingPoint
    decision: DecisionSettings

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> _Recorded:
        """Raises: KeyError, TypeError, ValueError: the document is not what StreamGuard writes."""
        shots = [
            _Shot(float(s["pts"]), s["clip_pts"], Box(*map(float, s["box"])), float(s["logit"]), str(s["input"]))
            for s in document["scores"]
        ]
        (engine,) = (engine for engine in document["engines"] if engine["task"] == "classify")
        clip, face = document["clip"], document["preprocessing"]
        return cls(
            shots=tuple(shots),
            earlier=tuple((float(pts), float(logit)) for pts, logit in document["earlier"]),
            state=State(document["segment"]["state"]),
            track=int(document["segment"]["track"]),
            clip=None if clip is None else Path(str(clip["file"])).name,
            reencoded=clip is not None and bool(clip.get("reencoded", False)),  # older folders do not say
            engine=engine,
            face=(int(face["size"]), float(face["margin"])),
            calibration=Temperature(**document["calibration"]),
            point=_point(document["operating_point"]),
            decision=DecisionSettings(**document["decision"]),
        )


def _point(recorded: Mapping[str, Any]) -> OperatingPoint:
    rise = recorded["rise"]
    return OperatingPoint(
        str(recorded["name"]),
        float(recorded["threshold"]),
        str(recorded["promise"]),
        None if rise is None else float(rise),
    )


def _engine(wanted: Mapping[str, Any], folder: str | None) -> Engine:
    """The engine that scored, and no other."""
    name, variant = str(wanted["name"]), str(wanted["variant"])
    try:
        engine = load_engine(folder or name)
        carried = engine.variants.get(carrier(variant))
    except EngineError as error:
        raise EngineForeign(f"The evidence was scored by engine '{name}': {error}") from error
    if engine.sha256 != wanted["sha256"]:
        raise EngineForeign(
            f"The evidence was scored by engine '{name}' with SHA-256 {wanted['sha256']}; '{engine.folder}' holds"
            f" {engine.sha256}. Name a folder with the other by --engine."
        )
    if carried is None or carried.sha256 != wanted["variant_sha256"]:
        raise EngineForeign(
            f"The evidence was scored by variant '{variant}' of engine '{name}', SHA-256 {wanted['variant_sha256']};"
            f" '{engine.folder}' does not hold it. Name a folder that does by --engine."
        )
    return engine


def _crops(path: Path, recorded: _Recorded, face: FaceInput) -> tuple[dict[int | None, U8], str | None]:
    """The classifier's inputs by the clip's timestamps, each (S, S, 3) uint8 RGB; and what is wrong with the clip."""
    wanted = {shot.ticks: shot.box for shot in recorded.shots if shot.ticks is not None}
    crops: dict[int | None, U8] = {}
    try:
        with FileSource(path).open(1) as connection:
            for frame in connection:
                if frame.ticks in wanted:
                    crops[frame.ticks] = face.prepare(frame.picture, wanted[frame.ticks])
    except InputError as error:
        return crops, str(error)
    return crops, None


def _line(shot: _Shot, crop: U8 | None, recorded: _Recorded, backend: Backend, completions: SimpleQueue[Any]) -> Line:
    if crop is None:
        return Line(shot.pts, shot.logit, None, same_pixels=False)
    raw = float(run(backend, completions, crop[None]).ravel()[0])
    same = hashlib.sha256(crop.tobytes()).hexdigest() == shot.digest
    return Line(shot.pts, shot.logit, recorded.calibration.calibrated(raw), same)


def _state(recorded: _Recorded, lines: Sequence[Line]) -> State:
    """What the judge says of the scores found, after those recorded from before the clip."""
    judge = TrackJudge(recorded.decision, recorded.point, "replay", 1, recorded.track)
    for pts, logit in recorded.earlier:
        judge.observe(Score(recorded.track, pts, logit))
    before = judge.judged.segments if judge.state is not State.FLAGGED else 0
    for line in lines:
        if line.found is not None:
            judge.observe(Score(recorded.track, line.pts, line.found))
    return State.FLAGGED if judge.judged.segments > before else judge.judged.state
