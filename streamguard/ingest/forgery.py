"""Self-blended forgeries: a face pasted over itself, slightly changed.

Own code after K. Shiohara and T. Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022
(arXiv:2204.08376): a copy of the face gets other colours or another resolution, is moved and scaled a
little, and is blended back through a soft, deformed mask. What is left are the traces of any face swap:
a seam, and two halves of one picture that do not share their statistics. No second person is needed.

The paper draws its masks from 81 landmarks; here the five of a light detector do, by way of a canonical
face: a square of :data:`CANVAS` pixels in which the face stands upright and its unit (the distance of the
eyes, or that of eyes and mouth where a turned head makes it longer) is :data:`UNIT` pixels. All sizes are in
units, so that one set of parameters means the same forgery at a face of 60 and of 600 pixels, and in every
frame of a video.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import cv2
import numpy as np
import numpy.typing as npt

from streamguard.errors import PictureSize
from streamguard.frames import F32, U8

MaskKind = Literal["hull", "extended", "lower", "parts"]
Detail = Literal["nearest", "linear", "cubic", "sharpen", "none"]

CANVAS: Final = 224
UNIT: Final = 52.0  # a canvas of 4.3 units: the whole head with room for the soft edge
SMALLEST_UNIT: Final = 6.0  # pixels; below, eyes and mouth are a handful of pixels and no seam survives
RATIOS: Final = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # the paper's
MASKS: Final[tuple[MaskKind, ...]] = ("hull", "extended", "lower", "parts")
_INTERPOLATION: Final = {"nearest": cv2.INTER_NEAREST, "linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}
# Upper edge of the mask over the eyes, half its width, lower edge under the mouth; in units.
_EXTENT: Final = {"hull": (0.5, 1.0, 0.62), "extended": (0.95, 1.08, 0.72), "lower": (-0.12, 0.95, 0.66)}


@dataclass(frozen=True, slots=True)
class SelfBlend:
    """The parameters of one forgery; the same parameters and picture give the same forgery.

    Attributes:
        mask: which part of the face is replaced.
        seed: of the mask's vertex jitter and elastic deformation.
        elastic: root mean square of that deformation, units.
        erode, soften: how far the mask shrinks, and the sigma of its soft edge; units.
        ratio: blend ratio, 0 (nothing) to 1 (the pasted face covers).
        move, scale: displacement (right, down) of the pasted face in units, and its size.
        shift: added to R, G, B; levels of 255.
        hue, saturation, value: hue added in degrees; the other two as a factor less one.
        brightness, contrast: added in shares of 255; factor less one, about mid grey.
        detail: what happens to the fine structure, ``detail_size`` says how much: the number of pixels that a
            unit is reduced to before it is enlarged by that interpolation, or the strength of sharpening.
        on_source: :meth:`pair` changes colours and detail of the pasted face (else of all but that face).
    """

    mask: MaskKind
    seed: int
    elastic: float
    erode: float
    soften: float
    ratio: float
    move: tuple[float, float]
    scale: float
    shift: tuple[float, float, float]
    hue: float
    saturation: float
    value: float
    brightness: float
    contrast: float
    detail: Detail
    detail_size: float
    on_source: bool = True

    @classmethod
    def draw(cls, rng: np.random.Generator, *, ratio: float | None = None) -> SelfBlend:
        """One forgery of the documented distribution; ``ratio`` conditions it on that blend ratio.

        mask: one of four, uniformly; elastic 0.01-0.06; erode 0.02-0.16 (parts: a third); soften 0.02-0.14 (log);
        ratio: one of 0.25, 0.5, 0.75, 1, 1, 1; move: +-0.12 right, +-0.06 down; scale: 0.95-1/0.95.
        Colours: with p=0.5 a shift of +-20 a channel; hue +-8 degrees, saturation +-25 %, value +-10 %;
        brightness and contrast +-10 %. Detail: p=0.6 a unit reduced to 14-48 pixels (log-uniform) and enlarged
        by nearest, linear or cubic; p=0.25 sharpened by 0.2-0.7; else as it was. ``on_source`` p=0.5.
        """
        mask = MASKS[rng.integers(len(MASKS))]
        coloured = rng.random() < 0.5
        kind = rng.random()
        detail: Detail = "none"
        size = 0.0
        if kind < 0.6:
            detail = ("nearest", "linear", "cubic")[rng.integers(3)]
            size = _log_uniform(rng, 14, 48)
        elif kind < 0.85:
            detail, size = "sharpen", float(rng.uniform(0.2, 0.7))
        drawn = RATIOS[rng.integers(len(RATIOS))]
        red, green, blue = (float(x) * coloured for x in rng.uniform(-20, 20, 3))
        return cls(
            mask=mask,
            seed=int(rng.integers(2**31)),
            elastic=float(rng.uniform(0.01, 0.06)),
            erode=float(rng.uniform(0.02, 0.16)) * (1 / 3 if mask == "parts" else 1.0),
            soften=_log_uniform(rng, 0.02, 0.14),
            ratio=drawn if ratio is None else ratio,
            move=(float(rng.uniform(-0.12, 0.12)), float(rng.uniform(-0.06, 0.06))),
            scale=float(rng.uniform(0.95, 1 / 0.95)),
            shift=(red, green, blue),
            hue=float(rng.uniform(-8, 8)),
            saturation=float(rng.uniform(-0.25, 0.25)),
            value=float(rng.uniform(-0.1, 0.1)),
            brightness=float(rng.uniform(-0.1, 0.1)),
            contrast=float(rng.uniform(-0.1, 0.1)),
            detail=detail,
            detail_size=size,
            on_source=bool(rng.random() < 0.5),
        )

    def apply(self, rgb: U8, landmarks: F32) -> tuple[U8, U8]:
        """Forge one face; the rest of the picture stays as it is, bit for bit.

        Args:
            rgb: (H, W, 3) uint8 RGB; not changed.
            landmarks: (5, 2) float32 pixels: right eye, left eye, nose, right and left corner of the mouth
                (the person's own right, so left in the picture), the order of YuNet.

        Returns:
            The forged picture, (H, W, 3) uint8 RGB, and the blend weight, (H, W) uint8, 0 = untouched, 255 = replaced.

        Raises:
            PictureSize: eyes and mouth less than 6 pixels apart, or landmarks outside the picture.
        """
        return self._blend(rgb, rgb, landmarks, source_changes=True)

    def pair(self, rgb: U8, landmarks: F32) -> tuple[U8, U8, U8]:
        """A training pair: (real, fake, mask), as :meth:`apply` has them.

        Where not ``on_source``, the whole of the real partner is changed and the unchanged face is pasted into
        it: the paper's way to keep "other colours" or "softer" from meaning "fake".
        """
        if self.on_source:
            return rgb, *self._blend(rgb, rgb, landmarks, source_changes=True)
        unit = _canonical(landmarks, rgb.shape[0], rgb.shape[1])[1]
        real = self._changed(rgb, unit)
        return real, *self._blend(real, rgb, landmarks, source_changes=False)

    def _blend(self, target: U8, source: U8, landmarks: F32, *, source_changes: bool) -> tuple[U8, U8]:
        height, width = target.shape[:2]
        to_picture, unit = _canonical(landmarks, height, width)
        upright = cv2.transform(landmarks[None], cv2.invertAffineTransform(to_picture))[0]
        weight = self._mask(np.asarray(upright, np.float32))
        x1, y1, x2, y2 = _window(to_picture, width, height)
        local = to_picture - np.array([[0, 0, x1], [0, 0, y1]])
        size = (x2 - x1, y2 - y1)
        weight = np.asarray(cv2.warpAffine(weight, local, size, flags=cv2.INTER_LINEAR), np.float32) * np.float32(
            self.ratio
        )
        pasted = source[y1:y2, x1:x2]
        if source_changes:
            pasted = self._changed(pasted, unit)
        centre = local @ np.array([CANVAS / 2, CANVAS / 2, 1.0])
        moved = _about(centre, self.scale, (self.move[0] * unit, self.move[1] * unit))
        above = cv2.warpAffine(pasted, moved, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        weight = np.asarray(cv2.warpAffine(weight, moved, size, flags=cv2.INTER_LINEAR), np.float32)
        below = target[y1:y2, x1:x2].astype(np.float32)
        mixed = below + weight[..., None] * (above.astype(np.float32) - below)
        fake = target.copy()
        fake[y1:y2, x1:x2] = np.clip(np.rint(mixed), 0, 255)
        mask = np.zeros((height, width), np.uint8)
        mask[y1:y2, x1:x2] = np.rint(weight * 255)
        return fake, mask

    def _changed(self, rgb: U8, unit: float) -> U8:
        """Colours and detail: the statistics by which pasted face and picture differ."""
        hsv = np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2HSV), np.float32)
        hsv[..., 0] = (hsv[..., 0] + self.hue) % 360
        hsv[..., 1] *= 1 + self.saturation
        hsv[..., 2] *= 1 + self.value
        np.clip(hsv[..., 1:], 0, 1, out=hsv[..., 1:])
        colour = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255 + np.array(self.shift, np.float32)
        colour = (colour - 127.5) * (1 + self.contrast) + 127.5 + self.brightness * 255
        changed = np.asarray(np.clip(np.rint(colour), 0, 255), np.uint8)
        return self._detailed(changed, unit)

    def _detailed(self, rgb: U8, unit: float) -> U8:
        if self.detail == "none":
            return rgb
        if self.detail == "sharpen":
            soft = cv2.GaussianBlur(rgb, (0, 0), max(0.8, unit / UNIT))
            return np.asarray(cv2.addWeighted(rgb, 1 + 2 * self.detail_size, soft, -2 * self.detail_size, 0), np.uint8)
        height, width = rgb.shape[:2]
        factor = min(self.detail_size / unit, 0.8)  # a face that is small already still loses something
        small = (max(2, round(width * factor)), max(2, round(height * factor)))
        reduced = cv2.resize(rgb, small, interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(reduced, (width, height), interpolation=_INTERPOLATION[self.detail]), np.uint8)

    def _mask(self, points: F32) -> F32:
        """(CANVAS, CANVAS) float32 0..1: deformed, shrunk and softened, in the canonical face."""
        rng = np.random.default_rng(self.seed)
        hard = _parts(points, rng) if self.mask == "parts" else _outline(points, _EXTENT[self.mask], rng)
        field = rng.standard_normal((CANVAS // 4, CANVAS // 4, 2)).astype(np.float32)
        field = np.asarray(cv2.GaussianBlur(field, (0, 0), 4), np.float32)
        field *= self.elastic * UNIT / max(float(field.std()), 1e-6)
        grid = np.stack(np.meshgrid(np.arange(CANVAS), np.arange(CANVAS)), axis=-1).astype(np.float32)
        grid += np.asarray(cv2.resize(field, (CANVAS, CANVAS), interpolation=cv2.INTER_LINEAR), np.float32)
        bent = cv2.remap(hard, grid[..., 0], grid[..., 1], cv2.INTER_LINEAR)
        radius = max(1, round(self.erode * UNIT))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        blurred = cv2.GaussianBlur(cv2.erode(bent, kernel), (0, 0), self.soften * UNIT)
        soft = np.asarray(blurred / max(float(blurred.max()), 1e-6), np.float32)
        soft[soft < 1 / 255] = 0  # the far tail of the blur would tint the whole canvas
        return soft


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _canonical(landmarks: F32, height: int, width: int) -> tuple[npt.NDArray[np.float64], float]:
    """(2, 3) similarity from canonical face to picture, and the length of a unit in picture pixels."""
    points = np.asarray(landmarks, np.float64)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    across, down = points[1] - points[0], mouth - eyes
    unit = float(max(np.hypot(*across), np.hypot(*down)))
    inside = 0 <= eyes[0] < width and 0 <= eyes[1] < height and 0 <= mouth[0] < width and 0 <= mouth[1] < height
    if not unit >= SMALLEST_UNIT or not inside:
        raise PictureSize(
            f"landmarks {points.round(1).tolist()} in a picture of {width}x{height} show no face that can be forged: "
            f"eyes and mouth have to lie in it, {SMALLEST_UNIT:g} pixels apart."
        )
    # Both directions count: the eyes of a profile, or a mouth half hidden, are unreliable alone.
    right = across + np.array([down[1], -down[0]])
    right *= unit / UNIT / max(float(np.hypot(*right)), 1e-9)
    linear = np.array([[right[0], -right[1]], [right[1], right[0]]])
    centre = (eyes + mouth) / 2
    return np.hstack((linear, (centre - linear @ np.full(2, CANVAS / 2))[:, None])), unit


def _window(to_picture: npt.NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Where the canvas lies in the picture: x1, y1, x2, y2, cut at its borders."""
    corners = np.array([[[0, 0], [CANVAS, 0], [0, CANVAS], [CANVAS, CANVAS]]], np.float64)
    found = cv2.transform(corners, to_picture)[0]
    low, high = np.floor(found.min(0)).astype(int), np.ceil(found.max(0)).astype(int)
    return max(0, low[0]), max(0, low[1]), min(width, high[0]), min(height, high[1])


def _about(centre: npt.NDArray[np.float64], scale: float, move: tuple[float, float]) -> npt.NDArray[np.float64]:
    """(2, 3) matrix that scales about ``centre`` and then moves; pixels."""
    linear = np.eye(2) * scale
    return np.hstack((linear, (centre - linear @ centre + np.array(move))[:, None]))


def _outline(points: F32, extent: tuple[float, float, float], rng: np.random.Generator) -> F32:
    """A hull: between the heights that ``extent`` gives, a super-ellipse with 5 % of jitter at its vertices."""
    above, half, below = extent
    top = float(points[:2, 1].mean()) - above * UNIT
    bottom = float(points[3:, 1].mean()) + below * UNIT
    cx, cy, ry = float(points[:, 0].mean()), (top + bottom) / 2, (bottom - top) / 2
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radius = rng.uniform(0.95, 1.05, angle.size)
    power = rng.uniform(0.75, 1.0)  # 1 = ellipse, less = fuller cheeks
    x = cx + half * UNIT * radius * np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** power
    y = cy + ry * radius * np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power
    return _filled([np.stack((x, y), axis=1)])


def _parts(points: F32, rng: np.random.Generator) -> F32:
    """Eyes, nose and mouth; each may be left out, one stays at least."""
    right, left, nose, mouth_right, mouth_left = points.astype(np.float64)
    eyes, mouth = (right + left) / 2, (mouth_right + mouth_left) / 2
    half_mouth = float(np.hypot(*(mouth_left - mouth_right))) / 2 / UNIT
    ellipses = [
        (np.stack((right, left)), 0.34, 0.24),
        (((eyes + nose) / 2 + (nose - eyes) * 0.15)[None], 0.28, 0.5),
        (mouth[None], half_mouth + 0.22, 0.28),
    ]
    kept = rng.random(3) < 0.7
    kept[rng.integers(3)] = True
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    shapes = []
    for (centres, rx, ry), keep in zip(ellipses, kept, strict=True):
        radius = rng.uniform(0.9, 1.1, angle.size) * UNIT
        ring = np.stack((rx * radius * np.cos(angle), ry * radius * np.sin(angle)), axis=1)
        shapes += [centre + ring for centre in centres if keep]
    return _filled(shapes)


def _filled(polygons: list[npt.NDArray[np.float64]]) -> F32:
    canvas = np.zeros((CANVAS, CANVAS), np.float32)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.rint(polygon).astype(np.int32)], 1.0)
    return canvas
