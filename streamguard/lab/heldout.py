"""Held-out faces, set by set: those of each source, and forgeries of each family, plain and through the chain.

Each set is made once, in every crop that something wants to score, and the same arguments give the same pictures.
``plain`` is what serving crops; ``chain`` is degraded as in training, both partners of a pair alike.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import numpy as np
import numpy.typing as npt

from streamguard.errors import PictureSize
from streamguard.frames import U8, Box
from streamguard.lab.augment import Chain, Crop, plain
from streamguard.lab.batches import GROUND
from streamguard.lab.data import STILLS, FaceStore, Part
from streamguard.lab.families import FAMILIES, forgers_of

Dress = Literal["plain", "chain"]
DRESSES: Final[tuple[Dress, ...]] = get_args(Dress)
SETS: Final = (*STILLS, *FAMILIES)


@dataclass(frozen=True, slots=True)
class Drawn:
    """Which faces: of ``part``, at most ``each`` of a source and label, or pairs of a family."""

    part: Part
    each: int
    seed: int = 7


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """One set. ``pictures``: by crop, (N, S, S, 3) uint8 RGB; ``label`` (N,), 1 = fake; ``group``: what depends."""

    pictures: dict[Crop, U8]
    label: npt.NDArray[np.uint8]
    group: npt.NDArray[np.str_]


@dataclass(frozen=True, slots=True, eq=False)
class FaceAt:
    """A whole picture with a face in it: (H, W, 3) uint8 RGB, box, label, group, and the seed of its chain."""

    rgb: U8
    box: Box
    label: int
    group: str
    seed: int


def faces_in(store: FaceStore, name: str, drawn: Drawn) -> Iterator[FaceAt]:
    """The faces of set ``name`` (of :data:`SETS`), before any crop."""
    rng = np.random.default_rng((drawn.seed, zlib.crc32(name.encode())))
    yield from _supplied(store, name, drawn, rng) if name in STILLS else _forged(store, name, drawn, rng)


def _supplied(store: FaceStore, source: str, drawn: Drawn, rng: np.random.Generator) -> Iterator[FaceAt]:
    for label in (0, 1):
        for index in rng.permutation(store.find(source, drawn.part, label))[: drawn.each]:
            sample = store.read(source, int(index))
            yield FaceAt(sample.rgb, sample.box, label, _group(store, source, int(index)), int(rng.integers(2**31)))


def _forged(store: FaceStore, family: str, drawn: Drawn, rng: np.random.Generator) -> Iterator[FaceAt]:
    forgers = forgers_of(store, drawn.part)
    grounds = {source: store.find(source, drawn.part, 0) for source in GROUND}
    grounds = {source: rows for source, rows in grounds.items() if rows.size}
    for source, rows in grounds.items():
        for index in rng.permutation(rows)[: max(1, drawn.each // len(grounds))]:
            try:
                box, real, fake = forgers.pair(family, source, int(index), rng)
            except PictureSize:  # this face can't be forged; its place stays empty
                continue
            seed = int(rng.integers(2**31))
            for label, rgb in enumerate((real, fake)):
                yield FaceAt(rgb, box, label, _group(store, source, int(index)), seed)


def _group(store: FaceStore, source: str, index: int) -> str:
    return f"{source}/{store.rows(source)['group'][index].decode()}"


def held(store: FaceStore, name: str, drawn: Drawn, dress: Dress, crops: Sequence[Crop]) -> Held:
    """Set ``name`` in one dress, in every one of ``crops``. Empty where the part has no such faces."""
    faces = list(faces_in(store, name, drawn))
    pictures = {crop: _dressed(faces, dress, crop) for crop in crops}
    labels, groups = [face.label for face in faces], [face.group for face in faces]
    return Held(pictures, np.array(labels, np.uint8), np.array(groups, dtype="U128"))


def _dressed(faces: Sequence[FaceAt], dress: Dress, crop: Crop) -> U8:
    if not faces:
        return np.zeros((0, crop.size, crop.size, 3), np.uint8)
    if dress == "plain":
        return np.stack([plain(face.rgb, face.box, crop) for face in faces])
    return np.stack([Chain(face.seed).apply(face.rgb, face.box, crop) for face in faces])
