"""Spaces: what is drawn is allowed, and what is not allowed is named."""

from __future__ import annotations

import random

import pytest

from streamguard.errors import UsageError
from streamguard.lab.search.spaces import PAPER, PRETRAINED, SCRATCH, SPACES, Choice, Range, Space, read_design


class Dice:
    """Draws evenly, as a trial of Optuna would."""

    def __init__(self, seed):
        self._random = random.Random(seed)

    def suggest_categorical(self, name, choices):
        return self._random.choice(choices)

    def suggest_float(self, name, low, high, *, log=False):
        assert log
        return self._random.uniform(low, high)


SMALL = Space("small", (
    Choice("block", ("plain", "wide")),
    Choice("expand", (2, 4, 6), "block", ("wide",)),
    Range("rate", 0.1, 1.0),
))  # fmt: skip


def test_a_parameter_is_asked_for_where_its_condition_holds():
    drawn = [SMALL.draw(Dice(seed)) for seed in range(20)]
    assert {design["block"] for design in drawn} == {"plain", "wide"}
    assert all(("expand" in design.values) == (design["block"] == "wide") for design in drawn)


def test_designs_are_counted():
    assert SMALL.count == 1 + 3
    assert PAPER.count == 4 * 2 * 2
    assert SCRATCH.count > 10**6
    assert 10**3 < PRETRAINED.count < 10**5


@pytest.mark.parametrize("space", [space for studies in SPACES.values() for space in studies], ids=lambda s: s.name)
def test_every_design_comes_back_from_its_line(space):
    for seed in range(30):
        design = space.draw(Dice(seed))
        assert read_design(design.text) == design
        assert design.size >= 96


def test_what_a_space_does_not_have_is_named():
    good = {"block": "wide", "expand": 4, "rate": 0.5}
    assert SMALL.design(good).values == good
    for values, words in (
        ({**good, "expand": 5}, "'expand' can't be 5. Allowed: 2, 4, 6"),
        ({**good, "rate": 3.0}, "0.1 to 1"),
        ({"block": "wide", "rate": 0.5}, "lacks 'expand'"),
        ({"block": "plain", "expand": 2, "rate": 0.5}, "has no 'expand'"),
        ({**good, "colour": "red"}, "has no 'colour'"),
    ):
        with pytest.raises(UsageError, match=words):
            SMALL.design(values)


def test_one_is_not_true():
    with pytest.raises(UsageError, match="'normalise' can't be 1"):
        PAPER.design({"block": "vanilla", "normalise": 1, "augment": True})


@pytest.mark.parametrize("text", ["no JSON", "[1]", '{"block": "vanilla"}', '{"space": "cloud"}'])
def test_a_line_that_is_no_design_is_refused(text):
    with pytest.raises(UsageError, match="design"):
        read_design(text)


def test_the_fingerprint_changes_with_what_may_be_chosen():
    wider = Space("small", (Choice("block", ("plain", "wide", "tall")), *SMALL.parameters[1:]))
    named = Space("other", SMALL.parameters)
    assert len({SMALL.fingerprint, wider.fingerprint, named.fingerprint}) == 3
    assert SMALL.fingerprint == Space("small", SMALL.parameters).fingerprint
