"""Plain pictures in memory, each with its label and with what it belongs to: what small trainings draw from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streamguard.frames import U8, Box
from streamguard.lab.augment import Crop
from streamguard.lab.course import Batch
from streamguard.lab.policies import Paper


class Pictures(NamedTuple):
    """``pictures`` (N, S, S, 3) uint8 RGB, ``label`` (N,) uint8, 1 = fake, ``group`` (N,): what belongs together."""

    pictures: U8
    label: npt.NDArray[np.uint8]
    group: npt.NDArray[np.str_]

    def take(self, rows: npt.ArrayLike) -> Pictures:
        """Some of them."""
        at = np.asarray(rows)
        return Pictures(self.pictures[at], self.label[at], self.group[at])


class PictureBatches:
    """Batch number ``step`` of plain pictures: every one once an epoch, in a new order; ``augment``: by the paper's
    policy, anew each time."""

    def __init__(self, of: Pictures, batch: int, seed: int, *, augment: bool) -> None:
        self.of, self.batch, self.seed, self.augment = of, batch, seed, augment
        self.epoch = max(1, len(of.label) // batch)

    def __getitem__(self, step: int) -> Batch:
        epoch, place = divmod(step, self.epoch)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.of.label))
        rows = order[place * self.batch : (place + 1) * self.batch]
        pictures = self.of.pictures[rows]
        if self.augment:
            seeds = np.random.default_rng((self.seed, step, 1)).integers(2**31, size=rows.size)
            pictures = np.stack([augmented(p, int(seed)) for p, seed in zip(pictures, seeds, strict=True)])
        return Batch(pictures, self.of.label[rows].astype(np.float32))


def augmented(picture: U8, seed: int) -> U8:
    """(S, S, 3) uint8 RGB by the paper's policy; the whole picture is the face."""
    side = picture.shape[0]
    return Paper(seed).apply(np.ascontiguousarray(picture), Box(0, 0, side, side), Crop(side))
