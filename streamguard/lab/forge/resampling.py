"""Resampled: the traces of a decoder's up-sampling, in the face or in the whole picture, and nothing else.

Own code after the observation that generators leave their up-sampling behind (A. Odena et al., "Deconvolution and
Checkerboard Artifacts", Distill 2016; arXiv:2504.04827): the picture is reduced and enlarged by a kernel as a network
has it. Real video is resized too, so resizing must not be the answer: where the whole picture is forged, and in half
of the other cases, the real partner is reduced and enlarged as much by an ordinary kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

import cv2
import numpy as np

from streamguard.frames import F32, U8
from streamguard.lab.augment import jpeg
from streamguard.lab.forge.base import Ground, Pair, Window, check, composite, log_uniform, window_of
from streamguard.lab.forge.geometry import HULLS, Edge, Hull, outline

Area = Literal["hull", "crop"]
Kernel = Literal["nearest", "linear", "transposed"]

_REACH: Final = 0.25
_STRIDES: Final = (2, 2, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Resampled:
    """One reduction and enlargement.

    Attributes:
        area: in a hull of the face, or everywhere.
        hull, edge: which hull, and how it fades out.
        kernel: nearest (smoothed by 3x3 after it), linear, or a transposed convolution.
        stride: how much smaller the picture gets, in each direction.
        taps: side of the transposed convolution's kernel; not a multiple of the stride, it overlaps unevenly.
        noise: relative deviation of that kernel's weights: the checkerboard.
        gain: amplitude of a gain that repeats every ``stride`` pixels.
        quality: JPEG in the middle, on the small picture; 0 = none.
        seed: of kernel and gain.
        matched: the real partner is resized as much, by area and cubic interpolation.
    """

    area: Area
    hull: Hull
    edge: Edge
    kernel: Kernel
    stride: int
    taps: int
    noise: float
    gain: float
    quality: int
    seed: int
    matched: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """area: crop in a third; hull: uniformly; kernel: transposed in half, else nearest or linear (whole crops:
        never linear, as real video is); stride 2 in 3 of 5, 3 or 4; taps: up to 3 more than the stride; noise
        0.01-0.08 (log); gain 0.004-0.02 (log) with p=0.5; quality 40-95 with p=0.3; matched: always for whole crops,
        else p=0.5."""
        area: Area = "crop" if rng.random() < 1 / 3 else "hull"
        plain: tuple[Kernel, ...] = ("nearest",) if area == "crop" else ("nearest", "linear")
        kernel: Kernel = "transposed" if rng.random() < 0.5 else plain[rng.integers(len(plain))]
        stride = _STRIDES[rng.integers(len(_STRIDES))]
        hull = HULLS[rng.integers(len(HULLS))]
        return cls(
            area=area,
            hull=hull,
            edge=Edge.draw(rng, small=hull == "parts"),
            kernel=kernel,
            stride=stride,
            taps=stride + int(rng.integers(1, 4)),
            noise=log_uniform(rng, 0.01, 0.08),
            gain=log_uniform(rng, 0.004, 0.02) * bool(rng.random() < 0.5),
            quality=int(rng.integers(40, 96)) if rng.random() < 0.3 else 0,
            seed=int(rng.integers(2**31)),
            matched=area == "crop" or bool(rng.random() < 0.5),
        )

    @property
    def needs_other(self) -> bool:
        """Never."""
        return False

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """(real, fake, mask); see ``matched`` for the real partner."""
        check(face, other, self.needs_other)
        real = resized(face.rgb, self.stride) if self.matched else face.rgb
        window, weight = area_of(self.area, self.hull, self.edge, face)
        return composite(real, self._traced(window.of(face.rgb)), weight, window)

    def _traced(self, rgb: U8) -> F32:
        height, width = rgb.shape[:2]
        stride = self.stride
        small = reduced(rgb, stride)
        if self.quality:
            small = jpeg(small, self.quality)
        rng = np.random.default_rng(self.seed)
        size = (small.shape[1] * stride, small.shape[0] * stride)
        if self.kernel == "transposed":
            large = transposed(small, stride, self._weights(rng))
        elif self.kernel == "nearest":
            large = cv2.blur(cv2.resize(small, size, interpolation=cv2.INTER_NEAREST), (3, 3)).astype(np.float32)
        else:
            large = cv2.resize(small, size, interpolation=cv2.INTER_LINEAR).astype(np.float32)
        tile = 1 + self.gain * rng.standard_normal((stride, stride, 1)).astype(np.float32)
        large *= np.tile(tile, (small.shape[0], small.shape[1], 1))
        return np.asarray(large[:height, :width], np.float32)

    def _weights(self, rng: np.random.Generator) -> F32:
        """(taps, taps) float32: bilinear, each of the stride's phases with a sum of 1; then disturbed."""
        distance = np.abs(np.arange(self.taps) - (self.taps - 1) / 2)
        ramp = np.maximum(0.05, 1 - distance / self.stride)
        for phase in range(self.stride):
            ramp[phase :: self.stride] /= ramp[phase :: self.stride].sum()
        kernel = np.outer(ramp, ramp) * (1 + self.noise * rng.standard_normal((self.taps, self.taps)))
        return np.asarray(kernel * self.stride**2 / kernel.sum(), np.float32)


def area_of(area: Area, hull: Hull, edge: Edge, face: Ground) -> tuple[Window, F32]:
    """The window and the (h, w) float32 weight of a forgery that needs no second face."""
    if area == "crop":
        height, width = face.rgb.shape[:2]
        return Window(0, 0, width, height), np.ones((height, width), np.float32)
    window = window_of(face, _REACH)
    return window, edge.apply(outline(hull, face.mesh - window.origin, window.size), face.unit)


def reduced(rgb: U8, stride: int) -> U8:
    """A ``stride`` times smaller picture, each of its pixels a mean; the border is mirrored to a whole number."""
    height, width = rgb.shape[:2]
    padded = cv2.copyMakeBorder(rgb, 0, -height % stride, 0, -width % stride, cv2.BORDER_REFLECT)
    size = (padded.shape[1] // stride, padded.shape[0] // stride)
    return np.asarray(cv2.resize(padded, size, interpolation=cv2.INTER_AREA), np.uint8)


def resized(rgb: U8, stride: float) -> U8:
    """Reduced by means and enlarged by cubic interpolation, at its old size: what ordinary video went through."""
    height, width = rgb.shape[:2]
    small = cv2.resize(
        rgb, (max(2, round(width / stride)), max(2, round(height / stride))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def transposed(small: U8, stride: int, kernel: F32) -> F32:
    """A transposed convolution of each channel: (h, w, 3) -> (h * stride, w * stride, 3) float32."""
    height, width = small.shape[:2]
    border = -(-len(kernel) // stride)
    padded = cv2.copyMakeBorder(small, border, border, border, border, cv2.BORDER_REPLICATE)
    sparse = np.zeros((padded.shape[0] * stride, padded.shape[1] * stride, 3), np.float32)
    sparse[stride // 2 :: stride, stride // 2 :: stride] = padded
    dense = cv2.filter2D(sparse, -1, kernel[::-1, ::-1], borderType=cv2.BORDER_CONSTANT)
    start = border * stride
    return np.asarray(dense[start : start + height * stride, start : start + width * stride], np.float32)
