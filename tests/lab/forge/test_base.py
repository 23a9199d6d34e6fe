"""The protocol: what every family does, whichever it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from streamguard.errors import PictureSize, UsageError
from streamguard.frames import Box
from streamguard.lab.forge.base import SMALLEST_UNIT, Family, Ground, Window, composite, unit_of, window_of
from streamguard.lab.forge.table import FAMILIES

pytestmark = pytest.mark.lab
NAMES = list(FAMILIES)


def draws(name: str, count: int = 8) -> list[Family]:
    return [FAMILIES[name].family.draw(np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("name", NAMES)
def test_a_family_is_drawn_by_its_seed_and_its_draws_differ(name):
    assert draws(name, 4) == draws(name, 4)
    assert len(set(map(repr, draws(name, 4)))) == 4
    assert all(isinstance(family, Family) for family in draws(name, 2))


@pytest.mark.parametrize("name", NAMES)
def test_outside_the_mask_every_bit_is_the_real_partners(name, face, other):
    before = face.rgb.copy()
    changed = []
    for family in draws(name):
        real, fake, mask = family.pair(face, other)
        assert real.shape == fake.shape == face.rgb.shape
        assert mask.shape == face.rgb.shape[:2]
        assert real.dtype == fake.dtype == mask.dtype == np.uint8
        assert (real == fake)[mask == 0].all(), family
        changed.append(float((real != fake).any(-1)[mask > 0].mean()) if mask.any() else 0.0)
    assert (face.rgb == before).all()
    assert np.mean(changed) > 0.3  # and inside they do something


@pytest.mark.parametrize("name", NAMES)
def test_the_same_parameters_and_faces_give_the_same_pixels(name, face, other):
    for family in draws(name, 3):
        first, second = (family.pair(face, other) for _ in range(2))
        assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_face_too_small_or_outside_is_refused_by_name(name, face, other):
    family = draws(name, 1)[0]
    share = 0.9 * SMALLEST_UNIT / face.unit
    small = replace(face, landmarks=face.landmarks * np.float32(share))
    with pytest.raises(PictureSize, match=r"'astronaut' .* 14 pixels apart"):
        family.pair(small, other)
    with pytest.raises(PictureSize, match="can't be forged"):
        family.pair(replace(face, landmarks=face.landmarks + np.float32(500)), other)
    with pytest.raises(PictureSize, match="can't be forged"):
        family.pair(replace(face, landmarks=np.full((5, 2), np.nan, np.float32)), other)


@pytest.mark.parametrize("name", NAMES)
def test_a_partner_is_another_person_always(name, face, other):
    needing = [family for family in draws(name, 30) if family.needs_other]
    assert bool(needing) == FAMILIES[name].two == (name in ("two-identity", "poisson", "parts", "warp"))
    for family in needing[:2]:
        with pytest.raises(UsageError, match="'astronaut' needs a second face"):
            family.pair(face)
        with pytest.raises(UsageError, match="both faces are of group 'astronaut'"):
            family.pair(face, replace(other, group="astronaut"))
    for family in [f for f in draws(name, 30) if not f.needs_other][:1]:
        assert family.pair(face).mask.any()


@pytest.mark.parametrize("name", NAMES)
def test_a_face_cut_by_its_border_is_forged_as_far_as_it_is_seen(name, face, other):
    offset = np.array([70, 60], np.float32)
    cut = Ground(
        np.ascontiguousarray(face.rgb[60:, 70:]), Box(0, 0, 76, 94), face.landmarks - offset, face.mesh - offset, "cut"
    )  # fmt: skip
    for family in draws(name, 4):
        real, fake, mask = family.pair(cut, other)
        assert fake.shape == cut.rgb.shape
        assert (real == fake)[mask == 0].all()


def test_a_unit_is_the_longer_of_eyes_and_mouth():
    frontal = np.array([[0, 0], [40, 0], [20, 20], [5, 44], [35, 44]], np.float32)
    assert unit_of(frontal) == pytest.approx(44)
    turned = frontal * np.array([0.3, 1], np.float32)
    assert unit_of(turned) == pytest.approx(44)
    assert unit_of(frontal * np.array([2, 1], np.float32)) == pytest.approx(80)


def test_a_window_stays_in_its_picture(face):
    window = window_of(face, 5.0)
    assert window == Window(0, 0, 200, 200)
    assert window.size == (200, 200)
    inner = window_of(face, 0.0)
    assert (inner.origin <= face.mesh.min(0)).all()
    assert inner.of(face.rgb).shape[:2] == inner.size[::-1]


def test_a_composite_rounds_its_weight_before_it_uses_it():
    real = np.full((8, 8, 3), 100, np.uint8)
    weight = np.array([[0.0019, 0.5], [1.0, 2.0]], np.float32)  # 0.0019 of 255 rounds to nothing
    pair = composite(real, np.full((2, 2, 3), 300.0, np.float32), weight, Window(3, 3, 5, 5))
    assert pair.mask[3:5, 3:5].tolist() == [[0, 128], [255, 255]]
    assert pair.fake[3:5, 3:5, 0].tolist() == [[100, 200], [255, 255]]
    assert pair.real is real
    assert (pair.fake != real).any(-1).sum() == 3
