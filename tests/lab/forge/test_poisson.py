"""Poisson: the other face arrives and meets its ground at the border; what is kept is kept."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.errors import PictureSize
from streamguard.lab.forge.colour import skin_of
from streamguard.lab.forge.poisson import PoissonSwap, cloned

pytestmark = pytest.mark.lab


def clone(seed: int = 1, **changes) -> PoissonSwap:
    return replace(PoissonSwap.draw(np.random.default_rng(seed)), **({"detail": 0.0, "own": ""} | changes))


def test_the_face_is_another_and_its_colour_is_not(face, other):
    real, fake, mask = clone(hull="brows", mixed=False).pair(face, other)
    inside = mask > 200
    assert np.abs(fake.astype(int) - real)[inside].mean() > 8
    weight = inside.astype(np.float32)
    before, there = skin_of(real, weight), skin_of(other.rgb[20:220, 20:220], weight)
    after = skin_of(fake, weight)
    # Lightness goes with the features; the tint has to be this face's.
    assert np.abs(after - before)[1:].max() < np.abs(there - before)[1:].max() - 1


def test_the_border_of_a_clone_meets_its_ground(face, other):
    """Where a blend has its seam, the solver has none: a step along the border is as large as it was."""
    family = clone(hull="brows", mixed=False, fit="affine")
    real, fake, mask = family.pair(face, other)
    ys, xs = np.nonzero((mask[:, 1:] > 0) & (mask[:, :-1] == 0))  # the left border
    step = np.abs(fake[ys, xs + 1].astype(int) - fake[ys, xs]).mean()
    assert step < np.abs(real[ys, xs + 1].astype(int) - real[ys, xs]).mean() + 3


@pytest.mark.parametrize("own", ["mouth", "eyes"])
def test_own_parts_stay(face, other, own):
    real, fake, mask = clone(own=own).pair(face, other)
    whole = clone(own="").pair(face, other).mask
    kept = (mask == 0) & (whole == 255)
    assert kept.sum() > 30
    assert (real[kept] == fake[kept]).all()


def test_a_clone_that_lies_outside_is_refused_by_name(face):
    nowhere = np.zeros((200, 200), bool)
    with pytest.raises(PictureSize, match="'astronaut' has no outline inside"):
        cloned(face.rgb, face.rgb, nowhere, mixed=False, group="astronaut")
    inside = nowhere.copy()
    inside[50:100, 60:120] = True
    made, solved = cloned(face.rgb, face.rgb, inside, mixed=False, group="astronaut")
    assert (solved == inside).all()
    assert np.abs(made.astype(int) - face.rgb).max() <= 3  # cloned onto itself, in its place
