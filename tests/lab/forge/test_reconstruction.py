"""Reconstruction: a bottleneck loses what does not fit through it, and gives back the rest."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.lab.forge.reconstruction import Reconstructed, reconstructed
from streamguard.pixels import sharpness

pytestmark = pytest.mark.lab


def drawn(**changes) -> Reconstructed:
    plain = {"area": "crop", "matched": 0.0, "patch": 8, "stride": 4}
    return replace(Reconstructed.draw(np.random.default_rng(2)), **(plain | changes))


def loss(rgb: np.ndarray, **changes) -> float:
    return float(np.abs(reconstructed(rgb, drawn(**changes)) - rgb).mean())


@pytest.mark.parametrize(("kind", "stride"), [("pca", 4), ("pca", 8), ("conv", 4)])
def test_more_channels_lose_less(face, kind, stride):
    few, many = (loss(face.rgb, kind=kind, stride=stride, kept=kept) for kept in (6, 48))
    assert 0.3 < many < few < 15


def test_a_flat_picture_comes_back():
    flat = np.full((60, 70, 3), (40, 90, 200), np.uint8)
    assert loss(flat, kind="pca", kept=4) < 0.5


def test_components_are_the_best_linear_code(face):
    """No other code of as many numbers loses less, squared, where patches do not overlap."""
    coder = drawn(kind="pca", stride=8, kept=24)
    shown = face.rgb[:160, :160]
    best = np.square(reconstructed(shown, coder) - shown).mean()
    other = np.square(reconstructed(shown, replace(coder, kind="conv", kept=24)) - shown).mean()
    assert best < other


def test_any_size_is_covered(face):
    for height, width in ((24, 24), (61, 47), (100, 33)):
        shown = np.ascontiguousarray(face.rgb[40 : 40 + height, 60 : 60 + width])
        for kind in ("pca", "conv"):
            made = reconstructed(shown, drawn(kind=kind, kept=32))
            assert made.shape == shown.shape
            assert np.isfinite(made).all()
            assert np.abs(made - shown).mean() < 15


def test_whole_crops_and_hulls(face):
    whole = drawn().pair(face)
    assert (whole.mask == 255).all()
    inside = drawn(area="hull", hull="brows").pair(face)
    assert 0.1 < (inside.mask > 0).mean() < 0.5
    assert (inside.real == face.rgb).all()


def test_either_partner_may_be_the_softer_one(face):
    found = []
    for seed in range(12):
        family = replace(Reconstructed.draw(np.random.default_rng(seed)), area="crop")
        family = replace(family, kind="pca", pixels=28.0, kept=48, matched=1.0 + 0.8 * seed / 11)
        real, fake, _ = family.pair(face)
        found.append(sharpness(fake) / sharpness(real))
    assert min(found) < 1 < max(found)
