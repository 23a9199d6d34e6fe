"""The two ways of cutting: the one leaks, the other does not; and what answers are worth."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("timm")

from streamguard.errors import UsageError
from streamguard.lab.pictures import Pictures
from streamguard.lab.replicate import protocol
from streamguard.lab.replicate.protocol import apart, cut, f1, figures, precision, recall, shared

pytestmark = pytest.mark.lab


def made(groups=20, each=4):
    """Pictures that say which they are: number in red, group in green; half of the groups are fake."""
    group = np.repeat(np.arange(groups), each)
    pictures = np.zeros((group.size, 16, 16, 3), np.uint8)
    pictures[..., 0], pictures[..., 1] = np.arange(group.size)[:, None, None], group[:, None, None]
    return Pictures(pictures, (group % 2).astype(np.uint8), np.array([f"g{i}" for i in group]))


def test_the_papers_cut_has_kin_on_both_sides():
    halves = cut(made(), "paper", 1, augment=True)
    assert (len(halves.train.label), len(halves.test.label)) == (128, 32)  # 80 pictures and their copies
    assert shared(halves) > 0.9


def test_ours_has_none_and_its_test_is_as_it_was():
    halves = cut(made(), "ours", 1, augment=True)
    assert shared(halves) == 0
    assert (len(halves.train.label), len(halves.test.label)) == (128, 16)
    kept = {picture.tobytes() for picture in made().pictures}
    assert all(picture.tobytes() in kept for picture in halves.test.pictures)
    assert not all(picture.tobytes() in kept for picture in halves.train.pictures)


@pytest.mark.parametrize("name", protocol.PROTOCOLS)
def test_without_augmentation_nothing_is_added(name):
    halves = cut(made(), name, 1, augment=False)
    together = np.concatenate([half.pictures[:, 0, 0, 0] for half in halves])
    assert sorted(together) == list(range(80))


def test_the_same_seed_cuts_alike():
    one, two, other = (cut(made(), "ours", seed, augment=True) for seed in (1, 1, 2))
    assert np.array_equal(one.train.pictures, two.train.pictures)
    assert set(one.test.group) != set(other.test.group)


def test_a_swap_belongs_to_both_people():
    groups = np.array(["a", "b", "c", "d", "e", "a|b", "a|c", "d|e", "b|e"])
    for seed in range(10):
        train, test = apart(groups, np.random.default_rng(seed))
        people = [{name for row in rows for name in groups[row].split("|")} for rows in (train, test)]
        assert not people[0] & people[1]
        assert len(people[1]) == 1


def test_one_label_alone_is_told():
    with pytest.raises(UsageError, match="side has one label only"):
        cut(made(groups=2), "ours", 1, augment=False)


def test_figures_are_those_of_the_textbook():
    scores, label = np.array([1.0, 1.0, 1.0, -1.0, -1.0]), np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    assert precision(scores, label) == pytest.approx(2 / 3)
    assert recall(scores, label) == pytest.approx(2 / 3)
    assert f1(scores, label) == pytest.approx(2 / 3)
    assert (precision(-np.ones(5), label), f1(-np.ones(5), label)) == (0.0, 0.0)
    found = figures(np.tile(scores, 8), np.tile(label, 8), np.arange(40))
    assert found["accuracy"]["value"] == pytest.approx(0.6)
    assert all(of["low"] <= of["value"] <= of["high"] for of in found.values())
