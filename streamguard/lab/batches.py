"""What a training batch is made of.

Half of it are supplied pictures, as many real as fake of each source; half are forged pairs, real partner
and fake through one and the same chain: self-blended, or of the families that ``Mixture.families`` names. No source
is ever shown with one label only, or the source would be the answer. A batch depends on (seed, step) alone, so a
resumed run sees what an unbroken one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import cv2
import numpy as np
from torch.utils.data import Dataset as TorchDataset

from streamguard.errors import PictureSize, UsageError
from streamguard.frames import F32, U8, Box
from streamguard.ingest.forgery import SelfBlend
from streamguard.lab import policies
from streamguard.lab.augment import Chain, Crop, softened
from streamguard.lab.data import FaceStore, Part, Sample
from streamguard.lab.forge import table
from streamguard.lab.forge.forger import Forger
from streamguard.lab.forge.meshfile import Meshes
from streamguard.lab.policies import Policy, policy_of

# Real pictures a batch of 16 supplied ones takes from each source; as many fakes. Few StyleGAN pictures exist.
SUPPLIED: Final = {"dfdc": 3.5, "openforensics": 3.5, "stylegan": 1.0}
# Pairs: real faces in real, recompressed video first, since that is where false alarms are.
GROUND: Final = {"talking": 3.0, "utkface": 1.5, "dfdc": 1.5, "openforensics": 1.5, "stylegan": 0.5}
MILLION: Final = 1_000_003  # a prime: seeds of neighbouring steps share no stream


@dataclass(frozen=True, slots=True)
class Mixture:
    """How batches are drawn. ``pairs`` is the share of the batch that forged pairs fill."""

    batch: int = 32
    pairs: float = 0.5
    crop: Crop = field(default_factory=Crop)
    part: Part = "fit"
    seed: int = 1
    families: str = table.DEFAULT  # see streamguard.lab.forge.table
    policy: str = policies.DEFAULT
    twins: int = 0  # pictures of the forged pairs, half of them real, that come a second time, stored once more


class Batches(TorchDataset[tuple[U8, F32]]):
    """Batch number ``step``: pictures (N + T, S, S, 3) uint8 RGB, labels (N + T,) float32, 1 = fake.

    N is ``mixture.batch``. The last T = ``mixture.twins`` show what the first T show, stored once more.
    """

    def __init__(self, store: FaceStore, mixture: Mixture, steps: int) -> None:
        self.store, self.mixture, self.steps = store, mixture, steps
        chosen, self._policy = table.choose(mixture.families), policy_of(mixture.policy)
        self._supplied = {
            (source, label): store.find(source, mixture.part, label) for source in chosen.supplied for label in (0, 1)
        }
        self._supplied = {key: rows for key, rows in self._supplied.items() if rows.size}
        self._ground = {source: store.find(source, mixture.part, 0) for source in GROUND}
        self._ground = {source: rows for source, rows in self._ground.items() if rows.size}
        if not self._ground:
            raise UsageError(f"'{store.path}' holds no real face of part '{mixture.part}' to forge. Build it anew.")
        alone = {
            source
            for source, _ in self._supplied
            if (source, 0) not in self._supplied or (source, 1) not in self._supplied
        }
        for source in alone:  # one label only: the source would give it away
            self._supplied = {key: rows for key, rows in self._supplied.items() if key[0] != source}
        most = 2 * self._pairs
        if mixture.twins % 2 or not 0 <= mixture.twins <= most:
            raise UsageError(f"{mixture.twins} twins: an even number up to {most}, the pictures of the pairs, will do.")
        self._forger = None
        if not chosen.plain:
            self._forger = Forger(store, Meshes(store), mixture.part, chosen.families, tuple(self._ground))

    def __len__(self) -> int:
        return self.steps

    @property
    def _pairs(self) -> int:
        return round(self.mixture.batch * (self.mixture.pairs if self._supplied else 1.0) / 2)

    def __getitem__(self, step: int) -> tuple[U8, F32]:
        cv2.setNumThreads(1)
        mixture = self.mixture
        rng = np.random.default_rng((mixture.seed * MILLION + step) % 2**63)
        pairs = self._pairs
        pictures: list[U8] = []
        labels: list[int] = []
        twins: list[U8] = []
        for source in _choices(rng, {s: w for s, w in GROUND.items() if s in self._ground}, pairs):
            views = self._pair(source, rng, twice=len(twins) < mixture.twins)
            pictures += views[:2]
            twins += views[2:]
            labels += [0, 1]
        couples = (mixture.batch - 2 * pairs) // 2
        for source in _choices(rng, {s: w for s, w in SUPPLIED.items() if (s, 0) in self._supplied}, couples):
            for label in (0, 1):
                rows = self._supplied[source, label]
                sample = self.store.read(source, int(rows[rng.integers(rows.size)]))
                chain = self._policy(int(rng.integers(2**31)))
                pictures.append(chain.apply(sample.rgb, sample.box, mixture.crop))
                labels.append(label)
        return np.stack(pictures + twins), np.array(labels + labels[: len(twins)], np.float32)

    def _pair(self, source: str, rng: np.random.Generator, *, twice: bool) -> list[U8]:
        rows = self._ground[source]
        while True:
            index = int(rows[rng.integers(rows.size)])
            try:
                if self._forger is None:
                    return forged_pair(
                        self.store.read(source, index), rng, self.mixture.crop, self._policy, twice=twice
                    )
                made = self._forger.forge(source, index, rng)
                chain = self._policy(int(rng.integers(2**31)))
                return through(chain, made.pair[:2], made.ground.box, self.mixture.crop, twice=twice)
            except PictureSize:  # landmarks outside the picture: another face takes its place
                continue


def through(chain: Policy, pair: tuple[U8, U8], box: Box, crop: Crop, *, twice: bool) -> list[U8]:
    """Both partners through one chain: (real, fake), and with ``twice`` their second views after them."""
    if not twice:
        return [chain.apply(picture, box, crop) for picture in pair]
    views = [chain.twice(picture, box, crop) for picture in pair]
    return [*(first for first, _ in views), *(second for _, second in views)]


def forged_pair(
    sample: Sample,
    rng: np.random.Generator,
    crop: Crop,
    policy: Callable[[int], Policy] = Chain,
    *,
    twice: bool = False,
) -> list[U8]:
    """(real, fake), self-blended, (size, size, 3) uint8 RGB each, as :func:`through` one chain.

    In one case of five the ground is softened before it is forged: an enlarged picture is nothing suspicious.

    Raises:
        PictureSize: the face is too small or lies outside the picture.
    """
    ground = sample.rgb
    if rng.random() < 0.2:
        ground = softened(ground, max(sample.box.width, sample.box.height), rng)
    forgery = SelfBlend.draw(rng)
    chain = policy(int(rng.integers(2**31)))
    real, fake, _ = forgery.pair(ground, sample.landmarks)
    return through(chain, (real, fake), sample.box, crop, twice=twice)


def _choices(rng: np.random.Generator, weights: dict[str, float], count: int) -> list[str]:
    if not weights:
        return []
    share = np.array(list(weights.values())) / sum(weights.values())
    return [list(weights)[i] for i in rng.choice(len(weights), count, p=share)]
