"""Forgeries: repeatable, inside the face, the same at any size, and nothing else touched."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import cv2
import numpy as np
import pytest

from streamguard.errors import PictureSize
from streamguard.ingest.demo import LANDMARKS
from streamguard.ingest.forgery import MASKS, RATIOS, SelfBlend


@pytest.fixture(scope="module")
def face():
    """160 x 160 RGB with a face of about 92 x 110 pixels, and its landmarks."""
    data = files("streamguard.ingest").joinpath("astronaut.webp").read_bytes()
    rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    return np.ascontiguousarray(rgb[38:198, 144:304]), (LANDMARKS - [144, 38]).astype(np.float32)


def drawn(seed: int, **changes) -> SelfBlend:
    return replace(SelfBlend.draw(np.random.default_rng(seed)), **changes)


def test_the_same_seed_draws_and_makes_the_same(face):
    assert drawn(3) == drawn(3)
    first, second = (drawn(3).apply(*face) for _ in range(2))
    assert (first[0] == second[0]).all()
    assert (first[1] == second[1]).all()
    assert drawn(3) != drawn(4)


def test_the_ratio_can_be_fixed_and_changes_nothing_else():
    free, fixed = SelfBlend.draw(np.random.default_rng(9)), SelfBlend.draw(np.random.default_rng(9), ratio=1.0)
    assert free.ratio in RATIOS
    assert fixed == replace(free, ratio=1.0)


@pytest.mark.parametrize("mask", MASKS)
def test_what_lies_outside_the_mask_is_untouched(face, mask):
    rgb, landmarks = face
    before = rgb.copy()
    fake, weight = drawn(5, mask=mask, ratio=1.0).apply(rgb, landmarks)
    assert fake.shape == rgb.shape
    assert fake.dtype == weight.dtype == np.uint8
    assert weight.shape == rgb.shape[:2]
    assert (rgb == before).all()
    # A weight under half a level shows as 0 and can move a pixel by half a level of 255.
    assert np.abs(fake.astype(int) - rgb)[weight == 0].max() <= 1
    assert weight.max() > 200


@pytest.mark.parametrize("seed", range(12))
def test_the_mask_lies_on_the_face(face, seed):
    rgb, landmarks = face
    _, weight = drawn(seed, ratio=1.0).apply(rgb, landmarks)
    ys, xs = np.nonzero(weight > 127)
    centre, unit = landmarks.mean(0), np.hypot(*(landmarks[1] - landmarks[0]))
    assert np.hypot(xs - centre[0], ys - centre[1]).max() < 2.1 * unit
    assert np.hypot(xs.mean() - centre[0], ys.mean() - centre[1]) < 0.8 * unit


def test_a_ratio_of_a_quarter_replaces_a_quarter(face):
    _, weight = drawn(5, mask="hull", ratio=0.25).apply(*face)
    assert weight.max() == 64


@pytest.mark.parametrize("mask", MASKS)
def test_a_face_of_another_size_gets_the_same_forgery(face, mask):
    rgb, landmarks = face
    blend = drawn(7, mask=mask, ratio=1.0)
    _, weight = blend.apply(rgb, landmarks)
    large = cv2.resize(rgb, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    _, enlarged = blend.apply(large, (landmarks + 0.5) * 3 - 0.5)
    small = cv2.resize(enlarged, weight.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - weight).mean() < 2.5


def test_every_kind_of_detail_changes_the_face_alone(face):
    for detail, size in (("nearest", 16.0), ("linear", 16.0), ("cubic", 16.0), ("sharpen", 0.6)):
        blend = drawn(2, mask="hull", ratio=1.0, detail=detail, detail_size=size, shift=(0, 0, 0))
        fake, weight = blend.apply(*face)
        change = np.abs(fake.astype(int) - face[0]).mean(-1)
        assert change[weight > 250].mean() > 1.0, detail


def test_a_pair_changes_the_real_partner_where_the_source_stays(face):
    rgb, landmarks = face
    blend = drawn(11, mask="hull", ratio=1.0, detail="linear", detail_size=14.0)
    real, fake, weight = replace(blend, on_source=True).pair(rgb, landmarks)
    assert (real == rgb).all()
    real, fake, weight = replace(blend, on_source=False).pair(rgb, landmarks)
    assert (real != rgb).mean() > 0.5
    assert np.abs(fake.astype(int) - real)[weight == 0].max() <= 1


def test_a_face_in_the_corner_is_forged_as_far_as_it_is_seen(face):
    rgb, landmarks = face
    fake, weight = drawn(1, mask="extended", ratio=1.0).apply(rgb[50:, 50:], landmarks - 50)
    assert fake.shape == (110, 110, 3)
    assert weight.any()


def test_a_rotated_face_is_forged_upright_in_its_own_frame(face):
    rgb, landmarks = face
    blend = drawn(6, mask="lower", ratio=1.0, move=(0.0, 0.0))  # the displacement is the picture's own
    _, weight = blend.apply(rgb, landmarks)
    _, turned = blend.apply(np.ascontiguousarray(np.rot90(rgb, 2)), (159 - landmarks).astype(np.float32))
    assert np.abs(np.rot90(turned, 2).astype(int) - weight).mean() < 1.5


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), 30.0),
        np.array([[500, 40], [540, 40], [520, 60], [505, 80], [535, 80]], float),
        np.full((5, 2), np.nan),
    ],
    ids=["one point", "outside", "not a number"],
)
def test_no_face_is_refused_by_name(face, landmarks):
    with pytest.raises(PictureSize, match=r"160x160 show no face that can be forged"):
        drawn(0).apply(face[0], landmarks.astype(np.float32))
