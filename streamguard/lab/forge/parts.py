"""Parts: an eye, the nose or the mouth replaced, mirrored or painted over; all else stays.

Local edits leave most of the face alone, so what gives a swap away at its outline is not there. Donors are other
people (recoloured and blended, or cloned by Poisson's equation), the face's own mirror image, or its own skin: small
spots filled by fast marching (A. Telea, 2004) or Navier-Stokes (M. Bertalmio et al., 2001), as retouching does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

import cv2
import numpy as np

from streamguard.frames import F32, U8
from streamguard.lab.forge.base import Ground, Pair, Window, check, composite, partner, window_of
from streamguard.lab.forge.colour import recoloured
from streamguard.lab.forge.geometry import Edge, apply, fit, hull, mirrored, polygons
from streamguard.lab.forge.mesh import CORNERS, LEFT_BROW, LEFT_EYE, NOSE, NOSE_TIP, PARTS, RIGHT_BROW, RIGHT_EYE
from streamguard.lab.forge.poisson import solved

Kind = Literal["other", "mirror", "paint"]
_NAMES: Final = ("eyes", "right eye", "left eye", "nose", "mouth", "mouth")
_REACH: Final = 0.25
# Points a part is laid over by: more than its own, or its size would follow the expression.
_ROUND: Final = (*RIGHT_EYE, *LEFT_EYE, *NOSE, NOSE_TIP, *CORNERS)


@dataclass(frozen=True, slots=True)
class PartEdit:
    """One edit.

    Attributes:
        kind: another person's part, the own mirror image, or paint.
        part: which; for paint ignored.
        edge: how it fades out.
        poisson: cloned in the gradient domain.
        spots: (index in the mesh, radius in units, share of its height) of what is painted over.
        radius: of the paint's neighbourhood, units.
        telea: else Navier-Stokes.
        grain: share of the skin's own fine noise given back to the paint.
        seed: of that noise.
    """

    kind: Kind
    part: str
    edge: Edge
    poisson: bool
    spots: tuple[tuple[int, float, float], ...]
    radius: float
    telea: bool
    grain: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """kind: other 0.5, mirror 0.25, paint 0.25; part: both eyes, one of them, nose, or mouth (twice);
        poisson p=0.4; 1-4 spots of radius 0.1-0.28 on brows, corners of eyes and mouth, nose, cheeks; grain 0-1."""
        draw = rng.random()
        kind: Kind = "other" if draw < 0.5 else "mirror" if draw < 0.75 else "paint"
        count = int(rng.integers(1, 5))
        where = (*RIGHT_BROW[::3], *LEFT_BROW[::3], 33, 263, 133, 362, *CORNERS, 129, 358, 50, 280, 205, 425, 9, 18)
        spots = tuple(
            (int(where[rng.integers(len(where))]), float(rng.uniform(0.1, 0.28)), float(rng.uniform(0.6, 1.2)))
            for _ in range(count)
        )
        return cls(
            kind=kind,
            part=_NAMES[rng.integers(len(_NAMES))],
            edge=Edge.draw(rng, small=True),
            poisson=bool(rng.random() < 0.4),
            spots=spots,
            radius=float(rng.uniform(0.04, 0.12)),
            telea=bool(rng.random() < 0.5),
            grain=float(rng.uniform(0, 1)),
            seed=int(rng.integers(2**31)),
        )

    @property
    def needs_other(self) -> bool:
        """Only where another person's part is taken."""
        return self.kind == "other"

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """(real, fake, mask); the real partner is the picture as it is."""
        check(face, other, self.needs_other)
        window = window_of(face, _REACH)
        target = face.mesh - window.origin
        if self.kind == "paint":
            return self._painted(face, window, target)
        donor = mirrored(face) if self.kind == "mirror" else partner(face, other)
        names = ("right eye", "left eye") if self.part == "eyes" else (self.part,)
        matrix = fit(donor.mesh[list(_ROUND)], target[list(_ROUND)], "affine")
        pasted = cv2.warpAffine(
            donor.rgb, matrix, window.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101
        )
        moved = apply(matrix, donor.mesh)
        # A part is as large as the larger of both: no half of a brow may look out from under the other.
        shapes = [hull(np.concatenate((moved[list(PARTS[n])], target[list(PARTS[n])]))) for n in names]
        weight = self.edge.apply(polygons([_wider(s, 0.06 * face.unit) for s in shapes], window.size), face.unit)
        ground = window.of(face.rgb)
        pasted = recoloured(np.asarray(pasted, np.uint8), ground, weight, 0.9)
        if self.poisson:
            return solved(pasted, ground, weight, window, face)
        return composite(face.rgb, pasted, weight, window)

    def _painted(self, face: Ground, window: Window, target: F32) -> Pair:
        hard = np.zeros((window.size[1], window.size[0]), np.uint8)
        for index, radius, share in self.spots:
            x, y = target[index]
            axes = (max(2, round(radius * face.unit)), max(2, round(radius * share * face.unit)))
            cv2.ellipse(hard, (round(float(x)), round(float(y))), axes, 0, 0, 360, 255, -1)
        ground = window.of(face.rgb)
        method = cv2.INPAINT_TELEA if self.telea else cv2.INPAINT_NS
        made = cv2.inpaint(np.ascontiguousarray(ground), hard, max(2.0, self.radius * face.unit), method)
        weight = np.asarray(cv2.GaussianBlur(hard, (0, 0), max(0.5, 0.02 * face.unit)), np.float32) / np.float32(255)
        return composite(face.rgb, self._grained(np.asarray(made, np.uint8), ground), weight, window)

    def _grained(self, made: U8, ground: U8) -> F32:
        """Paint has no noise; skin has."""
        fine = ground.astype(np.float32) - cv2.GaussianBlur(ground, (0, 0), 1.5).astype(np.float32)
        level = float(np.median(np.abs(fine))) * 1.4826
        noise = np.random.default_rng(self.seed).standard_normal((*made.shape[:2], 1)).astype(np.float32)
        return np.asarray(made.astype(np.float32) + self.grain * level * noise, np.float32)


def _wider(shape: F32, by: float) -> F32:
    """A convex outline, its vertices moved outwards by ``by`` pixels."""
    away = shape - shape.mean(0)
    return np.asarray(shape + away / np.maximum(np.hypot(*away.T)[:, None], 1e-6) * by, np.float32)
