"""The forgery families as the evaluation uses them: a fake made of any real face of a part, by name.

:data:`GROUPS` says what leaves a training together: families that share their traces, and each supplied source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from streamguard.errors import PictureSize
from streamguard.frames import U8
from streamguard.ingest.forgery import SelfBlend
from streamguard.lab.data import STILLS, TEACHER, FaceFinder, FaceStore, Part, Sample
from streamguard.lab.dataset import Dataset

FAMILIES: Final = ("self-blended",)
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {"blends": ("self-blended",), **{s: (s,) for s in STILLS}}


class Forged(NamedTuple):
    """The face that was forged, its real partner and the forgery, (H, W, 3) uint8 RGB."""

    sample: Sample
    real: U8
    fake: U8


class Forgers:
    """Forgeries of the real faces of one part of a store."""

    def __init__(self, store: FaceStore, part: Part) -> None:
        self.store, self.part = store, part

    def pair(self, family: str, source: str, index: int, rng: np.random.Generator) -> Forged:
        """Face ``index`` of ``source``, forged with drawn parameters.

        Raises:
            PictureSize: this face can't be forged.
        """
        sample = self.store.read(source, index)
        real, fake, _ = SelfBlend.draw(rng).pair(sample.rgb, sample.landmarks)
        return Forged(sample, real, fake)


def video_forgers(data: Dataset, faces: Path) -> Callable[[str, int], Callable[[U8], U8]]:
    """(family, seed) -> what forges the frames of one stream with parameters that stay."""
    finder = FaceFinder(data.root / TEACHER)

    def of(family: str, seed: int) -> Callable[[U8], U8]:
        blend = replace(SelfBlend.draw(np.random.default_rng(seed)), on_source=True)

        def forge(rgb: U8) -> U8:
            found = finder(rgb)
            try:
                return rgb if found is None else blend.apply(rgb, found[1])[0]
            except PictureSize:
                return rgb

        return forge

    return of
