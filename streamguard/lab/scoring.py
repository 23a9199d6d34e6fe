"""The sets of faces that figures are taken on: made once for a part, scored by every variant of a net.

Stills are scored twice: ``plain``, as serving crops them, and ``chain``, degraded as in training. Forged pairs
come of real faces that training never saw. Tracks are the faces of talking people, in the order of time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from streamguard.decision.statistics import Ewma, Rise
from streamguard.errors import PictureSize
from streamguard.frames import F32, U8
from streamguard.lab.augment import Chain, Crop, plain
from streamguard.lab.batches import GROUND, forged_pair
from streamguard.lab.data import STILLS, FaceStore, Part

Scorer = Callable[[U8], F32]
EACH: Final = 300  # pictures of a source and label, and pairs of all grounds together
SHORTEST: Final = 2.0  # seconds a track must last to be counted


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Pictures (N, S, S, 3) uint8 RGB with what is known of each; ``kind`` is plain, chain or forged."""

    pictures: U8
    kind: npt.NDArray[np.str_]
    source: npt.NDArray[np.str_]
    label: npt.NDArray[np.uint8]
    group: npt.NDArray[np.str_]

    def where(self, kind: str, source: str | None = None) -> npt.NDArray[np.intp]:
        """Row numbers of one kind, of one source if it is given."""
        chosen = self.kind == kind
        return np.flatnonzero(chosen if source is None else chosen & (self.source == source))


def faces_of(store: FaceStore, part: Part, crop: Crop, seed: int = 7, each: int = EACH) -> Faces:
    """The figures' faces of a part. The same arguments give the same pictures."""
    rng = np.random.default_rng(seed)
    rows: list[tuple[U8, str, str, int, str]] = []
    for source in STILLS:
        for label in (0, 1):
            for index in _some(rng, store.find(source, part, label), each):
                sample = store.read(source, int(index))
                group = store.rows(source)["group"][index].decode()
                degraded = Chain(int(rng.integers(2**31))).apply(sample.rgb, sample.box, crop)
                rows.append((plain(sample.rgb, sample.box, crop), "plain", source, label, group))
                rows.append((degraded, "chain", source, label, group))
    rows += _forged(store, part, crop, rng, each)
    pictures, kinds, sources, labels, groups = zip(*rows, strict=True)
    return Faces(np.stack(pictures), np.array(kinds), np.array(sources), np.array(labels, np.uint8), np.array(groups))


def _forged(
    store: FaceStore, part: Part, crop: Crop, rng: np.random.Generator, each: int
) -> Iterator[tuple[U8, str, str, int, str]]:
    grounds = {source: store.find(source, part, 0) for source in GROUND}
    grounds = {source: found for source, found in grounds.items() if found.size}
    for source, found in grounds.items():
        for index in _some(rng, found, max(1, each // len(grounds))):
            try:
                pair = forged_pair(store.read(source, int(index)), rng, crop)
            except PictureSize:  # this face can't be forged; its place stays empty
                continue
            group = store.rows(source)["group"][index].decode()
            yield from ((picture, "forged", source, label, group) for label, picture in enumerate(pair))


def _some(rng: np.random.Generator, rows: npt.NDArray[np.intp], count: int) -> npt.NDArray[np.intp]:
    return rng.permutation(rows)[:count]


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """One face of one video: times in seconds and pictures as serving crops them."""

    group: str
    pts: F32
    pictures: U8


def tracks_of(store: FaceStore, part: Part, crop: Crop) -> list[Track]:
    """The talking faces of a part. A video ends where the person changes or time runs back."""
    rows = store.rows("talking")
    found: list[Track] = []
    run: list[int] = []
    for index in map(int, store.find("talking", part)):
        if run and (rows["group"][index] != rows["group"][run[-1]] or rows["pts"][index] <= rows["pts"][run[-1]]):
            found.append(_track(store, run, crop))
            run = []
        run.append(index)
    if run:
        found.append(_track(store, run, crop))
    return found


def _track(store: FaceStore, run: list[int], crop: Crop) -> Track:
    rows = store.rows("talking")[run]
    samples = (store.read("talking", index) for index in run)
    pictures = np.stack([plain(sample.rgb, sample.box, crop) for sample in samples])
    return Track(rows["group"][0].decode(), rows["pts"].astype(np.float32), pictures)


def peak(pts: F32, calibrated: npt.NDArray[np.floating]) -> tuple[float, float]:
    """The highest level and the highest rise of a track's statistic, as serving computes them.

    The level counts once a second of the track was seen; -inf where there never was enough.
    """
    level, rise = Ewma(), Rise()
    highest = highest_rise = -math.inf
    for when, logit in zip(pts, calibrated, strict=True):
        value = level.update(float(when), float(logit))
        risen = rise.update(float(when), float(logit), value)
        if level.coverage >= 1.0:
            highest = max(highest, value)
        if risen is not None:
            highest_rise = max(highest_rise, risen)
    return highest, highest_rise
