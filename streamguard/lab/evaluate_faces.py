"""Frame AUC and calibration error of every subject on every set of held-out faces, with intervals over groups."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from streamguard.lab.data import STILLS, FaceStore
from streamguard.lab.heldout import DRESSES, SETS, Drawn, Dress, held
from streamguard.lab.ledger import Arrays, Ledger
from streamguard.lab.statistics import auc, ece, interval
from streamguard.lab.subjects import REFERENCE, Subject, crops_of, fitted

CALIBRATED_ON: Final = 100  # faces of a source and label, and pairs of a family


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """What everything is measured with: the run folder, the faces, and which of them."""

    ledger: Ledger
    store: FaceStore
    drawn: Drawn
    sets: tuple[str, ...] = SETS


def scored(bench: Bench, kind: str, subjects: Sequence[Subject], name: str, dress: Dress) -> Arrays:
    """``label``, ``group`` (numbers), and the raw logits of each subject by its name; made once a run folder."""
    return bench.ledger.arrays(f"{kind}/{name}/{dress}", partial(_scores, bench, subjects, name, dress))


def _scores(bench: Bench, subjects: Sequence[Subject], name: str, dress: Dress) -> Arrays:
    faces = held(bench.store, name, bench.drawn, dress, crops_of(subjects))
    _, group = np.unique(faces.group, return_inverse=True)
    scores: Arrays = {subject.name: subject.score(faces.pictures[subject.crop]) for subject in subjects}
    return {"label": faces.label, "group": group, **scores}


def scaled(bench: Bench, kind: str, subjects: Sequence[Subject]) -> list[Subject]:
    """The subjects, each on a scale: those that have none get one from the calibration part, where one fits."""
    bare = [subject for subject in subjects if subject.scale is None]
    if not bare:
        return list(subjects)
    part = replace(bench.drawn, part="calibration", each=min(CALIBRATED_ON, bench.drawn.each), seed=8)
    other = replace(bench, drawn=part)
    parts = [scored(other, f"{kind} calibration", bare, name, dress) for name in bench.sets for dress in DRESSES]
    labels = np.concatenate([found["label"] for found in parts])
    scales = {s.name: fitted(np.concatenate([found[s.name] for found in parts]), labels) for s in bare}
    return [replace(s, scale=scales[s.name]) if s.name in scales else s for s in subjects]


def figures(bench: Bench, kind: str, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """A row a set and dress: ``set``, ``dress``, ``real``, ``fake``, ``groups``, ``subjects`` (name -> auc, ece).

    Sets without faces of both labels are left out.
    """
    rows = []
    on_scale = scaled(bench, kind, subjects)
    for name in bench.sets:
        for dress in DRESSES:
            found = scored(bench, kind, subjects, name, dress)
            fakes = int(found["label"].sum())
            if not 0 < fakes < found["label"].size:
                continue
            of = bench.ledger.value(f"{kind} figures/{name}/{dress}", partial(_measured, on_scale, found))
            rows.append({"set": name, "dress": dress, "real": found["label"].size - fakes, "fake": fakes,
                         "groups": int(np.unique(found["group"]).size), "subjects": of})  # fmt: skip
    return rows


def _measured(subjects: Iterable[Subject], found: Arrays) -> dict[str, Any]:
    label, group = found["label"], found["group"]
    measured: dict[str, Any] = {}
    for subject in subjects:
        raw = found[subject.name].astype(np.float64)
        one: dict[str, Any] = {"auc": bounded(auc, raw, label, group), "ece": "no scale fits"}
        if subject.scale is not None:
            one["ece"] = bounded(ece, subject.calibrated(raw), label, group)
        measured[subject.name] = one
    return measured


def bounded(figure: Any, scores: npt.ArrayLike, label: npt.ArrayLike, group: npt.ArrayLike) -> dict[str, float]:
    """``value``, and ``low`` and ``high`` of its 95 % interval over groups."""
    low, high = interval(figure, scores, label, group)
    return {"value": round(figure(scores, label), 4), "low": round(low, 4), "high": round(high, 4)}


def losses(rows: Sequence[dict[str, Any]], reference: str = REFERENCE) -> dict[str, dict[str, float]]:
    """Of each other subject: mean and worst loss of AUC against the reference over the rows, in points."""
    names = [name for name in (rows[0]["subjects"] if rows else {}) if name != reference]
    found = {}
    for name in names:
        lost = [100 * (r["subjects"][reference]["auc"]["value"] - r["subjects"][name]["auc"]["value"]) for r in rows]
        found[name] = {"mean": round(float(np.mean(lost)), 2), "worst": round(max(lost), 2)}
    return found


def seen(rows: Sequence[dict[str, Any]], subject: str, dress: Dress = "plain") -> dict[str, float]:
    """AUC of a subject on each supplied source."""
    return {
        r["set"]: r["subjects"][subject]["auc"]["value"] for r in rows if r["dress"] == dress and r["set"] in STILLS
    }
