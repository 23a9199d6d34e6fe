"""Two identities: the face of a landmark-nearest other person blended into this one (Face X-ray).

Own code after L. Li et al., "Face X-ray for More General Face Forgery Detection", CVPR 2020 (arXiv:1912.13458): the
foreground is taken from another video, laid over by its landmarks, recoloured, and blended through one of four hulls
whose outline is deformed and softened.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np

from streamguard.lab.forge.base import Ground, Pair, check, composite, log_uniform, partner, window_of
from streamguard.lab.forge.colour import coarser, recoloured
from streamguard.lab.forge.geometry import FITS, HULLS, Edge, Fit, Hull, laid_over, outline

_RATIOS: Final = (0.5, 0.75, 1.0, 1.0, 1.0, 1.0)
_REACH: Final = 0.25  # units of window round the mesh: room for the soft edge


@dataclass(frozen=True, slots=True)
class TwoIdentity:
    """One blend of two people.

    Attributes:
        hull, edge: what of the face is replaced, and how it fades out.
        fit: how the other face is laid over this one.
        colour: share of the colour transfer, 0..1.
        detail: pixels that a unit of the other face keeps; 0 = all.
        ratio: blend ratio.
    """

    hull: Hull
    edge: Edge
    fit: Fit
    colour: float
    detail: float
    ratio: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """hull and fit: uniformly; colour 0.75-1; detail: p=0.5 18-56 (log); ratio: 0.5, 0.75 or 4 in 6 times 1."""
        hull = HULLS[rng.integers(len(HULLS))]
        return cls(
            hull=hull,
            edge=Edge.draw(rng, small=hull == "parts"),
            fit=FITS[rng.integers(len(FITS))],
            colour=float(rng.uniform(0.75, 1.0)),
            detail=log_uniform(rng, 18, 56) if rng.random() < 0.5 else 0.0,
            ratio=_RATIOS[rng.integers(len(_RATIOS))],
        )

    @property
    def needs_other(self) -> bool:
        """Always."""
        return True

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """(real, fake, mask); the real partner is the picture as it is."""
        check(face, other, self.needs_other)
        window = window_of(face, _REACH)
        pasted, moved = laid_over(partner(face, other), face, window, self.fit)
        target = face.mesh - window.origin
        # What both faces cover: beyond the other one's outline lies its background.
        theirs = outline("oval", moved, window.size)
        weight = self.edge.apply(np.minimum(outline(self.hull, target, window.size), theirs), face.unit)
        skin = np.minimum(outline("oval", target, window.size), theirs)
        pasted = recoloured(coarser(pasted, face.unit, self.detail), window.of(face.rgb), skin, self.colour)
        return composite(face.rgb, pasted, weight * np.float32(self.ratio), window)
