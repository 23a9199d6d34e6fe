"""What trials are trained on and compared by: made once a search, read by every process of it.

``edge``: couples of the families that have the role *trained* (:data:`streamguard.lab.search.rules.ROLES`), from one
pool for each way of augmenting them; the score is the mean AUC over the families *compared*, on faces of the part
``search``. Everything is cut once, at the largest size that a space asks for, and reduced from there.

``paper2025``: plain crops of DFDC, cut 80/20 by picture as the paper does; the score is the loss on the 20 %. Beside it
stands the AUC on faces of the part ``search``, whose recordings no trial saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import nn

from streamguard.errors import UsageError
from streamguard.frames import U8
from streamguard.lab.augment import Crop, plain
from streamguard.lab.batches import MILLION
from streamguard.lab.course import Batch, Batches, Course, changed_in
from streamguard.lab.data import STILLS, FaceStore
from streamguard.lab.families import GROUPS
from streamguard.lab.heldout import Drawn, held
from streamguard.lab.ledger import Arrays, Ledger
from streamguard.lab.model import logits
from streamguard.lab.pictures import PictureBatches, Pictures
from streamguard.lab.policies import Cutout
from streamguard.lab.pool import Pool, PoolConfig, build_pool
from streamguard.lab.search.rules import ROLES
from streamguard.lab.search.spaces import PAPER_SIZE, Design
from streamguard.lab.statistics import auc

LARGEST: Final = 176  # px, of all sizes in the space
PAPER_SOURCE: Final = "dfdc"


@dataclass(frozen=True, slots=True)
class MaterialConfig:
    """``couples``: of a family, or of the paper's pictures in all. ``each``: held-out faces of a label and source,
    pairs of a family. ``trained``, ``compared``: names of groups."""

    couples: int = 400
    each: int = 200
    batch: int = 32
    seed: int = 1
    trained: tuple[str, ...] = ROLES["trained"]
    compared: tuple[str, ...] = ROLES["compared"]


class Measured(NamedTuple):
    """``score``: what the search goes by; NaN if a net's answers are no numbers. ``beside``: what else was seen."""

    score: float
    beside: dict[str, float]


class Material(Protocol):
    """What a study needs of its data. ``epoch``: steps; ``maximise``: whether a higher score is better."""

    epoch: int
    maximise: bool

    def batches(self, design: Design) -> Batches:
        """What a design is trained on."""
        ...

    def course(self, design: Design, epochs: int) -> Course:
        """How it is trained over ``epochs``."""
        ...

    def measure(self, net: nn.Module, design: Design) -> Measured:
        """What a trained net shows."""
        ...

    def some(self, size: int) -> U8:
        """(N, size, size, 3) uint8 RGB: a few faces, to weigh a net by."""
        ...


def families_of(groups: Sequence[str]) -> tuple[str, ...]:
    """The families of these groups. Raises UsageError for a group that is none."""
    unknown = [group for group in groups if group not in GROUPS]
    if unknown:
        raise UsageError(f"'{unknown[0]}' is no group of families. Known: {', '.join(GROUPS)}.")
    return tuple(family for group in groups for family in GROUPS[group])


def reduced(pictures: U8, size: int) -> U8:
    """(N, S, S, 3) uint8 RGB to (N, size, size, 3), by the mean over areas."""
    if not len(pictures) or pictures.shape[1] == size:
        return pictures
    return np.stack([np.asarray(cv2.resize(p, (size, size), interpolation=cv2.INTER_AREA), np.uint8) for p in pictures])


