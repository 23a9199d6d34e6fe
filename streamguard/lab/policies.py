"""Augmentation policies: what may happen to a training picture, real or fake, before the net sees it.

A policy is a drawn chain: its seed says all, nothing in it depends on a picture's content, and both partners of a
forged pair go through the same one. ``--policy`` names it:

* ``forensic``: compression, resizing, blur, noise, light, as streams have them
  (:class:`~streamguard.lab.augment.Chain`);
* ``forensic+cutout``: the same, and in half of the pictures one or two rectangles are greyed (T. DeVries and G. Taylor,
  arXiv:1708.04552), so that no single spot of a face can decide;
* ``paper``: flips, brightness and contrast, rotation and scale, noise, CLAHE: the augmentation of S. Banerjee et al.,
  "Neural Architecture Search Based Deepfake Detection Model using YOLO", 2025. It is there to be compared with: it
  knows no compression, and it turns faces upside down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Protocol

import cv2
import numpy as np

from streamguard.errors import UsageError
from streamguard.frames import U8, Box
from streamguard.lab.augment import Chain, Crop, mirrored, plain

_GREY: Final = 127  # the net's own zero


class Policy(Protocol):
    """One drawn chain."""

    def apply(self, rgb: U8, box: Box, target: Crop) -> U8:
        """(H, W, 3) uint8 RGB with a face at ``box`` -> (size, size, 3) uint8 RGB, changed and cropped."""
        ...

    def twice(self, rgb: U8, box: Box, target: Crop) -> tuple[U8, U8]:
        """:meth:`apply`, and the same picture stored once more: two that ought to score alike."""
        ...


@dataclass(frozen=True, slots=True)
class Cutout:
    """The forensic chain, then holes: p=0.5, one or two rectangles with sides of 15-35 % of the crop."""

    seed: int

    def apply(self, rgb: U8, box: Box, target: Crop) -> U8:
        """See :class:`Policy`."""
        return self.holed(Chain(self.seed).apply(rgb, box, target))

    def twice(self, rgb: U8, box: Box, target: Crop) -> tuple[U8, U8]:
        """See :class:`Policy`. Both have the same holes."""
        first, second = Chain(self.seed).twice(rgb, box, target)
        return self.holed(first), self.holed(second)

    def holed(self, picture: U8) -> U8:
        """(S, S, 3) uint8 RGB with its holes, a copy where it has any."""
        rng = np.random.default_rng((self.seed, 2))  # a stream of its own: the chain stays what it is without holes
        if rng.random() < 0.5:
            return picture
        picture, size = picture.copy(), picture.shape[0]
        for _ in range(int(rng.integers(1, 3))):
            width, height = (max(1, round(float(s) * size)) for s in rng.uniform(0.15, 0.35, 2))
            x, y = (int(rng.integers(0, size - side + 1)) for side in (width, height))
            picture[y : y + height, x : x + width] = _GREY
        return picture


@dataclass(frozen=True, slots=True)
class Paper:
    """The paper's augmentation. It names the kinds; the shares are this project's.

    Flip left to right p=0.5, upside down p=0.25; brightness and contrast +-0.2 p=0.5; rotation +-15 degrees with scale
    0.9-1.1 p=0.5; Gaussian noise of sigma 2-10 levels p=0.3; CLAHE (K. Zuiderveld, 1994) with clip limit 1-4 p=0.3.
    """

    seed: int

    def apply(self, rgb: U8, box: Box, target: Crop) -> U8:
        """See :class:`Policy`."""
        rng = np.random.default_rng(self.seed)
        across, over, light, turn, noise, local = rng.random(6)
        if across < 0.5:
            rgb, box = mirrored(rgb, box)
        if turn < 0.5:
            matrix = cv2.getRotationMatrix2D(box.centre, float(rng.uniform(-15, 15)), float(rng.uniform(0.9, 1.1)))
            size = (rgb.shape[1], rgb.shape[0])
            rgb = np.asarray(cv2.warpAffine(rgb, matrix, size, borderMode=cv2.BORDER_REFLECT_101), np.uint8)
        if light < 0.5:
            gain, offset = 1 + float(rng.uniform(-0.2, 0.2)), 255 * float(rng.uniform(-0.2, 0.2))
            table = (np.arange(256) - 127.5) * gain + 127.5 + offset
            rgb = np.asarray(cv2.LUT(rgb, np.clip(np.rint(table), 0, 255).astype(np.uint8)), np.uint8)
        if noise < 0.3:
            grain = rng.standard_normal(rgb.shape, np.float32) * np.float32(rng.uniform(2, 10))
            rgb = np.asarray(np.clip(np.rint(rgb + grain), 0, 255), np.uint8)
        if local < 0.3:
            lab = cv2.cvtColor(rgb, cv2.COLOR_RGB2Lab)
            lab[..., 0] = cv2.createCLAHE(float(rng.uniform(1, 4)), (8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
            rgb = np.asarray(cv2.cvtColor(lab, cv2.COLOR_Lab2RGB), np.uint8)
        picture = plain(rgb, box, target)
        return np.ascontiguousarray(picture[::-1]) if over < 0.25 else picture

    def twice(self, rgb: U8, box: Box, target: Crop) -> tuple[U8, U8]:
        """See :class:`Policy`. Without compression in it, the second is the first."""
        picture = self.apply(rgb, box, target)
        return picture, picture


DEFAULT: Final = "forensic"
POLICIES: Final[Mapping[str, Callable[[int], Policy]]] = MappingProxyType(
    {"forensic": Chain, "forensic+cutout": Cutout, "paper": Paper}
)
_FORENSIC: Final = "resizing up and down, light, blur, denoising, sharpening, noise, JPEG 30-95, H.264 at CRF 18-40"
TOLD: Final[Mapping[str, str]] = MappingProxyType({
    "forensic": _FORENSIC,
    "forensic+cutout": f"{_FORENSIC}, then rectangles of the face greyed",
    "paper": "flips, brightness and contrast, rotation and scale, noise, CLAHE; **no compression and no resizing**",
})  # fmt: skip
"""Each policy in a card's words."""


def policy_of(name: str) -> Callable[[int], Policy]:
    """What makes a chain of a seed. Raises UsageError, naming those there are."""
    if name not in POLICIES:
        raise UsageError(f"--policy '{name}' is unknown. Known: {', '.join(POLICIES)}.")
    return POLICIES[name]
