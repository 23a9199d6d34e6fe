"""The methods of the paper's related work in one harness: an honest AUC each, and what each adds to the classifier.

Cues of one picture are fitted on couples of the families that the search trains on, and measured on held-out faces of
the part ``search``: families shown (*seen*) and all others (*unseen*). What a cue adds is fitted on the calibration
part. Cues of motion are fitted on the talking people who may train, and measured on those who only measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from streamguard.errors import UsageError
from streamguard.lab.data import FaceStore, Part
from streamguard.lab.evaluate_faces import bounded
from streamguard.lab.heldout import SETS, Drawn, held
from streamguard.lab.ledger import Arrays, Ledger
from streamguard.lab.pool import PoolConfig, build_pool
from streamguard.lab.replicate import motion
from streamguard.lab.replicate.cues import GanConfig, gan_subject, lbp_subject, train_gan
from streamguard.lab.replicate.gain import Both, gain
from streamguard.lab.search.material import families_of
from streamguard.lab.search.rules import ROLES
from streamguard.lab.statistics import auc
from streamguard.lab.subjects import Subject

STILL: Final = "one picture"
MOVING: Final = "a track"


@dataclass(frozen=True, slots=True)
class ArmsConfig:
    """``couples``: of a family in the pool. ``each``: held-out faces. ``steps``: of the GAN and the recurrent nets."""

    couples: int = 200
    each: int = 100
    size: int = 128
    steps: int = 600
    seed: int = 1
    trained: tuple[str, ...] = ROLES["trained"]


def still_arms(ledger: Ledger, store: FaceStore, base: Subject, config: ArmsConfig) -> list[dict[str, Any]]:
    """LBP and DCGAN: AUC on seen and unseen, the base's beside it, and what they add to it on the unseen."""
    seen = families_of(config.trained)
    pool_config = PoolConfig(config.size, each=config.couples, seed=config.seed, families=seen)
    pool = build_pool(store, ledger.out / "pool", pool_config)
    judge = train_gan(pool.pictures[:, 0], GanConfig(steps=config.steps, seed=config.seed), ledger.out / "gan" / "d.pt")
    subjects = [base, lbp_subject(pool, pool_config), gan_subject(judge, pool_config.crop)]
    fitted = _scored(ledger, store, subjects, "calibration", config)
    shown = _scored(ledger, store, subjects, "search", config)
    unseen = ~np.isin(shown["family"], seen)
    rows = []
    for subject in subjects:
        row: dict[str, Any] = {"arm": subject.name, "looks at": STILL}
        for name, chosen in (("seen", ~unseen), ("unseen", unseen)):
            row[name] = bounded(auc, *(shown[key][chosen] for key in (subject.name, "label", "group")))
        if subject is not base:
            both = Both(fitted[base.name], fitted[subject.name], fitted["label"])
            stacked = both(shown[base.name][unseen], shown[subject.name][unseen])
            row["adds"] = gain(shown[base.name][unseen], stacked, shown["label"][unseen], shown["group"][unseen])
        rows.append(row)
    return rows


def _scored(ledger: Ledger, store: FaceStore, subjects: Sequence[Subject], part: Part, config: ArmsConfig) -> Arrays:
    """``label``, ``group``, ``family`` and the raw scores of each subject, over every set of a part."""
    parts = [
        ledger.arrays(f"arms/{part}/{name}", partial(_of_set, store, subjects, name, Drawn(part, config.each)))
        for name in SETS
    ]
    parts = [found for found in parts if 0 < found["label"].sum() < found["label"].size]
    if not parts:
        raise UsageError(f"part '{part}' of the store has no set with both labels.")
    return {key: np.concatenate([found[key] for found in parts]) for key in parts[0]}


def _of_set(store: FaceStore, subjects: Sequence[Subject], name: str, drawn: Drawn) -> Arrays:
    faces = held(store, name, drawn, "plain", list(dict.fromkeys(subject.crop for subject in subjects)))
    scores = {s.name: s.score(faces.pictures[s.crop]).astype(np.float64) for s in subjects}
    family = np.array([name] * len(faces.label), dtype="U32")
    return {"label": faces.label, "group": faces.group, "family": family, **scores}


def moving_arms(ledger: Ledger, store: FaceStore, config: ArmsConfig) -> list[dict[str, Any]]:
    """The recurrent nets, their like without memory, and the rate of change: AUC on people who took no part."""
    size = config.size // 2
    train, test = (
        motion.Windows(**ledger.arrays(f"windows/{part}", partial(motion.windows, store, part, size, config.seed)))
        for part in ("fit", "measure")
    )
    scores = {"rate of change": ledger.arrays("moving/change", lambda: {"of": motion.change_scores(train, test)})["of"]}
    for memory in motion.MEMORIES:
        name = f"CNN, {memory}" if memory == "mean" else f"CNN + {memory}"
        folder = ledger.out / "recurrent" / memory
        make = partial(motion.recurrent_scores, memory, train, test, config.steps, folder)
        scores[name] = ledger.arrays(f"moving/{memory}", lambda make=make: {"of": make()})["of"]  # type: ignore[misc]
    people = [int(np.unique(of.group).size) for of in (train, test)]
    return [{"arm": name, "looks at": MOVING, "held out": bounded(auc, of, test.label, test.group),
             "people": people, "windows": len(test.label)} for name, of in scores.items()]  # fmt: skip
