"""Colours of one face given to another, and its detail reduced: where a pasted face differs, or is made not to."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from streamguard.frames import F32, U8

_LEAST: Final = 32.0  # pixels' worth of weight: below, a mean says nothing


def recoloured(source: U8, target: U8, weight: F32, strength: float) -> U8:
    """``source`` with mean and spread of ``target``'s colours under ``weight`` (h, w; where both show skin).

    After E. Reinhard et al., "Color Transfer between Images", 2001, in CIE Lab. ``strength`` 0 leaves it as it is, 1
    gives it all. The spread is changed by no more than half or double: a flat face would turn into noise.
    """
    if float(weight.sum()) < _LEAST:
        return source
    lab, goal = (np.asarray(cv2.cvtColor(p.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)) for p in (source, target))
    (mean, spread), (wanted, width) = (_moments(p, weight) for p in (lab, goal))
    ratio = np.clip(width / np.maximum(spread, 1e-3), 0.5, 2.0)
    moved = (lab - mean) * ratio + wanted
    rgb = cv2.cvtColor(np.asarray(lab + strength * (moved - lab), np.float32), cv2.COLOR_Lab2RGB)
    return np.asarray(np.clip(np.rint(rgb * 255), 0, 255), np.uint8)


def skin_of(rgb: U8, weight: F32) -> F32:
    """(3,) float32: the mean colour under ``weight``, CIE Lab; not a number where it weighs nothing."""
    if float(weight.sum()) < _LEAST:
        return np.full(3, np.nan, np.float32)
    return _moments(np.asarray(cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)), weight)[0]


def _moments(lab: F32, weight: F32) -> tuple[F32, F32]:
    total = float(weight.sum())
    mean = (lab * weight[..., None]).sum((0, 1)) / total
    variance = (np.square(lab - mean) * weight[..., None]).sum((0, 1)) / total
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def coarser(rgb: U8, unit: float, pixels: float, interpolation: int = cv2.INTER_LINEAR) -> U8:
    """The detail of a picture in which a unit has ``pixels``, at the same size; 0, or as many as it has: unchanged."""
    factor = pixels / unit
    if pixels <= 0 or factor >= 0.95:
        return rgb
    height, width = rgb.shape[:2]
    small = cv2.resize(
        rgb, (max(2, round(width * factor)), max(2, round(height * factor))), interpolation=cv2.INTER_AREA
    )
    return np.asarray(cv2.resize(small, (width, height), interpolation=interpolation), np.uint8)
