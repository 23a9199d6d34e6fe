"""Part edits: one part changes, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.lab.forge.mesh import LEFT_EYE, LIPS, NOSE, RIGHT_EYE
from streamguard.lab.forge.parts import PartEdit

pytestmark = pytest.mark.lab
RINGS = {"right eye": RIGHT_EYE, "left eye": LEFT_EYE, "nose": NOSE, "mouth": LIPS}


def edit(**changes) -> PartEdit:
    return replace(PartEdit.draw(np.random.default_rng(4)), **changes)


@pytest.mark.parametrize("poisson", [False, True])
@pytest.mark.parametrize("kind", ["other", "mirror"])
@pytest.mark.parametrize("part", list(RINGS))
def test_one_part_is_edited_and_no_other(face, other, kind, part, poisson):
    real, fake, mask = edit(kind=kind, part=part, poisson=poisson).pair(face, other)
    assert (real == face.rgb).all()
    reached = {}
    for name, ring in RINGS.items():
        x, y = face.mesh[list(ring)].mean(0).round().astype(int)
        reached[name] = mask[y, x]
    assert reached.pop(part) > 150
    assert not any(reached.values())
    assert np.abs(fake.astype(int) - real)[mask > 200].mean() > 0.5


def test_both_eyes_are_one_part(face, other):
    mask = edit(kind="other", part="eyes", poisson=False).pair(face, other).mask
    for ring in (RIGHT_EYE, LEFT_EYE):
        x, y = face.mesh[list(ring)].mean(0).round().astype(int)
        assert mask[y, x] > 150


def test_paint_covers_its_spots_and_has_the_grain_of_skin(face):
    family = edit(kind="paint", spots=((50, 0.25, 1.0), (280, 0.2, 0.8)), grain=0.0)
    assert not family.needs_other
    _, fake, mask = family.pair(face)
    for index in (50, 280):
        x, y = face.mesh[index].round().astype(int)
        assert mask[y, x] == 255
    assert 0 < (mask > 0).mean() < 0.06
    grained = replace(family, grain=1.0).pair(face).fake
    inside = mask == 255
    assert grained[inside].astype(float).std() >= fake[inside].astype(float).std()
    assert (grained[inside] != fake[inside]).any()
    assert (replace(family, grain=1.0).pair(face).fake == grained).all()
