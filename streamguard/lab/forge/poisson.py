"""Poisson: another face warped triangle by triangle and cloned in the gradient domain, the classical FaceSwap.

Own code after M. Kowalski's FaceSwap as A. Rössler et al. describe it ("FaceForensics++", ICCV 2019, arXiv:1901.08971)
and P. Pérez et al., "Poisson Image Editing", 2003 (:func:`cv2.seamlessClone`). There is no colour step: the solver
makes the face meet its surroundings at the outline, so the trace is another one than a blended seam.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Self

import cv2
import numpy as np

from streamguard.errors import PictureSize
from streamguard.frames import F32, U8
from streamguard.lab.forge.base import Ground, Pair, Window, check, composite, log_uniform, partner, window_of
from streamguard.lab.forge.colour import coarser, recoloured
from streamguard.lab.forge.geometry import Edge, Fit, Hull, hull, laid_over, outline, polygons
from streamguard.lab.forge.mesh import LEFT_EYE, LIPS, RIGHT_EYE

_FITS: Final[tuple[Fit, ...]] = ("affine", "piecewise", "piecewise")
_HULLS: Final[tuple[Hull, ...]] = ("oval", "brows", "brows")
_REACH: Final = 0.25


@dataclass(frozen=True, slots=True)
class PoissonSwap:
    """One swap.

    Attributes:
        hull, edge: what of the face is replaced; of the edge only deformation and growth count for the clone, its
            softness is that of the composite.
        fit: how the other face is laid over this one.
        mixed: the stronger gradient of both pictures counts, not that of the pasted one alone.
        detail: pixels that a unit of the other face keeps; 0 = all.
        own: this face keeps its own "mouth" or "eyes", or neither ("").
    """

    hull: Hull
    edge: Edge
    fit: Fit
    mixed: bool
    detail: float
    own: str

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """hull: brows twice as often as oval, -0.14 to -0.02 smaller; fit: piecewise in 2 of 3; mixed p=0.2;
        detail p=0.4 18-56 (log); own mouth and own eyes p=0.15 each."""
        kept = rng.random()
        return cls(
            hull=_HULLS[rng.integers(len(_HULLS))],
            # Inside the face: a border on hair or background would bleed into it.
            edge=replace(Edge.draw(rng, small=True), grow=float(rng.uniform(-0.14, -0.02))),
            fit=_FITS[rng.integers(len(_FITS))],
            mixed=bool(rng.random() < 0.2),
            detail=log_uniform(rng, 18, 56) if rng.random() < 0.4 else 0.0,
            own="mouth" if kept < 0.15 else "eyes" if kept < 0.3 else "",
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
        hard = np.minimum(outline(self.hull, target, window.size), outline("oval", moved, window.size))
        if self.own:
            rings = [LIPS] if self.own == "mouth" else [RIGHT_EYE, LEFT_EYE]
            hard *= 1 - polygons([hull(target[list(ring)]) for ring in rings], window.size)
        weight = self.edge.apply(hard, face.unit)
        # Gradients keep what their scale was: a little of the colour transfer brings contrast near.
        pasted = recoloured(coarser(pasted, face.unit, self.detail), window.of(face.rgb), weight, 0.5)
        made, inside = cloned(pasted, window.of(face.rgb), weight > 0.02, mixed=self.mixed, group=face.group)
        # Full weight nearly up to the border: there the solver has made both equal.
        return composite(face.rgb, made, np.where(inside, np.minimum(1, 3 * weight), 0).astype(np.float32), window)


def cloned(pasted: U8, ground: U8, where: np.ndarray, *, mixed: bool, group: str) -> tuple[U8, np.ndarray]:
    """``pasted`` in ``ground`` by Poisson's equation, and the (h, w) bool pixels that were solved for.

    Raises:
        PictureSize: nothing of the face lies inside the picture.
    """
    inside = where.astype(np.uint8)
    inside[:2] = inside[-2:] = inside[:, :2] = inside[:, -2:] = 0  # the solver needs a border to start from
    ys, xs = np.nonzero(inside)
    if xs.size < 64:
        raise PictureSize(f"a face of '{group}' has no outline inside its picture. Choose a face that is all in it.")
    x1, y1, x2, y2 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    # The solver puts the middle of the mask's bounding box at a point: this one leaves it where it is.
    centre = (x1 + (x2 - x1) // 2, y1 + (y2 - y1) // 2)
    flag = cv2.MIXED_CLONE if mixed else cv2.NORMAL_CLONE
    made = cv2.seamlessClone(pasted, ground, inside * 255, centre, flag)
    return np.asarray(made, np.uint8), inside > 0


def solved(pasted: U8, ground: U8, weight: F32, window: Window, face: Ground) -> Pair:
    """A small part cloned and put into the picture of ``face``."""
    made, inside = cloned(pasted, ground, weight > 0.02, mixed=False, group=face.group)
    return composite(face.rgb, made, np.where(inside, weight, 0).astype(np.float32), window)
