"""The forgery families as the evaluation uses them: any real face of a part, or of a video, forged by name.

:data:`GROUPS` says what leaves a training together: families that share their traces, and each supplied source. Both
tables are :mod:`streamguard.lab.forge.table`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, NamedTuple

import numpy as np

from streamguard.errors import PictureSize
from streamguard.frames import U8, Box
from streamguard.lab.batches import GROUND
from streamguard.lab.data import STILLS, TEACHER, FaceFinder, FaceStore, Finder, Part
from streamguard.lab.dataset import Dataset
from streamguard.lab.forge import table
from streamguard.lab.forge.base import Family, Ground
from streamguard.lab.forge.forger import Forger, Partners
from streamguard.lab.forge.mesh import MeshFinder, fitted
from streamguard.lab.forge.meshfile import Finder as MeshOf
from streamguard.lab.forge.meshfile import build_meshes

FAMILIES: Final = tuple(table.FAMILIES)
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {**table.GROUPS, **{source: (source,) for source in STILLS}}
_TRIES: Final = 50


class Forged(NamedTuple):
    """Where the face lies, its real partner and the forgery, (H, W, 3) uint8 RGB."""

    box: Box
    real: U8
    fake: U8


class Forgers:
    """Forgeries of the real faces of one part of a store. Meshes that are not there yet are made.

    Raises:
        UsageError: the part has one identity only.
    """

    def __init__(self, store: FaceStore, part: Part) -> None:
        self.store, self.part = store, part
        sources = tuple(source for source in GROUND if store.find(source, part, 0).size)
        self._forger = Forger(store, build_meshes(store), part, dict.fromkeys(FAMILIES, 1 / len(FAMILIES)), sources)

    def pair(self, family: str, source: str, index: int, rng: np.random.Generator) -> Forged:
        """Face ``index`` of ``source``, forged with drawn parameters.

        Raises:
            PictureSize: this face can't be forged.
        """
        made = self._forger.forge(source, index, rng, family)
        return Forged(made.ground.box, made.pair.real, made.pair.fake)


@cache
def forgers_of(store: FaceStore, part: Part) -> Forgers:
    """The forgers of a part, with the forms of its faces read once."""
    return Forgers(store, part)


class VideoForger:
    """Forges the frames of one stream with parameters that stay, drawn at its first face.

    A family may change the real partner as well (its colours, say). In a stream that would be seen in the background:
    parameters are drawn until the forgery is all that changes.
    """

    def __init__(self, finder: Finder, mesh: MeshOf, partners: Partners, name: str, seed: int) -> None:
        self._finder, self._mesh, self._partners = finder, mesh, partners
        self._name, self._rng = name, np.random.default_rng(seed)
        self._drawn: tuple[Family, Ground | None] | None = None

    def __call__(self, rgb: U8) -> U8:
        """(H, W, 3) uint8 RGB, forged; the frame itself where it shows no face that can be."""
        found = self._finder(rgb)
        if found is None:
            return rgb
        box, landmarks = found
        mesh = self._mesh(rgb, landmarks)
        face = Ground(rgb, box, landmarks, fitted(landmarks) if mesh is None else mesh, "", mesh is not None)
        try:
            self._drawn = self._drawn or self._draw(face)
            family, other = self._drawn
            return family.pair(face, other).fake
        except PictureSize:
            return rgb

    def _draw(self, face: Ground) -> tuple[Family, Ground | None]:
        for _ in range(_TRIES):
            family = table.FAMILIES[self._name].family.draw(self._rng)
            other = self._partners.nearest(face, self._rng) if family.needs_other else None
            if np.array_equal(family.pair(face, other).real, face.rgb):
                return family, other
        raise PictureSize(f"each of {_TRIES} forgeries of the family '{self._name}' changes the background as well.")


class VideoForgers:
    """What forges streams: (family, seed) -> :class:`VideoForger`. Partners are stills of the calibration part."""

    def __init__(self, data: Dataset, store: FaceStore) -> None:
        self._finder, self._mesh = FaceFinder(data.root / TEACHER), MeshFinder()
        self._partners = Partners(store, build_meshes(store), "calibration", STILLS)

    def __call__(self, family: str, seed: int) -> VideoForger:
        return VideoForger(self._finder, self._mesh, self._partners, family, seed)
