"""Families by name, on stills and on streams."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.frames import Box
from streamguard.lab.data import STILLS
from streamguard.lab.families import FAMILIES, GROUPS, VideoForger, forgers_of
from streamguard.lab.forge.forger import Partners
from streamguard.lab.forge.meshfile import Meshes
from tests.lab.conftest import portrait

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def partners(meshed_store):
    return Partners(meshed_store, Meshes(meshed_store), "calibration", STILLS)


def frames():
    """Two frames of one person in a larger picture, and where the face lies."""
    rgb, box, landmarks = portrait(5, side=160)
    still = np.full((220, 240, 3), 120, np.uint8)
    still[40:200, 40:200] = rgb
    return still, Box(*(float(v) + 40 for v in box)), landmarks + 40


def test_every_family_and_source_is_in_one_group():
    members = [family for of in GROUPS.values() for family in of]
    assert sorted(members) == sorted((*FAMILIES, *STILLS))
    assert GROUPS["dfdc"] == ("dfdc",)


def test_forgers_are_kept_for_their_part(meshed_store):
    assert forgers_of(meshed_store, "search") is forgers_of(meshed_store, "search")
    made = forgers_of(meshed_store, "search").pair("parts", "dfdc", 8, np.random.default_rng(0))
    assert made.real.shape == made.fake.shape == (112, 112, 3)
    assert 0 < made.box.width < 112


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stream_is_forged_with_parameters_that_stay(partners, family):
    rgb, box, landmarks = frames()
    forge = VideoForger(lambda _: (box, landmarks), lambda *_: None, partners, family, seed=3)
    first, later = forge(rgb), forge(rgb)
    assert (first == later).all()
    assert (first != rgb).any()
    border = np.ones(rgb.shape[:2], bool)
    border[20:-10, 20:-10] = False
    assert (first[border] == rgb[border]).all()


def test_frames_without_a_face_stay_as_they_are(partners):
    rgb, box, landmarks = frames()
    assert VideoForger(lambda _: None, lambda *_: None, partners, "parts", 1)(rgb) is rgb
    tiny = landmarks.mean(0) + (landmarks - landmarks.mean(0)) / 20
    assert VideoForger(lambda _: (box, tiny), lambda *_: None, partners, "parts", 1)(rgb) is rgb
