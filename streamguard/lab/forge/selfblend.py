"""Self-blended: a face pasted over itself, slightly changed (Shiohara and Yamasaki, CVPR 2022, arXiv:2204.08376).

The demo forges with it too, so it stands in :mod:`streamguard.ingest.forgery`; here it joins the family.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from streamguard.ingest.forgery import SelfBlend
from streamguard.lab.forge.base import Ground, Pair, check


@dataclass(frozen=True, slots=True)
class SelfBlended:
    """One self-blend; it needs the five landmarks alone."""

    blend: SelfBlend

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """See :meth:`streamguard.ingest.forgery.SelfBlend.draw`."""
        return cls(SelfBlend.draw(rng))

    @property
    def needs_other(self) -> bool:
        """Never."""
        return False

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """(real, fake, mask); the real partner's colours are changed where the pasted face keeps its own."""
        check(face, other, self.needs_other)
        real, fake, mask = self.blend.pair(face.rgb, face.landmarks)
        untouched = mask == 0
        fake[untouched] = real[untouched]  # a weight of less than half a level can move a pixel by one
        return Pair(real, fake, mask)
