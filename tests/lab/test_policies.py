"""Policies: named, seeded, the default untouched, and both partners alike."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("h5py")

from streamguard.errors import UsageError
from streamguard.lab.augment import Chain, Crop
from streamguard.lab.policies import DEFAULT, POLICIES, TOLD, policy_of

pytestmark = pytest.mark.lab
TINY = Crop(size=40)


@pytest.fixture(scope="module")
def face(made_store):
    return made_store.read("talking", 0)


def test_the_default_is_the_forensic_chain_itself():
    assert policy_of(DEFAULT) is Chain
    assert list(POLICIES) == ["forensic", "forensic+cutout", "paper"]
    assert TOLD.keys() == POLICIES.keys(), "a card has words for each"


def test_an_unknown_policy_is_named():
    with pytest.raises(UsageError, match=r"--policy 'blur' is unknown. Known: forensic, forensic\+cutout, paper"):
        policy_of("blur")


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_policy_is_its_seed(face, name):
    made = [policy_of(name)(seed).apply(face.rgb, face.box, TINY) for seed in (4, 4, 5)]
    assert made[0].shape == (40, 40, 3)
    assert made[0].dtype == np.uint8
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()


@pytest.mark.parametrize("name", list(POLICIES))
def test_a_policy_treats_two_pictures_alike(face, name):
    """What is done depends on the seed alone: an inverted picture stays the negative of the other."""
    other = 255 - face.rgb
    for seed in range(8):
        a, b = (policy_of(name)(seed).apply(rgb, face.box, TINY).astype(float) for rgb in (face.rgb, other))
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] < -0.5, seed


def test_holes_are_the_same_in_both_partners_and_in_half_of_the_pictures(face):
    cut = 0
    for seed in range(24):
        plain = Chain(seed).apply(face.rgb, face.box, TINY)
        one, other = (policy_of("forensic+cutout")(seed).apply(r, face.box, TINY) for r in (face.rgb, 255 - face.rgb))
        hole = (one != plain).any(-1)
        cut += bool(hole.any())
        assert (one[hole] == 127).all()
        assert (other[hole] == 127).all()
        assert hole.mean() < 0.3
    assert 4 < cut < 20


def test_the_papers_policy_flips_turns_and_compresses_nothing(face):
    made = [policy_of("paper")(seed).apply(face.rgb, face.box, Crop(64)).astype(float) for seed in range(40)]
    upright = np.mean(made, axis=0)
    over = [
        m
        for m in made
        if np.corrcoef(m[::-1].ravel(), upright.ravel())[0, 1] > np.corrcoef(m.ravel(), upright.ravel())[0, 1]
    ]
    assert 2 < len(over) < 20
    assert max(np.abs(m - made[0]).mean() for m in made) > 20
