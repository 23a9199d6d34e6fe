"""Warped: mouth, eyes and brows moved as another expression has them; no seam, the face stays its own.

After the reenactment methods' own trace (arXiv:2406.13495 lists them; no code of theirs): landmarks are displaced by
part of the difference to another person's expression, or by drawn amounts, and the picture follows by radial functions
of compact support (H. Wendland, 1995), so that what is far stays bit for bit. A mouth that opens can show the inside
of the other person's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import cv2
import numpy as np

from streamguard.frames import F32
from streamguard.lab.forge.base import Ground, Pair, check, composite, log_uniform, partner, window_of
from streamguard.lab.forge.colour import recoloured
from streamguard.lab.forge.geometry import apply, displaced, enlarged, fit, hull, nodes, polygons
from streamguard.lab.forge.mesh import (
    CORNERS,
    LEFT_BROW,
    LEFT_EYE,
    LIPS,
    MOUTH,
    NOSE,
    OVAL,
    RIGHT_BROW,
    RIGHT_EYE,
)

_REACH: Final = 0.6  # units of window round the mesh: the functions end inside
_MOVED: Final = (*LIPS, *MOUTH, *RIGHT_EYE, *LEFT_EYE, *RIGHT_BROW, *LEFT_BROW)
_CENTRES: Final = (*LIPS[::2], *MOUTH[::2], *RIGHT_EYE[::2], *LEFT_EYE[::2], *RIGHT_BROW[::2], *LEFT_BROW[::2])
_STILL: Final = (*OVAL[:12], *OVAL[25:], *NOSE[:5], 4)  # the chin moves with the mouth
_CHIN: Final = (152, 148, 377)
_LOWER_LIP: Final = (146, 91, 181, 84, 17, 314, 405, 321, 375, 95, 88, 178, 87, 14, 317, 402, 318, 324)
_LIDS: Final = ((159, 145, 33, 133, RIGHT_EYE), (386, 374, 362, 263, LEFT_EYE))  # upper, lower lid, both corners
_OPEN: Final = 0.06  # units between the lips, from which on a mouth has an inside to show
_NODES: Final = 16  # points a unit where the field is computed: an open eye is an eighth of one high
_RIDGE: Final = 0.02
_LARGEST: Final = 0.2  # units a point is moved at most


@dataclass(frozen=True, slots=True)
class Warped:
    """One change of expression; lengths in units.

    Attributes:
        expression: share of the difference to the other person's expression; 0 = the drawn amounts below.
        mouth: how far the lower lip goes down.
        wide: how far the corners of the mouth go outwards.
        lids: share of its opening by which each eye closes (negative: opens).
        brows: how far they rise.
        reach: of the radial functions.
        inside: the other person's inside of the mouth is shown, if both mouths are open.
        linear: interpolation; else cubic.
    """

    expression: float
    mouth: float
    wide: float
    lids: float
    brows: float
    reach: float
    inside: bool
    linear: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """expression: 0.5-1 with p=0.5; mouth 0.03-0.16 or, in a third, -0.02 to -0.1; wide +-0.1; lids -0.25 to 0.6;
        brows -0.05 to 0.1; reach 0.35-0.6 (log); inside p=0.5; linear p=0.5."""
        opens = rng.random() < 2 / 3
        return cls(
            expression=float(rng.uniform(0.5, 1.0)) * bool(rng.random() < 0.5),
            mouth=float(rng.uniform(0.03, 0.16) if opens else rng.uniform(-0.1, -0.02)),
            wide=float(rng.uniform(-0.1, 0.1)),
            lids=float(rng.uniform(-0.25, 0.6)),
            brows=float(rng.uniform(-0.05, 0.1)),
            reach=log_uniform(rng, 0.35, 0.6),
            inside=bool(rng.random() < 0.5),
            linear=bool(rng.random() < 0.5),
        )

    @property
    def needs_other(self) -> bool:
        """Where it gives its expression or the inside of its mouth."""
        return self.expression > 0 or self.inside

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """(real, fake, mask); the mask is how strongly a place was reached, not how far it moved."""
        check(face, other, self.needs_other)
        window = window_of(face, _REACH)
        width, height = window.size
        source = face.mesh - window.origin
        target = source + self._shift(face, other)
        step = max(2, round(face.unit / _NODES))
        field, touched = _field(source, target, nodes(width, height, step), self.reach * face.unit)
        interpolation = cv2.INTER_LINEAR if self.linear else cv2.INTER_CUBIC
        ground = window.of(face.rgb)
        made = displaced(ground, enlarged(field, width, height, step), interpolation).astype(np.float32)
        if self.inside:
            made = _with_inside(made, partner(face, other), target, face.unit)
        return composite(face.rgb, made, enlarged(touched, width, height, step), window)

    def _shift(self, face: Ground, other: Ground | None) -> F32:
        """(468, 2) float32 pixels: where each point goes; 0 for those that stay."""
        shift = np.zeros_like(face.mesh)
        if self.expression and other is not None:
            matrix = fit(other.mesh[list(_STILL)], face.mesh[list(_STILL)], "affine")
            moved = list(_MOVED)
            shift[moved] = self.expression * (apply(matrix, other.mesh)[moved] - face.mesh[moved])
            for ring in ((*LIPS, *MOUTH), RIGHT_EYE, LEFT_EYE, RIGHT_BROW, LEFT_BROW):  # its form, not its place
                shift[list(ring)] -= 0.8 * shift[list(ring)].mean(0)
        else:
            shift[:] = self._drawn(face)
        length = np.hypot(*shift.T)[:, None]
        limit = _LARGEST * face.unit
        return np.asarray(shift * np.minimum(1, limit / np.maximum(length, 1e-6)), np.float32)

    def _drawn(self, face: Ground) -> F32:
        mesh, unit = face.mesh, face.unit
        down = mesh[list(CORNERS)].mean(0) - mesh[[*RIGHT_EYE, *LEFT_EYE]].mean(0)
        down = down / max(float(np.hypot(*down)), 1e-6)
        right = np.array([down[1], -down[0]])
        shift = np.zeros_like(mesh)
        gap = float((mesh[14] - mesh[13]) @ down)
        drop = max(self.mouth * unit, -0.8 * max(gap, 0.0))  # lips meet, they don't cross
        middle = mesh[list(CORNERS)].mean(0)
        half = max(float(np.hypot(*(mesh[CORNERS[1]] - mesh[CORNERS[0]]))) / 2, 1e-6)
        across = ((mesh[list((*LIPS, *MOUTH))] - middle) @ right) / half
        shift[list((*LIPS, *MOUTH))] += np.outer(across * self.wide * unit, right)
        lower = list(_LOWER_LIP)
        bow = np.maximum(0, 1 - (((mesh[lower] - middle) @ right) / half) ** 2)
        shift[lower] += np.outer(bow * drop, down)
        shift[list(_CHIN)] += 0.6 * drop * down
        for top, bottom, one, two, ring in _LIDS:
            opening = max(0.0, float((mesh[bottom] - mesh[top]) @ down))
            centre, half = (mesh[one] + mesh[two]) / 2, max(float(np.hypot(*(mesh[two] - mesh[one]))) / 2, 1e-6)
            upper = [i for i in ring if float((mesh[i] - centre) @ down) < 0]
            # A lid is fixed at its corners.
            bow = np.maximum(0, 1 - (((mesh[upper] - centre) @ right) / half) ** 2)
            shift[upper] += np.outer(bow * self.lids * opening, down)
        shift[list((*RIGHT_BROW, *LEFT_BROW))] -= self.brows * unit * down
        return np.asarray(shift, np.float32)


def _field(source: F32, target: F32, points: F32, reach: float) -> tuple[F32, F32]:
    """Where each of (h', w', 2) points is taken from, float32 pixels, and how strongly it is reached, (h', w') 0..1."""
    moved = list(dict.fromkeys((*_CENTRES, *_CHIN)))
    still = [i for i in dict.fromkeys(_STILL) if i not in _CHIN]
    centres = target[[*moved, *still]].astype(np.float64)
    values = (source - target)[[*moved, *still]].astype(np.float64)
    matrix = _wendland(np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1)) / reach)
    # Neighbouring points of the mesh nearly coincide; a ridge keeps the field from folding between them.
    weights = np.linalg.solve(matrix + _RIDGE * np.eye(len(centres)), values)
    apart = np.sqrt(np.square(points.reshape(-1, 1, 2) - centres.astype(np.float32)).sum(-1))
    basis = _wendland(apart / np.float32(reach))
    field = (basis @ weights.astype(np.float32)).reshape(points.shape)
    # Reached: within the support of a point that moves by half a pixel or more.
    active = np.hypot(*values.T) > 0.5
    near = basis[:, active].max(1) if active.any() else np.zeros(len(basis), np.float32)
    touched = np.clip(near * 4, 0, 1).reshape(points.shape[:2])
    return np.asarray(field, np.float32), np.asarray(touched, np.float32)


def _wendland(distance: np.ndarray) -> np.ndarray:
    """Wendland's C2 function: 1 at 0, smooth, 0 from 1 on."""
    rest = np.maximum(0, 1 - distance)
    return rest**4 * (4 * distance + 1)


def _with_inside(made: F32, other: Ground, target: F32, unit: float) -> F32:
    """The inside of the other person's mouth in this one's, if there is one to show."""
    ring = list(MOUTH)
    gap = float(np.hypot(*(target[14] - target[13])))
    theirs = float(np.hypot(*(other.mesh[14] - other.mesh[13])))
    if gap < _OPEN * unit or theirs < _OPEN * other.unit:
        return made
    height, width = made.shape[:2]
    matrix = fit(other.mesh[ring], target[ring], "affine")
    pasted = cv2.warpAffine(other.rgb, matrix, (width, height), flags=cv2.INTER_LINEAR)
    hard = polygons([hull(target[ring])], (width, height))
    weight = np.asarray(cv2.GaussianBlur(hard, (0, 0), max(0.5, 0.015 * unit)), np.float32)
    ground = np.clip(np.rint(made), 0, 255).astype(np.uint8)
    pasted = recoloured(np.asarray(pasted, np.uint8), ground, weight, 0.5)
    return np.asarray(made + weight[..., None] * (pasted.astype(np.float32) - made), np.float32)