class Edge:
    """The material of both studies of ``edge``.

    Raises:
        UsageError: no couple to train on, or nothing to compare by.
    """

    maximise = True

    def __init__(self, store: FaceStore, out: Path, config: MaterialConfig, policies: Sequence[str]) -> None:
        self.config = config
        families = families_of(config.trained)
        self._pools: dict[str, Pool] = {}
        for policy in dict.fromkeys(map(_drawn_with, policies)):
            pool = PoolConfig(LARGEST, each=config.couples, seed=config.seed, families=families, policy=policy)
            self._pools[policy] = build_pool(store, out / f"pool-{policy}", pool)
        ledger = Ledger(out / "held", {"size": LARGEST, "each": config.each, "compared": list(config.compared)},
                        resume=True)  # fmt: skip
        drawn = Drawn("search", config.each)
        self._held: dict[str, dict[str, Arrays]] = {}
        for group in config.compared:
            for family in families_of([group]):
                found = ledger.arrays(family, partial(_shown, store, family, drawn))
                if 0 < found["label"].sum() < found["label"].size:
                    self._held.setdefault(group, {})[family] = found
        if not self._held:
            raise UsageError(f"the store has no faces of {', '.join(config.compared)} to compare nets by.")
        couples = min(len(pool.pictures) for pool in self._pools.values())
        self.epoch = max(1, 2 * couples // config.batch)

    def batches(self, design: Design) -> Batches:
        """Couples of the design's policy, at its size."""
        policy = str(design["augment"])
        return PooledBatches(self._pools[_drawn_with(policy)], design.size, self.config.batch, self.config.seed,
                             cutout=policy == "forensic+cutout")  # fmt: skip

    def course(self, design: Design, epochs: int) -> Course:
        """AdamW, warmed up, half a cosine over the whole course."""
        values = design.values
        steps = epochs * self.epoch
        return Course(
            steps=steps, rate=float(values["rate"]), decay=float(values.get("decay", 0.02)),
            warm_up=min(100, steps // 10), cosine=True, average=0.99 if values.get("average", True) else 0.0,
            smoothing=float(values.get("smoothing", 0.04)), mask=float(values["mask"]), clip=5.0, seed=self.config.seed,
        )  # fmt: skip

    def measure(self, net: nn.Module, design: Design) -> Measured:
        """The mean over groups of the mean AUC over a group's families; each family's AUC beside it."""
        beside: dict[str, float] = {}
        groups: list[float] = []
        for families in self._held.values():
            found = []
            for family, shown in families.items():
                scores = logits(net, reduced(shown["pictures"], design.size)).numpy()
                if not np.isfinite(scores).all():
                    return Measured(float("nan"), {})
                beside[family] = auc(scores, shown["label"])
                found.append(beside[family])
            groups.append(float(np.mean(found)))
        return Measured(float(np.mean(groups)), beside)

    def some(self, size: int) -> U8:
        """Thirty-two real faces of the training."""
        pool = next(iter(self._pools.values()))
        return reduced(pool.pictures[:32, 0], size)


def _drawn_with(policy: str) -> str:
    """The policy that the pool of ``policy`` is made with: holes come when a couple is drawn."""
    return "forensic" if policy == "forensic+cutout" else policy


def _shown(store: FaceStore, family: str, drawn: Drawn) -> Arrays:
    crop = Crop(LARGEST)
    faces = held(store, family, drawn, "plain", [crop])
    return {"pictures": faces.pictures[crop], "label": faces.label}


class PooledBatches:
    """Batch number ``step`` out of a pool: couples drawn evenly over families, with where each was changed."""

    def __init__(self, pool: Pool, size: int, batch: int, seed: int, *, cutout: bool) -> None:
        self.pool, self.size, self.batch, self.seed, self.cutout = pool, size, batch, seed, cutout
        self._rows = [np.flatnonzero(pool.family == family) for family in np.unique(pool.family)]

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed * MILLION + step) % 2**63)
        pictures, changed = [], []
        for family in rng.integers(len(self._rows), size=self.batch // 2):
            of = self._rows[family]
            row = int(of[rng.integers(of.size)])
            couple = reduced(self.pool.pictures[row], self.size)
            couple = couple[:, :, ::-1] if rng.random() < 0.5 else couple
            where = changed_in(couple)
            if self.pool.family[row] in STILLS:  # no partner of its own: nobody knows where
                where = np.full_like(where, np.nan)
            if self.cutout:
                seed = int(rng.integers(2**31))
                couple = np.stack([Cutout(seed).holed(np.ascontiguousarray(picture)) for picture in couple])
            pictures.append(couple)
            changed += [np.zeros_like(where), where]
        labels = np.tile(np.array([0, 1], np.float32), len(pictures))
        return Batch(np.concatenate(pictures), labels, np.stack(changed))


class PaperMaterial:
    """The material of ``paper2025``."""

    maximise = False

    def __init__(self, store: FaceStore, out: Path, config: MaterialConfig, _: Sequence[str] = ()) -> None:
        self.config = config
        ledger = Ledger(out / "pictures", {"size": PAPER_SIZE, "couples": config.couples, "each": config.each,
                                           "seed": config.seed}, resume=True)  # fmt: skip
        known = Pictures(**ledger.arrays("fit", partial(_cropped, store, config.couples, config.seed)))
        self._honest = Pictures(**ledger.arrays("search", partial(_cropped, store, config.each, config.seed, "search")))
        order = np.random.default_rng(config.seed).permutation(len(known.label))
        cut = len(order) * 4 // 5
        self._fit, self._rest = known.take(order[:cut]), known.take(order[cut:])
        self.epoch = PictureBatches(self._fit, config.batch, config.seed, augment=False).epoch

    def batches(self, design: Design) -> Batches:
        """The 80 %."""
        return PictureBatches(self._fit, self.config.batch, self.config.seed, augment=bool(design["augment"]))

    def course(self, design: Design, epochs: int) -> Course:
        """Adam at its usual rate, as AutoKeras compiles it."""
        return Course(steps=epochs * self.epoch, seed=self.config.seed)

    def measure(self, net: nn.Module, design: Design) -> Measured:
        """Loss on the 20 %, with its accuracy; AUC on recordings that no trial saw."""
        scores = logits(net, self._rest.pictures).double()
        label = torch.from_numpy(self._rest.label.astype(np.float64))
        loss = float(nn.functional.binary_cross_entropy_with_logits(scores, label))
        honest = logits(net, self._honest.pictures).numpy()
        if not np.isfinite(loss) or not np.isfinite(honest).all():
            return Measured(float("nan"), {})
        accuracy = float(((scores > 0).double() == label).double().mean())
        return Measured(loss, {"accuracy": accuracy, "auc of part search": auc(honest, self._honest.label)})

    def some(self, size: int) -> U8:
        """Thirty-two faces."""
        return reduced(self._fit.pictures[:32], size)


def _cropped(store: FaceStore, count: int, seed: int, part: Any = "fit") -> Arrays:
    """``count`` plain crops a label."""
    rng = np.random.default_rng(seed)
    pictures: list[U8] = []
    labels, groups = [], []
    for label in (0, 1):
        for row in rng.permutation(store.find(PAPER_SOURCE, part, label))[:count]:
            sample = store.read(PAPER_SOURCE, int(row))
            pictures.append(plain(sample.rgb, sample.box, Crop(PAPER_SIZE)))
            labels.append(label)
            groups.append(store.rows(PAPER_SOURCE)["group"][row].decode())
    if len(set(labels)) < 2:
        raise UsageError(f"'{store.path}' holds no real or no fake face of '{PAPER_SOURCE}' in part '{part}'.")
    return {"pictures": np.stack(pictures), "label": np.array(labels, np.uint8), "group": np.array(groups, "U128")}
