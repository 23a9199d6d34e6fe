"""What every family of forgeries keeps to.

A family is a frozen dataclass: the parameters of one forgery. ``draw(rng)`` gives one of its documented distribution,
``pair(face, other)`` makes it. The same parameters and faces give the same pixels. Outside the mask the forged picture
is its real partner, bit for bit: the weight is rounded to the mask's 255 levels before it is used (:func:`composite`).
Sizes are in units, the distance of the eyes or of eyes and mouth, whichever is longer, so that one set of parameters
means the same forgery at any size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np

from streamguard.errors import PictureSize, UsageError
from streamguard.frames import F32, U8, Box

SMALLEST_UNIT: Final = 14.0
"""Pixels: below, an eye is four pixels wide and no edit of it is more than noise."""


@dataclass(frozen=True, slots=True, eq=False)
class Ground:
    """A real face that something is made of.

    Attributes:
        rgb: (H, W, 3) uint8 RGB; never written to.
        box: the face, pixels.
        landmarks: (5, 2) float32 pixels, in YuNet's order.
        mesh: (468, 2) float32 pixels, the topology of MediaPipe's face mesh.
        group: the person, or the recording where nobody knows the person. Nothing is swapped within a group.
        measured: False where the mesh is the mean face laid over the five landmarks.
    """

    rgb: U8
    box: Box
    landmarks: F32
    mesh: F32
    group: str
    measured: bool = True

    @property
    def unit(self) -> float:
        """Pixels."""
        return unit_of(self.landmarks)


class Pair(NamedTuple):
    """Real partner and forgery, (H, W, 3) uint8 RGB; mask (H, W) uint8, 0 = untouched, 255 = replaced."""

    real: U8
    fake: U8
    mask: U8


@runtime_checkable
class Family(Protocol):
    """One drawn forgery."""

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Parameters of the family's distribution."""
        ...

    @property
    def needs_other(self) -> bool:
        """Whether :meth:`pair` takes something of another person's face."""
        ...

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """Forge ``face``.

        Raises:
            PictureSize: it is too small, or lies outside its picture.
            UsageError: ``other`` is needed and absent, or of the same group.
        """
        ...


class Window(NamedTuple):
    """A part of a picture: x1, y1, x2, y2 in whole pixels."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.x2 - self.x1, self.y2 - self.y1

    @property
    def origin(self) -> F32:
        """(2,) float32."""
        return np.array([self.x1, self.y1], np.float32)

    def of(self, picture: U8) -> U8:
        """That part, a view."""
        return picture[self.y1 : self.y2, self.x1 : self.x2]


def unit_of(landmarks: F32) -> float:
    """Pixels between the eyes, or between eyes and mouth where that is more."""
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    return float(max(np.hypot(*(landmarks[1] - landmarks[0])), np.hypot(*(mouth - eyes))))


def check(face: Ground, other: Ground | None, needs_other: bool) -> None:
    """Refuse what can't be forged. Raises as :meth:`Family.pair` does."""
    height, width = face.rgb.shape[:2]
    eyes, mouth = face.landmarks[:2].mean(0), face.landmarks[3:].mean(0)
    inside = all(0 <= x < width and 0 <= y < height for x, y in (eyes, mouth))
    if not face.unit >= SMALLEST_UNIT or not inside:
        raise PictureSize(
            f"a face of '{face.group}' with landmarks {face.landmarks.round(1).tolist()} in a picture of "
            f"{width}x{height} can't be forged: eyes and mouth have to lie in it, {SMALLEST_UNIT:g} pixels apart."
        )
    if needs_other:
        partner(face, other)


def partner(face: Ground, other: Ground | None) -> Ground:
    """The second face. Raises as :meth:`Family.pair` does where there is none of another group."""
    if other is None:
        raise UsageError(f"this forgery of '{face.group}' needs a second face, of another group. Give one.")
    if other.group == face.group:
        raise UsageError(f"both faces are of group '{face.group}'. A partner has to be of another group.")
    return other


def window_of(face: Ground, reach: float) -> Window:
    """The mesh with ``reach`` units round it, cut at the picture's borders."""
    height, width = face.rgb.shape[:2]
    low = np.floor(face.mesh.min(0) - reach * face.unit).astype(int)
    high = np.ceil(face.mesh.max(0) + reach * face.unit).astype(int) + 1
    x1, y1 = max(0, int(low[0])), max(0, int(low[1]))
    return Window(x1, y1, max(x1 + 1, min(width, int(high[0]))), max(y1 + 1, min(height, int(high[1]))))


def composite(real: U8, made: F32 | U8, weight: F32, window: Window) -> Pair:
    """``made`` (h, w, 3; levels of 255) over ``real`` by ``weight`` (h, w; 0..1), both of the size of ``window``."""
    mask = np.zeros(real.shape[:2], np.uint8)
    part = np.rint(np.clip(weight, 0, 1) * 255).astype(np.uint8)
    mask[window.y1 : window.y2, window.x1 : window.x2] = part
    share = (part.astype(np.float32) / 255)[..., None]
    below = window.of(real).astype(np.float32)
    mixed = below + share * (np.asarray(made, np.float32) - below)
    fake = real.copy()
    fake[window.y1 : window.y2, window.x1 : window.x2] = np.clip(np.rint(mixed), 0, 255)
    return Pair(real, fake, mask)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Uniform in the logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
