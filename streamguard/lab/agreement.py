"""``streamguard lab agreement``: the face detector against boxes on which two other detectors agree.

    streamguard lab agreement --engine engines/face-yolov8n --out runs/agreement

No picture is boxed by hand here, and one teacher's boxes have one teacher's taste. So a face is what two of three
(:mod:`streamguard.lab.teachers`) box alike; a box that one alone drew is neither right nor wrong. Each teacher stands
in the same table, judged by the two others. Pictures: those that ``lab detector`` holds out of training, and frames of
the data folder's clips. The run folder holds config.json, log.jsonl and metrics.json.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer
from rich.console import Console

from streamguard.errors import UsageError
from streamguard.frames import Box
from streamguard.inference.engines import Engine, load_engine
from streamguard.lab.data import frames_every
from streamguard.lab.dataset import Dataset
from streamguard.lab.detector_data import split
from streamguard.lab.detector_measure import (
    Detector,
    Found,
    above,
    engine_detector,
    hits,
    matched,
    precision_summary,
    share,
)
from streamguard.lab.ledger import Ledger
from streamguard.lab.teachers import AGREEING, Agreed, Teacher, agreed, judged, teachers
from streamguard.vision.detector import FaceDecoder

STEP: Final = 0.5  # seconds between two frames of a clip


@dataclass(frozen=True, slots=True)
class AgreementConfig:
    """``pictures``: held out, at least; ``seed``: of the cut, as in the detector's training; ``variants`` measured."""

    pictures: int = 600
    seed: int = 0
    variants: tuple[str, ...] = ("fp32", "int8")


_DEFAULT: Final = AgreementConfig()


def agreement(
    engine: Annotated[Path, typer.Option(help="Folder or name of a face detector's engine.")],
    out: Annotated[Path, typer.Option(help="Run folder, made if absent.")],
    pictures: Annotated[int, typer.Option(min=1, help="Held out, at least.")] = _DEFAULT.pictures,
    seed: Annotated[int, typer.Option(help="Of the cut; the detector's own, or it has seen these.")] = _DEFAULT.seed,
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
) -> None:
    """Measure the face detector against boxes on which two other detectors agree."""
    config = AgreementConfig(pictures, seed)
    metrics = measure(Dataset.from_environment(), load_engine(engine), out, config, resume=resume)
    console = Console(soft_wrap=True, highlight=False)
    for name, row in metrics["precision"].items():
        console.print(f"{name}: mAP50 {row['map50']:.3f}, mAP50-95 {row['map50_95']:.3f}, {row['faces']} faces")
    for name, row in metrics["clips"].items():
        console.print(f"{name}: {row['count']} of {row['of']} frames of the clips, {row['value']:.3f}")


def measure(
    data: Dataset, engine: Engine, out: Path, config: AgreementConfig, *, resume: bool = False
) -> dict[str, Any]:
    """What metrics.json holds: average precision on held-out pictures, shares of the clips' frames.

    Raises:
        InputMissing: the data folder or a package lacks a teacher's weights.
        UsageError: the folder holds another run, or there are no faces to measure on.
    """
    cv2.setNumThreads(1)
    size, confidence = engine.input.width, FaceDecoder.of(engine.manifest).confidence
    ledger = Ledger(out, {
        "verb": "agreement", "engine": engine.sha256, "pictures": config.pictures, "seed": config.seed,
        "variants": list(config.variants),
    }, resume=resume)  # fmt: skip
    judges = teachers(data.root, size)
    ours = {variant: engine_detector(engine, variant) for variant in config.variants}
    metrics = {
        "verb": "agreement", "name": engine.name, "version": engine.version, "sha256": engine.sha256,
        "command": f"streamguard lab agreement --engine engines/{engine.name} --out RUN --pictures {config.pictures} "
        f"--seed {config.seed}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": f"{platform.machine()} CPU", "size": size,
        "confidence": confidence, "teachers": {one.name: one.confidence for one in judges},
        "precision": ledger.value("pictures", partial(_on_pictures, data, config, ours, judges)),
        "clips": ledger.value("clips", partial(_on_clips, data, ours, judges, confidence)),
    }  # fmt: skip
    ledger.write(metrics)
    return metrics


def _on_pictures(
    data: Dataset, config: AgreementConfig, ours: dict[str, Detector], judges: Sequence[Teacher]
) -> dict[str, Any]:
    rows: dict[str, list[Any]] = {name: [] for name in (*ours, *(one.name for one in judges))}
    for entry in split(data, config.pictures, config.seed).held_out:
        rgb = data.read(entry)
        theirs = [one.detect(rgb) for one in judges]
        truth = truth_of(theirs, judges)
        for name, detect in ours.items():
            rows[name].append(_hits(detect(rgb), truth))
        for number, one in enumerate(judges):
            others = [i for i in range(len(judges)) if i != number]
            by_others = truth_of([theirs[i] for i in others], [judges[i] for i in others])
            rows[one.name].append(_hits(theirs[number], by_others))
    if not any(picture.faces for picture in next(iter(rows.values()))):
        raise UsageError("no two teachers agree on a face of these pictures: nothing can be measured.")
    return {name: precision_summary(pictures) for name, pictures in rows.items()}


def truth_of(theirs: Sequence[Found], judges: Sequence[Teacher]) -> Agreed:
    """What the teachers agree on, each at its own confidence."""
    return agreed([above(found, one.confidence) for found, one in zip(theirs, judges, strict=True)])


def _hits(found: Found, truth: Agreed) -> Any:
    return hits(judged(found, truth), [Box(*map(float, face)) for face in truth.faces])


def _on_clips(data: Dataset, ours: dict[str, Detector], judges: Sequence[Teacher], confidence: float) -> dict[str, Any]:
    """Of the frames on whose largest face two teachers agree: in how many the detector boxes that face, and how many
    of which clip it ``missed``."""
    missed: dict[str, Counter[str]] = {name: Counter() for name in ours}
    of = 0
    for entry in data.manifest:
        for _, rgb in frames_every(STEP, data.root / entry.path) if entry.path.startswith("clips/") else ():
            faces = truth_of([one.detect(rgb) for one in judges], judges).faces
            if not len(faces):
                continue
            of += 1
            largest = faces[[np.prod(faces[:, 2:] - faces[:, :2], axis=1).argmax()]]
            for name, detect in ours.items():
                missed[name][entry.path] += int((matched(above(detect(rgb), confidence), largest, AGREEING) < 0).all())
    if not of:
        raise UsageError(f"'{data.root / 'clips'}' shows no face on which two teachers agree: nothing can be measured.")
    return {name: {**share(of - clips.total(), of), "missed": dict(+clips)} for name, clips in missed.items()}
