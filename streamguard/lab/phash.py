"""Perceptual hashes: 64 bits that stay nearly the same when a picture is recompressed or resized.

After C. Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010: the picture as 32x32
grey values, its discrete cosine transform, of that the 8x8 lowest frequencies without the constant row and column,
and a bit for each that lies above their median. Two hashes of unrelated pictures differ in about 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from streamguard.frames import U8

NEIGHBOUR: Final = 8
"""Hashes that differ in at most this many bits show the same scene: they belong on one side of a split."""

DUPLICATE: Final = 2
"""Hashes that differ in at most this many bits are one picture kept twice."""

U64 = npt.NDArray[np.uint64]
_SIDE: Final = 32
_LOW: Final = 8
_BLOCK: Final = 256  # rows compared at once: 200 MB of differences for 100,000 faces


def phash(rgb: U8) -> int:
    """The hash of an (H, W, 3) uint8 RGB picture, 0 .. 2**64 - 1."""
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[1 : _LOW + 1, 1 : _LOW + 1].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "big")


def distances(one: int, others: U64) -> npt.NDArray[np.uint8]:
    """Bits in which ``one`` differs from each of ``others``, (N,) uint8."""
    return np.bitwise_count(others ^ np.uint64(one))


def neighbours(hashes: U64, most: int) -> Iterator[tuple[int, int]]:
    """Every pair of rows (i < j) whose hashes differ in at most ``most`` bits. N * N / 2 comparisons, no index."""
    for start in range(0, len(hashes), _BLOCK):
        rows = hashes[start : start + _BLOCK]
        near = np.bitwise_count(rows[:, None] ^ hashes[None, start:]) <= most
        first, second = np.nonzero(np.triu(near, 1))
        yield from zip((first + start).tolist(), (second + start).tolist(), strict=True)
