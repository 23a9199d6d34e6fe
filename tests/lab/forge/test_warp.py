"""Warps: points go where they are sent, the rest stays, and a mouth that opens shows an inside."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.lab.forge.mesh import MOUTH
from streamguard.lab.forge.warp import Warped, _wendland

pytestmark = pytest.mark.lab
STILL = {"expression": 0.0, "mouth": 0.0, "wide": 0.0, "lids": 0.0, "brows": 0.0, "inside": False}


def warp(**changes) -> Warped:
    return replace(Warped.draw(np.random.default_rng(5)), **(STILL | changes))


def test_no_change_of_expression_is_no_forgery(face):
    _, fake, mask = warp().pair(face)
    assert not mask.any()
    assert (fake == face.rgb).all()


def test_an_opening_mouth_moves_the_lower_lip_down(face, finder):
    fake = warp(mouth=0.15, reach=0.5).pair(face).fake
    before, after = face.mesh, finder(fake, face.landmarks)
    lower, upper, eyes = (after[i, 1] - before[i, 1] for i in (17, 0, 159))
    assert lower > 0.06 * face.unit
    assert abs(upper) < 0.6 * lower
    assert abs(eyes) < 0.03 * face.unit


def test_lids_close_in_the_middle_and_hang_at_their_corners(face):
    family = warp(lids=0.6)
    shift = family._drawn(face)
    for top, bottom, corner in ((159, 145, 33), (386, 374, 263)):
        opening = face.mesh[bottom, 1] - face.mesh[top, 1]
        assert shift[top, 1] == pytest.approx(0.6 * opening, rel=0.15)
        assert not shift[bottom].any()
        assert abs(shift[corner, 1]) < 0.1 * opening
    x, y = face.mesh[159].round().astype(int)
    assert np.abs(family.pair(face).fake[y, x].astype(int) - face.rgb[y, x]).max() > 10


def test_lips_meet_and_do_not_cross(face):
    shift = warp(mouth=-0.5)._drawn(face)
    moved = face.mesh + shift
    assert moved[14, 1] >= moved[13, 1] - 1e-3


def test_what_is_far_from_the_mouth_stays(face):
    real, fake, mask = warp(mouth=0.15, reach=0.35).pair(face)
    forehead = int(face.mesh[10, 1])
    assert not mask[: forehead + 10].any()
    assert (real[: forehead + 10] == fake[: forehead + 10]).all()
    assert mask[int(face.mesh[17, 1]), int(face.mesh[17, 0])] > 200


def test_another_expression_is_taken_over_within_limits(face, other):
    family = warp(expression=1.0)
    assert family.needs_other
    shift = family._shift(face, other)
    assert 0.02 * face.unit < np.hypot(*shift.T).max() <= 0.2 * face.unit + 1e-3
    assert not shift[10].any()  # the forehead has no expression
    assert family.pair(face, other).mask.any()


def test_the_inside_of_another_mouth_needs_two_open_mouths(face, other):
    """The astronaut smiles with her mouth open; the drawn face's is shut until it is opened."""
    opened = other.mesh.copy()
    ring = list(MOUTH)
    opened[ring] = opened[ring].mean(0) + (opened[ring] - opened[ring].mean(0)) * np.array([1, 8], np.float32)
    family = warp(mouth=0.15)
    without = family.pair(face, other).fake
    shut = replace(family, inside=True).pair(face, replace(other, mesh=other.mesh * [1, 0] + [0, 150])).fake
    assert (shut == without).all()
    shown = replace(family, inside=True).pair(face, replace(other, mesh=opened)).fake
    assert (shown != without).any()


def test_the_radial_function_ends():
    assert _wendland(np.array([0.0, 1.0, 2.0])).tolist() == [1.0, 0.0, 0.0]
    assert (np.diff(_wendland(np.linspace(0, 1, 20))) < 0).all()
