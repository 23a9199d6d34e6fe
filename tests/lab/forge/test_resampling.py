"""Resampling: what the kernels leave behind, and a real partner that was resized as well."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.lab.forge.resampling import Resampled, reduced, resized, transposed
from streamguard.pixels import sharpness

pytestmark = pytest.mark.lab


def drawn(**changes) -> Resampled:
    plain = {"area": "crop", "gain": 0.0, "noise": 0.0, "quality": 0, "matched": False, "stride": 2, "taps": 4}
    return replace(Resampled.draw(np.random.default_rng(1)), **(plain | changes))


def lattice(rgb: np.ndarray, stride: int) -> float:
    """How much the means of a picture's phases differ, levels."""
    grey = rgb[: rgb.shape[0] // stride * stride, : rgb.shape[1] // stride * stride].mean(-1)
    return float(np.ptp([grey[y::stride, x::stride].mean() for y in range(stride) for x in range(stride)]))


def test_a_transposed_convolution_of_an_even_kernel_keeps_a_flat_picture_flat():
    flat = np.full((10, 12, 3), 90, np.uint8)
    for stride, taps in ((2, 4), (3, 4), (4, 5), (2, 3)):
        kernel = drawn(stride=stride, taps=taps)._weights(np.random.default_rng(0))
        large = transposed(flat, stride, kernel)
        assert large.shape == (10 * stride, 12 * stride, 3)
        assert np.allclose(large, 90, atol=0.5), (stride, taps)


def test_a_disturbed_kernel_leaves_a_checkerboard():
    flat = np.full((20, 20, 3), 120, np.uint8)
    found = [
        lattice(transposed(flat, 2, drawn(taps=5, noise=noise)._weights(np.random.default_rng(3))), 2)
        for noise in (0.0, 0.02, 0.08)
    ]
    assert found[0] < 0.1 < found[1] < found[2]


def test_a_transposed_convolution_is_aligned():
    """An edge stays where it is, half a pixel or so."""
    step = np.zeros((20, 20, 3), np.uint8)
    step[:, 10:] = 200
    large = transposed(step, 2, drawn()._weights(np.random.default_rng(0)))
    assert np.argmin(np.abs(large[20, :, 0] - 100)) in (19, 20)


@pytest.mark.parametrize("kernel", ["nearest", "linear", "transposed"])
@pytest.mark.parametrize("stride", [2, 3, 4])
def test_every_kernel_loses_detail_and_keeps_the_picture(face, kernel, stride):
    real, fake, mask = drawn(kernel=kernel, stride=stride, taps=stride + 1).pair(face)
    assert (mask == 255).all()
    assert sharpness(fake) < 0.8 * sharpness(real)
    assert np.corrcoef(real.ravel(), fake.ravel())[0, 1] > 0.95


def test_gain_and_compression_in_the_middle_are_seen(face):
    clean = drawn(kernel="linear").pair(face).fake
    gained = drawn(kernel="linear", gain=0.02).pair(face).fake
    assert lattice(gained, 2) > lattice(clean, 2) + 0.5
    squeezed = drawn(kernel="linear", quality=40).pair(face).fake
    assert 0.2 < np.abs(squeezed.astype(int) - clean).mean() < 10


def test_the_matched_partner_is_about_as_soft(face):
    real, fake, _ = drawn(kernel="transposed", matched=True, stride=3).pair(face)
    assert sharpness(fake) > 0.5 * sharpness(real)  # blocks are sharp
    assert sharpness(real) < 0.7 * sharpness(face.rgb)
    assert (real == resized(face.rgb, 3)).all()


def test_a_picture_is_reduced_to_whole_pixels(face):
    assert reduced(face.rgb[:101, :50], 4).shape == (26, 13, 3)
