"""Two identities: the other face arrives, in this face's colours, within its outline."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.lab.forge.colour import skin_of
from streamguard.lab.forge.geometry import HULLS, outline
from streamguard.lab.forge.swap import TwoIdentity

pytestmark = pytest.mark.lab


def blend(seed: int = 1, **changes) -> TwoIdentity:
    return replace(TwoIdentity.draw(np.random.default_rng(seed)), **({"ratio": 1.0, "detail": 0.0} | changes))


@pytest.mark.parametrize("hull", HULLS)
def test_the_mask_lies_on_the_face(face, other, hull):
    oval = outline("oval", face.mesh, (200, 200)) > 0
    for seed in range(3):
        mask = blend(seed, hull=hull).pair(face, other).mask
        assert mask.max() > 200
        assert oval[mask > 127].mean() > 0.9


def test_a_ratio_of_a_half_replaces_a_half(face, other):
    assert blend(ratio=0.5).pair(face, other).mask.max() == 128


def test_the_face_is_another_and_its_colour_is_not(face, other):
    real, fake, mask = blend(hull="brows", fit="affine").pair(face, other)
    inside = mask > 200
    assert np.abs(fake.astype(int) - real)[inside].mean() > 8
    weight = inside.astype(np.float32)
    before, there = skin_of(real, weight), skin_of(other.rgb[20:220, 20:220], weight)
    after = skin_of(fake, weight)
    # Lightness goes with the features; the tint has to be this face's.
    assert np.abs(after - before)[1:].max() < np.abs(there - before)[1:].max() - 1
