"""Faces made once, trained on many times: what comparisons of nets and of what they were shown need.

Most of a training step's time goes into making its batch. Runs that are to be compared anyway draw from one
pool: the serving crops of one part after the training chain, supplied faces and forged pairs side by side, each with
the group it belongs to. A run leaves groups out (:class:`PoolBatches`); nothing is made again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from torch.utils.data import Dataset as TorchDataset

from streamguard.errors import PictureSize
from streamguard.frames import F32, U8
from streamguard.lab import policies
from streamguard.lab.augment import Crop
from streamguard.lab.batches import GROUND, MILLION
from streamguard.lab.data import STILLS, FaceStore, Part, Sample
from streamguard.lab.families import FAMILIES, Forgers, forgers_of
from streamguard.lab.ledger import Ledger
from streamguard.lab.policies import policy_of

_CHUNK: Final = 100  # couples between two entries of the log


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """``each``: couples (a real face and a fake one) of a supplied source and of a forgery family of ``families``;
    ``policy``: what they all pass."""

    size: int = 128
    margin: float = 0.0
    each: int = 500
    seed: int = 1
    part: Part = "fit"
    families: tuple[str, ...] = (*STILLS, *FAMILIES)
    policy: str = policies.DEFAULT

    @property
    def crop(self) -> Crop:
        """What the nets see."""
        return Crop(self.size, self.margin)


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """Couples: ``pictures`` (N, 2, S, S, 3) uint8 RGB, real first, and what each couple is.

    ``family``: the forgery, or the source of a supplied fake; ``ground``: the source of the real face.
    """

    pictures: U8
    family: npt.NDArray[np.str_]
    ground: npt.NDArray[np.str_]

    def without(self, families: frozenset[str], grounds: frozenset[str]) -> npt.NDArray[np.intp]:
        """Row numbers of the couples that belong to none of these."""
        left_out = np.isin(self.family, list(families)) | np.isin(self.ground, list(grounds))
        return np.flatnonzero(~left_out)


def build_pool(store: FaceStore, out: Path, config: PoolConfig) -> Pool:
    """The pool in folder ``out``, made as far as it is not there. Families a store can't give are absent."""
    ledger = Ledger(out, {"size": config.size, "margin": config.margin, "each": config.each, "seed": config.seed,
                          "part": config.part, "families": list(config.families), **_policy(config)},
                    resume=True)  # fmt: skip
    forgers = forgers_of(store, config.part)
    chunks = [
        ledger.arrays(f"{family}/{start}", partial(_chunk, forgers, config, family, start))
        for family in config.families
        for start in range(0, config.each, _CHUNK)
    ]
    held = [chunk for chunk in chunks if len(chunk["ground"])]
    return Pool(*(np.concatenate([chunk[key] for chunk in held]) for key in ("pictures", "family", "ground")))


def _policy(config: PoolConfig) -> dict[str, str]:
    """Named where it is not the usual one: pools from before it could be chosen stay good."""
    return {} if config.policy == policies.DEFAULT else {"policy": config.policy}


def _chunk(forgers: Forgers, config: PoolConfig, family: str, start: int) -> dict[str, Any]:
    rng = np.random.default_rng((config.seed, zlib.crc32(family.encode()), start))
    count = min(_CHUNK, config.each - start)
    supplied = family in STILLS
    made = list(_supplied(forgers.store, config, family, rng, count) if supplied
                else _forged(forgers, config, family, rng, count))  # fmt: skip
    empty = np.zeros((0, 2, config.size, config.size, 3), np.uint8)
    return {
        "pictures": np.stack([np.stack(couple) for _, couple in made]) if made else empty,
        "family": np.array([family] * len(made), dtype="U32"),
        "ground": np.array([ground for ground, _ in made], dtype="U32"),
    }


def _supplied(
    store: FaceStore, config: PoolConfig, source: str, rng: np.random.Generator, count: int
) -> Iterator[tuple[str, tuple[U8, U8]]]:
    rows = [store.find(source, config.part, label) for label in (0, 1)]
    for _ in range(count if all(of.size for of in rows) else 0):
        samples = [store.read(source, int(of[rng.integers(of.size)])) for of in rows]
        real, fake = (_dressed(s, int(rng.integers(2**31)), config) for s in samples)
        yield source, (real, fake)


def _dressed(sample: Sample, seed: int, config: PoolConfig) -> U8:
    return policy_of(config.policy)(seed).apply(sample.rgb, sample.box, config.crop)


def _forged(
    forgers: Forgers, config: PoolConfig, family: str, rng: np.random.Generator, count: int
) -> Iterator[tuple[str, tuple[U8, U8]]]:
    grounds = {source: forgers.store.find(source, config.part, 0) for source in GROUND}
    grounds = {source: rows for source, rows in grounds.items() if rows.size}
    share = np.array([GROUND[source] for source in grounds]) / sum(GROUND[source] for source in grounds)
    for _ in range(count if grounds else 0):
        ground = list(grounds)[rng.choice(len(grounds), p=share)]
        index = int(grounds[ground][rng.integers(grounds[ground].size)])
        try:
            box, real, fake = forgers.pair(family, ground, index, rng)
        except PictureSize:  # this face can't be forged
            continue
        chain = policy_of(config.policy)(int(rng.integers(2**31)))
        yield ground, (chain.apply(real, box, config.crop), chain.apply(fake, box, config.crop))


class PoolBatches(TorchDataset[tuple[U8, F32]]):
    """Batch number ``step`` out of a pool's ``rows``: couples drawn evenly over families, mirrored now and then."""

    def __init__(self, pool: Pool, rows: npt.NDArray[np.intp], batch: int, seed: int) -> None:
        self.pool, self.batch, self.seed = pool, batch, seed
        families: Mapping[str, npt.NDArray[np.intp]] = {
            str(family): rows[pool.family[rows] == family] for family in np.unique(pool.family[rows])
        }
        self._families = list(families.values())

    def __getitem__(self, step: int) -> tuple[U8, F32]:
        rng = np.random.default_rng((self.seed * MILLION + step) % 2**63)
        pictures = []
        for family in rng.integers(len(self._families), size=self.batch // 2):
            of = self._families[family]
            couple = self.pool.pictures[of[rng.integers(of.size)]]
            pictures.append(couple[:, :, ::-1] if rng.random() < 0.5 else couple)
        return np.concatenate(pictures), np.tile(np.array([0, 1], np.float32), len(pictures))
