"""What each corruption costs: AUC of every subject on corrupted faces of the supplied sources against clean ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from streamguard.lab.augment import plain
from streamguard.lab.corruptions import COMPRESSION, CORRUPTIONS, SEVERITIES, Corruption
from streamguard.lab.data import STILLS
from streamguard.lab.evaluate_faces import Bench
from streamguard.lab.heldout import FaceAt, faces_in
from streamguard.lab.ledger import Arrays
from streamguard.lab.statistics import auc
from streamguard.lab.subjects import Subject, crops_of

_RESAMPLES: Final = 200
_CLEAN: Final = "clean"
Faces = Mapping[str, Sequence[FaceAt]]
Cell = tuple[Corruption, int] | None


def corrupted(bench: Bench, subjects: Sequence[Subject], step: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Of each subject: AUC ``clean``, by corruption and severity, losses in points; ``step`` is called after each cell.

    AUC is the mean over the supplied sources that the part has.
    """
    faces = {source: list(faces_in(bench.store, source, bench.drawn)) for source in STILLS if source in bench.sets}
    faces = {source: of for source, of in faces.items() if {face.label for face in of} == {0, 1}}
    cells: dict[str, Arrays] = {}
    for cell in (None, *((c, severity) for c in CORRUPTIONS for severity in range(1, SEVERITIES + 1))):
        cells[_name(cell)] = bench.ledger.arrays(f"corruption/{_name(cell)}", partial(_scores, faces, subjects, cell))
        step()
    labels = {source: np.array([face.label for face in of]) for source, of in faces.items()}
    groups = {source: np.unique([face.group for face in of], return_inverse=True)[1] for source, of in faces.items()}
    return {
        "faces": sum(len(of) for of in faces.values()),
        "sources": list(faces),
        "steps": {c.name: {"unit": c.unit, "steps": list(c.steps)} for c in CORRUPTIONS},
        "subjects": {s.name: _summary(s.name, cells, labels, groups) for s in subjects},
    }


def _name(cell: Cell) -> str:
    return _CLEAN if cell is None else f"{cell[0].name}/{cell[1]}"


def _scores(faces: Faces, subjects: Sequence[Subject], cell: Cell) -> Arrays:
    """``SOURCE SUBJECT`` -> raw logits."""
    found: Arrays = {}
    for source, of in faces.items():
        placed = [(face.rgb, face.box) if cell is None else cell[0].apply(face.rgb, face.box, cell[1], face.seed)
                  for face in of]  # fmt: skip
        crops = {crop: np.stack([plain(rgb, box, crop) for rgb, box in placed]) for crop in crops_of(subjects)}
        found |= {f"{source} {subject.name}": subject.score(crops[subject.crop]) for subject in subjects}
    return found


def _summary(name: str, cells: Mapping[str, Arrays], labels: Arrays, groups: Arrays) -> dict[str, Any]:
    def mean_auc(cell: str, rows: Arrays | None = None) -> float:
        of = rows or {source: np.arange(label.size) for source, label in labels.items()}
        return float(np.mean([auc(cells[cell][f"{s} {name}"][of[s]], labels[s][of[s]]) for s in labels]))

    clean = mean_auc(_CLEAN)
    by_kind = {c.name: [mean_auc(f"{c.name}/{s}") for s in range(1, SEVERITIES + 1)] for c in CORRUPTIONS}
    lost = {kind: [100 * (clean - value) for value in values] for kind, values in by_kind.items()}
    everything = [
        (value, f"{kind}, severity {place}") for kind, of in lost.items() for place, value in enumerate(of, 1)
    ]
    worst = max(everything)
    return {
        "clean": round(clean, 4),
        "auc": {kind: [round(value, 4) for value in values] for kind, values in by_kind.items()},
        "mean_loss": {kind: round(float(np.mean(values)), 2) for kind, values in lost.items()},
        "worst_loss": {kind: round(max(values), 2) for kind, values in lost.items()},
        "mean": round(float(np.mean([value for value, _ in everything])), 2),
        "worst": {"points": round(worst[0], 2), "where": worst[1]},
        "compression": _compression(mean_auc, groups),
    }


def _compression(mean_auc: Callable[..., float], groups: Arrays, seed: int = 1) -> dict[str, float]:
    """Mean loss, points, over JPEG 95-50 and CRF 18-28, with its 95 % interval over groups."""
    cells = [f"{kind}/{severity}" for kind, of in COMPRESSION.items() for severity in of]

    def loss(rows: Arrays | None) -> float:
        return 100 * (mean_auc(_CLEAN, rows) - float(np.mean([mean_auc(cell, rows) for cell in cells])))

    rng = np.random.default_rng(seed)
    drawn = [loss({source: _resampled(of, rng) for source, of in groups.items()}) for _ in range(_RESAMPLES)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {"value": round(loss(None), 2), "low": round(float(low), 2), "high": round(float(high), 2)}


def _resampled(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Row numbers: whole groups drawn with replacement."""
    order = np.argsort(group, kind="stable")
    of_group = np.split(order, np.cumsum(np.bincount(group))[:-1])
    return np.concatenate([of_group[i] for i in rng.integers(len(of_group), size=len(of_group))])
