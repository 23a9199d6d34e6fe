"""What happens to a picture on its way to a detector, in five severities each: what does it cost in AUC?

A corruption is done to the whole picture a face lies in, before the serving crop, as a camera or a coder
would do it, and to real and fake faces alike. The same seed gives the same corruption. The kinds and
steps follow D. Hendrycks and T. Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations", ICLR 2019 (arXiv:1903.12261), with what a face detector adds: boxes that are off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from streamguard.frames import U8, Box
from streamguard.lab.augment import h264, jpeg

Placed = tuple[U8, Box]
Change = Callable[[U8, Box, float, np.random.Generator], Placed]
SEVERITIES: Final = 5


@dataclass(frozen=True, slots=True)
class Corruption:
    """``steps``: the parameter at severity 1 to 5, mildest first; ``unit`` says what it counts."""

    name: str
    unit: str
    steps: tuple[float, float, float, float, float]
    change: Change

    def apply(self, rgb: U8, box: Box, severity: int, seed: int) -> Placed:
        """(H, W, 3) uint8 RGB with a face at ``box`` -> both as they come out; ``severity`` 1..5."""
        return self.change(rgb, box, self.steps[severity - 1], np.random.default_rng(seed))


def _pixels(change: Callable[[U8, float], np.ndarray]) -> Change:
    """A corruption that leaves the face where it is and draws nothing."""
    return lambda rgb, box, step, rng: (np.asarray(change(rgb, step), np.uint8), box)


def _levels(change: Callable[[np.ndarray, float], np.ndarray]) -> Change:
    """One that maps levels 0..1 to levels, the same for each channel."""

    def mapped(rgb: U8, step: float) -> np.ndarray:
        table = change(np.arange(256) / 255.0, step) * 255
        return cv2.LUT(rgb, np.clip(np.rint(table), 0, 255).astype(np.uint8))

    return _pixels(mapped)


def _coded(rgb: U8, box: Box, crf: float, rng: np.random.Generator) -> Placed:
    """As the third frame of a video whose camera shakes by a pixel or two."""
    even = rgb[: rgb.shape[0] // 2 * 2, : rgb.shape[1] // 2 * 2]
    before = [np.roll(even, tuple(map(int, rng.integers(-2, 3, 2))), (0, 1)) for _ in range(2)]
    return h264([*map(np.ascontiguousarray, before), np.ascontiguousarray(even)], int(crf)), box


def _smaller(rgb: U8, box: Box, factor: float, rng: np.random.Generator) -> Placed:
    """The face has fewer pixels; the crop enlarges it."""
    height, width = rgb.shape[:2]
    size = (max(16, round(width * factor)), max(16, round(height * factor)))
    fx, fy = size[0] / width, size[1] / height
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8), Box(box.x1 * fx, box.y1 * fy, box.x2 * fx, box.y2 * fy)


def _moved(rgb: U8, sigma: float) -> np.ndarray:
    """Motion along the picture's rows, ``sigma`` pixels to each side."""
    kernel = np.zeros((1, 2 * int(sigma) + 1), np.float32) + 1 / (2 * int(sigma) + 1)
    return cv2.filter2D(rgb, -1, kernel)


def _noisy(rgb: U8, box: Box, sigma: float, rng: np.random.Generator) -> Placed:
    noise = rng.standard_normal(rgb.shape, np.float32) * np.float32(sigma)
    return np.asarray(np.clip(np.rint(rgb + noise), 0, 255), np.uint8), box


def _saturated(rgb: U8, factor: float) -> np.ndarray:
    grey = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(rgb, factor, grey, 1 - factor, 0)


def _sharpened(rgb: U8, amount: float) -> np.ndarray:
    return cv2.addWeighted(rgb, 1 + amount, cv2.GaussianBlur(rgb, (0, 0), 1.2), -amount, 0)


def _equalised(rgb: U8, limit: float) -> np.ndarray:
    """Local contrast (CLAHE) on the lightness, as a camera's tone mapping does it."""
    lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(limit, (4, 4)).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _shifted(rgb: U8, box: Box, share: float, rng: np.random.Generator) -> Placed:
    """The box lies beside the face by a share of its width."""
    turn = rng.uniform(0, 2 * np.pi)
    dx, dy = share * box.width * np.cos(turn), share * box.height * np.sin(turn)
    return rgb, Box(*(float(v) for v in (box.x1 + dx, box.y1 + dy, box.x2 + dx, box.y2 + dy)))


def _rescaled(rgb: U8, box: Box, factor: float, rng: np.random.Generator) -> Placed:
    (x, y), w, h = box.centre, box.width * factor / 2, box.height * factor / 2
    return rgb, Box(x - w, y - h, x + w, y + h)


def _covered(rgb: U8, box: Box, share: float, rng: np.random.Generator) -> Placed:
    """A grey square hides a share of the face."""
    side = float(np.sqrt(share * box.width * box.height))
    x = int(rng.uniform(box.x1, max(box.x1 + 1, box.x2 - side)))
    y = int(rng.uniform(box.y1, max(box.y1 + 1, box.y2 - side)))
    hidden = rgb.copy()
    hidden[max(0, y) : max(0, y + round(side)), max(0, x) : max(0, x + round(side))] = 128
    return hidden, box


CORRUPTIONS: Final = (
    Corruption("jpeg", "quality", (95, 75, 50, 30, 15), _pixels(lambda rgb, q: jpeg(rgb, int(q)))),
    Corruption("h264", "CRF", (18, 23, 28, 35, 40), _coded),
    Corruption("downscale", "factor", (0.75, 0.5, 0.35, 0.25, 0.15), _smaller),
    Corruption("blur", "sigma, px", (0.5, 1, 2, 3, 4), _pixels(lambda rgb, s: cv2.GaussianBlur(rgb, (0, 0), s))),
    Corruption("motion blur", "reach, px", (1, 2, 3, 5, 8), _pixels(_moved)),
    Corruption("noise", "sigma, levels", (2, 5, 10, 16, 25), _noisy),
    Corruption("brightness", "shift", (0.1, -0.1, 0.2, -0.2, -0.3), _levels(lambda x, step: x + step)),
    Corruption("contrast", "factor", (0.8, 1.3, 0.6, 0.4, 0.25), _levels(lambda x, step: (x - 0.5) * step + 0.5)),
    Corruption("gamma", "exponent", (0.8, 1.25, 0.6, 1.7, 2.5), _levels(lambda x, step: x**step)),
    Corruption("saturation", "factor", (0.7, 1.3, 0.4, 1.8, 0.0), _pixels(_saturated)),
    Corruption("sharpening", "amount", (0.3, 0.6, 1.0, 1.5, 2.5), _pixels(_sharpened)),
    Corruption("local contrast", "clip limit", (1, 2, 3, 5, 8), _pixels(_equalised)),
    Corruption("crop shift", "share of the box", (0.02, 0.04, 0.07, 0.1, 0.15), _shifted),
    Corruption("box scale", "factor", (0.95, 1.1, 0.9, 1.2, 0.8), _rescaled),
    Corruption("occlusion", "share of the box", (0.05, 0.1, 0.15, 0.2, 0.3), _covered),
)

COMPRESSION: Final = {"jpeg": (1, 2, 3), "h264": (1, 2, 3)}
"""The severities that the compression target speaks of: JPEG 50-95 and CRF 18-28."""
