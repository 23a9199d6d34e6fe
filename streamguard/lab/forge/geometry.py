"""Where a forgery lies and how a face is laid over another: outlines, soft edges, maps.

All functions work in a window's own pixels: the caller takes the window's origin off the points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import Delaunay

from streamguard.frames import F32, U8
from streamguard.lab.forge.base import Ground, Window, log_uniform
from streamguard.lab.forge.mesh import (
    LEFT_BROW,
    LEFT_EYE,
    LIPS,
    NOSE,
    OVAL,
    PARTS,
    RIGHT_BROW,
    RIGHT_EYE,
    mean_face,
    mirror_index,
)

Hull = Literal["oval", "brows", "lower", "parts"]
Fit = Literal["similarity", "affine", "piecewise"]

HULLS: Final[tuple[Hull, ...]] = ("oval", "brows", "lower", "parts")
FITS: Final[tuple[Fit, ...]] = ("similarity", "affine", "piecewise")
_BELOW_BROWS: Final = OVAL[4:33]  # the oval without the forehead
_BELOW_EYES: Final = OVAL[7:30]
_POINTS: Final[dict[Hull, tuple[int, ...]]] = {
    "oval": OVAL,
    "brows": (*_BELOW_BROWS, *RIGHT_BROW, *LEFT_BROW),
    "lower": (*_BELOW_EYES, *NOSE),
}
_NET: Final = tuple(sorted({*OVAL, *LIPS, *NOSE, *RIGHT_EYE, *LEFT_EYE, *RIGHT_BROW, *LEFT_BROW, 4, 50, 280, 205, 425}))
_FINE: Final = 4  # bits of a polygon's vertices below the pixel


@dataclass(frozen=True, slots=True)
class Edge:
    """How an outline becomes a blend weight; lengths in units.

    Attributes:
        seed: of the vertex jitter and the elastic deformation.
        elastic: root mean square of that deformation.
        grow: how far the outline moves, negative: inwards.
        soften: sigma of the soft edge.
    """

    seed: int
    elastic: float
    grow: float
    soften: float

    @classmethod
    def draw(cls, rng: np.random.Generator, *, small: bool = False) -> Edge:
        """elastic 0.01-0.06; grow -0.16 to 0.04; soften 0.02-0.14 (log); all a third of it for ``small`` outlines."""
        share = 1 / 3 if small else 1.0
        return cls(
            seed=int(rng.integers(2**31)),
            elastic=float(rng.uniform(0.01, 0.06)) * share,
            grow=float(rng.uniform(-0.16, 0.04)) * share,
            soften=log_uniform(rng, 0.02, 0.14) * (0.6 if small else 1.0),
        )

    def apply(self, hard: F32, unit: float) -> F32:
        """(h, w) float32 0..1 -> the same, deformed, grown and softened."""
        height, width = hard.shape
        rng = np.random.default_rng(self.seed)
        rows, columns = (max(2, round(side / unit * 13)) for side in (height, width))  # 13 nodes a unit, at any size
        field = cv2.GaussianBlur(rng.standard_normal((rows, columns, 2)).astype(np.float32), (0, 0), 4)
        field = cv2.resize(np.asarray(field, np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        field *= self.elastic * unit / max(float(field.std()), 1e-6)
        bent = cv2.remap(hard, *_grid(width, height, field), cv2.INTER_LINEAR)
        radius = round(abs(self.grow) * unit)
        if radius:
            kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
            bent = cv2.erode(bent, kernel) if self.grow < 0 else cv2.dilate(bent, kernel)
        soft = np.asarray(cv2.GaussianBlur(bent, (0, 0), max(0.5, self.soften * unit)), np.float32)
        soft /= max(float(soft.max()), 1e-6)
        soft[soft < 1 / 255] = 0  # the far tail of the blur would tint everything
        return soft


def outline(kind: Hull, mesh: F32, size: tuple[int, int], keep: Sequence[str] = tuple(PARTS)) -> F32:
    """(h, w) float32 0 or 1: one of the hulls that Face X-ray and self-blending draw; ``keep`` names the parts."""
    if kind == "parts":
        return polygons([hull(mesh[list(PARTS[name])]) for name in keep], size)
    return polygons([hull(mesh[list(_POINTS[kind])])], size)


def hull(points: F32) -> F32:
    """The convex hull of (N, 2) points, in order."""
    return np.asarray(cv2.convexHull(np.asarray(points, np.float32))[:, 0], np.float32)


def polygons(shapes: Sequence[F32], size: tuple[int, int]) -> F32:
    """(h, w) float32: the filled shapes, antialiased at their borders."""
    canvas = np.zeros((size[1], size[0]), np.uint8)
    for shape in shapes:
        vertices = np.rint(shape * 2**_FINE).astype(np.int32)
        cv2.fillPoly(canvas, [vertices], 255, lineType=cv2.LINE_AA, shift=_FINE)
    return canvas.astype(np.float32) / np.float32(255)


def fit(source: F32, target: F32, kind: Literal["similarity", "affine"]) -> npt.NDArray[np.float64]:
    """(2, 3) map from ``source`` to ``target`` points, (N, 2) each, of least squares."""
    a, b = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if kind == "affine":
        solved, *_ = np.linalg.lstsq(np.hstack((a, np.ones((len(a), 1)))), b, rcond=None)
        return np.asarray(solved.T, np.float64)
    x, y = a - a.mean(0), b - b.mean(0)
    scale = max(float(np.square(x).sum()), 1e-9)
    cos = float((x * y).sum()) / scale
    sin = float((x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]).sum()) / scale
    linear = np.array([[cos, -sin], [sin, cos]])
    return np.hstack((linear, (b.mean(0) - linear @ a.mean(0))[:, None]))


def apply(matrix: npt.NDArray[np.float64], points: F32) -> F32:
    """(N, 2) points through a (2, 3) map."""
    return np.asarray(cv2.transform(np.asarray(points, np.float64)[None], matrix)[0], np.float32)


def laid_over(other: Ground, face: Ground, window: Window, kind: Fit) -> tuple[U8, F32]:
    """``other``'s picture laid over ``face``, in ``window`` of its picture: (h, w, 3) uint8 RGB and the moved mesh."""
    target = face.mesh - window.origin
    matrix = fit(other.mesh, target, "similarity" if kind == "similarity" else "affine")
    warped = cv2.warpAffine(other.rgb, matrix, window.size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    moved = apply(matrix, other.mesh)
    if kind != "piecewise":
        return np.asarray(warped, np.uint8), moved
    return bent(np.asarray(warped, np.uint8), moved, target), target


def bent(rgb: U8, source: F32, target: F32) -> U8:
    """A picture whose ``source`` mesh is drawn onto ``target``: affine in each triangle, unmoved far away."""
    height, width = rgb.shape[:2]
    points = _with_ring(target)
    shift = np.concatenate((source[list(_NET)] - target[list(_NET)], np.zeros((len(OVAL), 2), np.float32)))
    triangles = _triangles()
    numbers = np.full((height, width), len(triangles), np.int32)
    for number, corners in enumerate(points[triangles]):
        cv2.fillConvexPoly(numbers, np.rint(corners * 2**_FINE).astype(np.int32), number, shift=_FINE)
    maps = np.zeros((len(triangles) + 1, 3, 2), np.float32)  # the last one: outside, where nothing moves
    corners = np.concatenate((points[triangles], np.ones((len(triangles), 3, 1), np.float32)), axis=-1)
    corners[:, :, :2] += 1e-3 * np.array(
        [[0, 0], [1, 0], [0, 1]], np.float32
    )  # a triangle seen edge-on has an inverse too
    maps[:-1] = np.linalg.pinv(corners) @ shift[triangles]
    chosen = maps[numbers]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    field = chosen[..., 0, :] * x[..., None] + chosen[..., 1, :] * y[..., None] + chosen[..., 2, :]
    return displaced(rgb, np.asarray(field, np.float32), cv2.INTER_LINEAR)


def _with_ring(mesh: F32) -> F32:
    """The net's points and, round them, the oval a third larger, where nothing moves."""
    centre = mesh[list(OVAL)].mean(0)
    return np.concatenate((mesh[list(_NET)], centre + (mesh[list(OVAL)] - centre) * np.float32(4 / 3)))


@cache
def _triangles() -> npt.NDArray[np.int32]:
    """(T, 3) corners in :func:`_with_ring`; one triangulation, of the mean face, for all."""
    return np.asarray(Delaunay(_with_ring(mean_face())).simplices, np.int32)


def nodes(width: int, height: int, step: int) -> F32:
    """(h', w', 2) float32: where a field for :func:`enlarged` is to be computed, every ``step`` pixels."""
    xs, ys = (np.arange(0, side + 2 * step, step) for side in (width, height))
    return np.stack(np.meshgrid(xs, ys), axis=-1).astype(np.float32)


def enlarged(field: F32, width: int, height: int, step: int) -> F32:
    """A field computed at :func:`nodes`, (h, w, ...) float32 at every pixel."""
    matrix = np.array([[1 / step, 0, 0], [0, 1 / step, 0]], np.float64)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(field, matrix, (width, height), flags=flags), np.float32)


def displaced(rgb: U8, field: F32, interpolation: int) -> U8:
    """Each pixel taken from where ``field`` (h, w, 2; pixels right, down) points."""
    height, width = rgb.shape[:2]
    maps = _grid(width, height, field)
    return np.asarray(cv2.remap(rgb, *maps, interpolation, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def mirrored(face: Ground) -> Ground:
    """The face with left and right exchanged, its mesh and landmarks renamed accordingly."""
    width = face.rgb.shape[1]
    mesh, five = (np.array([width - 1, 0], np.float32) + p * np.array([-1, 1], np.float32)
                  for p in (face.mesh, face.landmarks))  # fmt: skip
    box = type(face.box)(width - face.box.x2, face.box.y1, width - face.box.x1, face.box.y2)
    rgb = np.ascontiguousarray(face.rgb[:, ::-1])
    return Ground(rgb, box, five[[1, 0, 2, 4, 3]], mesh[mirror_index()], face.group, face.measured)


def _grid(width: int, height: int, field: F32) -> tuple[F32, F32]:
    x = np.arange(width, dtype=np.float32)[None] + field[..., 0]
    y = np.arange(height, dtype=np.float32)[:, None] + field[..., 1]
    return x, y
