"""Reconstructed: the face as an auto-encoder gives it back, in the face or in the whole picture.

What a decoder can't say is missing from a deepfake even where no seam is left (arXiv:2410.11835 aligns real pictures
with their reconstructions; arXiv:2504.04827). Two small auto-encoders, each fitted on the picture itself in
milliseconds, by least squares, so that they depend on nothing else:

* ``pca``: patches through their principal components: a linear auto-encoder (P. Baldi and K. Hornik, 1989);
* ``conv``: random filters and a rectifier as encoder, their decoder a transposed convolution fitted by ridge regression
  (G.-B. Huang et al., "Extreme Learning Machine", 2006, for the idea).

The face is reduced before, as generators of faces work at their own size. The real partner is reduced and enlarged by
ordinary kernels too, in whole crops and in half of the others, and up to 1.8 times as far: either partner may be the
softer one, so softness is not the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, Self

import cv2
import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from streamguard.frames import F32, U8
from streamguard.lab.forge.base import Ground, Pair, check, composite, log_uniform
from streamguard.lab.forge.geometry import HULLS, Edge, Hull
from streamguard.lab.forge.resampling import Area, area_of, resized

_RIDGE: Final = 1e-3
_STEPS: Final = 4
_UP: Final = {"linear": cv2.INTER_LINEAR, "cubic": cv2.INTER_CUBIC}


@dataclass(frozen=True, slots=True)
class Reconstructed:
    """One auto-encoder and where its picture goes.

    Attributes:
        area, hull, edge: where.
        kind: pca or conv.
        pixels: of a unit, in the picture that is reconstructed.
        patch, stride: side of a patch, and pixels between two of them; both of the reduced picture.
        kept: components, or channels of the code.
        up: how the reconstruction is enlarged.
        seed: of the random filters, or of where the components are sought from.
        matched: how many times as far the real partner is reduced, and enlarged again; 0 = not at all.
    """

    area: Area
    hull: Hull
    edge: Edge
    kind: Literal["pca", "conv"]
    pixels: float
    patch: int
    stride: int
    kept: int
    up: Literal["linear", "cubic"]
    seed: int
    matched: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """area: crop in a third; hull uniformly; kind: half each; pixels 28-56 (log); patch 8; stride 4 (pca: or 8);
        kept 16-48 components or 32-80 channels; up: linear or cubic; matched 1-1.8: whole crops always, else p=0.5."""
        area: Area = "crop" if rng.random() < 1 / 3 else "hull"
        hull = HULLS[rng.integers(len(HULLS))]
        linear = rng.random() < 0.5
        return cls(
            area=area,
            hull=hull,
            edge=Edge.draw(rng, small=hull == "parts"),
            kind="pca" if linear else "conv",
            pixels=log_uniform(rng, 28, 56),
            patch=8,
            stride=8 if linear and rng.random() < 0.5 else 4,
            kept=int(rng.integers(16, 49) if linear else rng.integers(32, 81)),
            up="cubic" if rng.random() < 0.5 else "linear",
            seed=int(rng.integers(2**31)),
            matched=float(rng.uniform(1.0, 1.8)) * (area == "crop" or bool(rng.random() < 0.5)),
        )

    @property
    def needs_other(self) -> bool:
        """Never."""
        return False

    def pair(self, face: Ground, other: Ground | None = None) -> Pair:
        """(real, fake, mask); see ``matched`` for the real partner."""
        check(face, other, self.needs_other)
        factor = max(1.0, face.unit / self.pixels)
        real = resized(face.rgb, factor * self.matched) if factor * self.matched > 1 else face.rgb
        window, weight = area_of(self.area, self.hull, self.edge, face)
        width, height = window.size
        small = (max(3 * self.patch, round(width / factor)), max(3 * self.patch, round(height / factor)))
        shown = cv2.resize(window.of(face.rgb), small, interpolation=cv2.INTER_AREA)
        given = reconstructed(np.asarray(shown, np.uint8), self)
        return composite(real, cv2.resize(given, (width, height), interpolation=_UP[self.up]), weight, window)


def reconstructed(rgb: U8, coder: Reconstructed) -> F32:
    """(h, w, 3) float32, levels of 255: what is left of a picture after the auto-encoder's bottleneck."""
    patch, stride = coder.patch, coder.stride
    height, width = rgb.shape[:2]
    bottom, right = (-(side - patch) % stride + patch for side in (height, width))
    padded = cv2.copyMakeBorder(rgb, patch, bottom, patch, right, cv2.BORDER_REFLECT_101).astype(np.float32)
    views = sliding_window_view(padded, (patch, patch), axis=(0, 1))[::stride, ::stride]  # (rows, columns, 3, p, p)
    rows, columns = views.shape[:2]
    flat = np.ascontiguousarray(views.transpose(0, 1, 3, 4, 2)).reshape(rows * columns, -1)
    mean = flat.mean(0)
    codes = _codes(flat - mean, coder)
    gram = codes.T @ codes
    gram[np.diag_indices_from(gram)] += _RIDGE * float(np.trace(gram)) / len(gram) + 1.0  # a flat picture has no trace
    decoder = np.linalg.solve(gram, codes.T @ (flat - mean))
    back = (codes @ decoder + mean).reshape(rows, columns, patch, patch, 3)
    total = np.zeros(padded.shape, np.float32)
    count = np.zeros((*padded.shape[:2], 1), np.float32)
    for y in range(patch):
        for x in range(patch):
            place = (slice(y, y + rows * stride, stride), slice(x, x + columns * stride, stride))
            total[place] += back[:, :, y, x]
            count[place] += 1
    return np.asarray((total / np.maximum(count, 1))[patch : patch + height, patch : patch + width], np.float32)


def _codes(flat: F32, coder: Reconstructed) -> F32:
    """(N, kept) float32: the bottleneck of each patch."""
    rng = np.random.default_rng(coder.seed)
    if coder.kind == "pca":
        return np.asarray(flat @ _leading(flat.T @ flat, rng.standard_normal((flat.shape[1], coder.kept))), np.float32)
    filters = rng.standard_normal((flat.shape[1], coder.kept)).astype(np.float32) / np.float32(flat.shape[1] ** 0.5)
    # Neighbouring pixels weigh together, as in the first layers of any net: white filters see noise alone.
    smooth = filters.reshape(coder.patch, coder.patch, -1)
    smooth = np.stack([cv2.GaussianBlur(smooth[..., i], (0, 0), 1.0) for i in range(smooth.shape[-1])], axis=-1)
    codes = flat @ smooth.reshape(flat.shape[1], coder.kept)
    return np.asarray(np.maximum(codes + 0.1 * codes.std(), 0), np.float32)


def _leading(gram: F32, start: npt.NDArray[np.float64]) -> F32:
    """The leading eigenvectors by orthogonal iteration: a few steps are enough, in a tenth of the time of all."""
    vectors = np.asarray(start, np.float32)
    for _ in range(_STEPS):
        vectors, _ = np.linalg.qr(gram @ vectors)
    return vectors
