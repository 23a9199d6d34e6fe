"""Draw forged pairs: a family by its weight, its parameters, and a partner where it needs one.

A partner is the landmark-nearest of some faces drawn at random (arXiv:1912.13458), and not of quite another colour,
which no transfer would hide; of the same part and always of another group: who is trained on never lends a face to
what is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Final

import cv2
import numpy as np
from threadpoolctl import threadpool_limits

from streamguard.errors import PictureSize, UsageError
from streamguard.frames import F32
from streamguard.lab.augment import softened
from streamguard.lab.data import FaceStore, Part
from streamguard.lab.forge.base import Family, Ground, Pair, check, unit_of
from streamguard.lab.forge.mesh import CORNERS, LEFT_EYE, MOUTH, NOSE_TIP, OVAL, RIGHT_EYE
from streamguard.lab.forge.meshfile import Meshes, skin_in
from streamguard.lab.forge.table import FAMILIES

CANDIDATES: Final = 400  # faces drawn, of which the nearest is taken; more, and the same few serve everybody
DRAWS: Final = 6  # of parameters for one face, until the forgery shows
LEAST: Final = 3  # levels of 255: less is lost in the mildest compression
SMALLEST_DONOR: Final = 24.0  # pixels of its unit: what is smaller would be enlarged beyond belief
SOFT: Final = 0.2  # of the grounds lose detail before they are forged: an enlarged picture is nothing suspicious
_COLOUR: Final = 0.006  # what a difference of 1 in CIE Lab weighs beside one of form; 1 there is a face of no likeness
_SHAPE: Final = (*OVAL[::2], *RIGHT_EYE[::4], *LEFT_EYE[::4], *MOUTH[::5], NOSE_TIP, *CORNERS)


@dataclass(frozen=True, slots=True, eq=False)
class Forged:
    """A pair with what it was made of: the real face, the family's name and parameters, the partner's group or ""."""

    pair: Pair
    ground: Ground
    name: str
    family: Family
    partner: str


class Partners:
    """The real faces of one part that can lend something, by the form of their landmarks.

    Raises:
        UsageError: they are all of one group: nobody could be another person.
    """

    def __init__(self, store: FaceStore, meshes: Meshes, part: Part, sources: Sequence[str]) -> None:
        self._meshes = meshes
        self._faces: list[tuple[str, int]] = []
        groups: list[str] = []
        shapes: list[F32] = []
        for source in sources:
            rows = store.find(source, part, 0)
            if not rows.size:
                continue
            points = meshes.points(source, rows, list(_SHAPE))
            large = np.array([unit_of(store.rows(source)["landmarks"][row]) >= SMALLEST_DONOR for row in rows])
            skins = meshes.skins(source, rows)
            usable = np.isfinite(points).all((1, 2)) & np.isfinite(skins).all(1) & large
            self._faces += [(source, int(row)) for row in rows[usable]]
            groups += [f"{source}/{group.decode()}" for group in store.rows(source)["group"][rows[usable]]]
            shapes.append(np.hstack((form(points[usable]), _COLOUR * skins[usable])))
        self._groups = np.array(groups)
        self._shapes = np.concatenate(shapes) if shapes else np.zeros((0, 2 * len(_SHAPE) + 3), np.float32)
        if len(set(groups)) < 2:
            named = ", ".join(sorted(set(groups))) or "nobody"
            raise UsageError(
                f"part '{part}' of '{store.path}' has real faces of {named} alone: no second identity to swap with. "
                "Add faces of other people, or choose families that need one face (self-blended, resampling, "
                "reconstruction)."
            )

    def nearest(self, face: Ground, rng: np.random.Generator) -> Ground:
        """Of :data:`CANDIDATES` faces drawn at random the one of another group whose form and colour are nearest."""
        drawn = rng.integers(len(self._faces), size=CANDIDATES)
        allowed = drawn[self._groups[drawn] != face.group]
        if not allowed.size:  # one group has nearly all faces
            allowed = np.flatnonzero(self._groups != face.group)
        shape = np.append(form(face.mesh[None, list(_SHAPE)])[0], _COLOUR * skin_in(face.rgb, face.mesh))
        source, index = self._faces[int(allowed[np.square(self._shapes[allowed] - shape).sum(1).argmin()])]
        return self._meshes.ground(source, index)


def form(points: F32) -> F32:
    """(N, K, 2) points -> (N, 2K) float32: the form of each set, without its place and size; its turn remains."""
    away = points - points.mean(1, keepdims=True)
    size = np.sqrt(np.square(away).sum((1, 2), keepdims=True))
    return np.asarray((away / np.maximum(size, 1e-6)).reshape(len(points), 2 * points.shape[1]), np.float32)


@cache
def _one_thread() -> None:
    """Matrices here are small: several threads of BLAS wait for each other ten times as long as one computes."""
    threadpool_limits(1, user_api="blas")


class Forger:
    """Forged pairs of one part's real faces, families drawn by their shares (:class:`~.table.Choice`).

    Raises:
        UsageError: a family needs a second identity and the part has none.
    """

    def __init__(
        self, store: FaceStore, meshes: Meshes, part: Part, families: Mapping[str, float], sources: Sequence[str]
    ) -> None:
        self._meshes = meshes
        self._names = list(families)
        self._shares = np.array([families[name] for name in self._names])
        two = any(FAMILIES[name].two for name in self._names)
        self._partners = Partners(store, meshes, part, sources) if two else None

    def forge(self, source: str, index: int, rng: np.random.Generator, name: str | None = None) -> Forged:
        """Forge one face of the store, by the family ``name`` or a drawn one.

        Raises:
            PictureSize: the face is too small, lies outside its picture, or nothing shows on it.
        """
        _one_thread()
        name = name or self._names[int(rng.choice(len(self._names), p=self._shares))]
        ground = self._meshes.ground(source, index)
        if rng.random() < SOFT:
            ground = replace(ground, rgb=softened(ground.rgb, max(ground.box.width, ground.box.height), rng))
        check(ground, None, needs_other=False)
        for _ in range(DRAWS):
            family = FAMILIES[name].family.draw(rng)
            other = self._partners.nearest(ground, rng) if self._partners and family.needs_other else None
            pair = family.pair(ground, other)
            if shows(pair, ground.unit):
                return Forged(pair, ground, name, family, other.group if other else "")
        raise PictureSize(
            f"face {index} of '{source}' is so soft that '{name}' shows in none of {DRAWS} draws: it can't be forged."
        )


def shows(pair: Pair, unit: float) -> bool:
    """Whether there is anything to see: over a sixteenth of a square unit, more than :data:`LEAST` levels of change.

    A pair of equals would teach a net that it can't know.
    """
    changed = cv2.absdiff(pair.real, pair.fake).max(-1) > LEAST
    return int(changed.sum()) > (unit / 4) ** 2
