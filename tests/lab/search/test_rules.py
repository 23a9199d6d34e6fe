"""The rules that were written before the search: roles, limits, halving, the winner, and what ships."""

from __future__ import annotations

import csv
import random

import pytest

pytest.importorskip("h5py")

from streamguard.errors import UsageError
from streamguard.inference.engines import load_engine
from streamguard.lab.families import GROUPS
from streamguard.lab.search.rules import (
    LIMITS,
    NO_LIMITS,
    ROLES,
    Finished,
    Halving,
    Limits,
    Shown,
    fewest,
    verdict,
    winner,
)
from streamguard.lab.search.spaces import read_design

pytestmark = pytest.mark.lab


def test_every_group_has_one_role():
    told = [group for groups in ROLES.values() for group in groups]
    assert sorted(told) == sorted(GROUPS)


def test_the_limits_are_those_of_the_issue():
    assert (LIMITS.ms, LIMITS.parameters) == (3.0, 6_000_000)
    assert LIMITS.violations(3.0, 6_000_000) == {"ms": 0.0, "parameters": 0.0}
    assert LIMITS.violations(6.0, 3_000_000) == {"ms": 1.0, "parameters": -0.5}
    assert max(NO_LIMITS.violations(1e6, 10**9).values()) < 0


def test_rungs_are_thirds_of_the_whole_course():
    assert Halving.of(9).rungs == (1, 3, 9)
    assert Halving.of(2).rungs == (1, 2)
    assert Halving.of(1).rungs == (1,)
    assert Halving.of(30).rungs == (4, 10, 30)


def test_the_best_third_goes_on():
    halving = Halving((1, 3, 9))
    others = [0.5, 0.6, 0.7, 0.8, 0.9]  # with one's own, six: two go on
    assert halving.goes_on(0.95, others)
    assert halving.goes_on(0.85, others)
    assert not halving.goes_on(0.75, others)
    assert halving.goes_on(0.1, [])  # the first knows nobody to be worse than
    assert not halving.goes_on(0.1, [0.2])


def test_where_less_is_better_the_lowest_third_goes_on():
    halving = Halving((1, 3), maximise=False)
    assert halving.goes_on(0.1, [0.2, 0.3, 0.4])
    assert not halving.goes_on(0.3, [0.1, 0.2, 0.4])


def test_a_third_of_many_goes_on_at_all_rungs():
    """Fed one after the other, in any order, about a third of 300 leaves the first rung, never fewer."""
    drawn = random.Random(1)
    scores = [drawn.random() for _ in range(300)]
    gone = [Halving((1, 3)).goes_on(score, scores[:i]) for i, score in enumerate(scores)]
    assert 100 <= sum(gone) <= 140


def test_the_winner_is_the_best_and_ties_go_to_the_fastest():
    trials = [
        Finished("slow", 0.900, 2.9, 5_000_000),
        Finished("fast", 0.896, 1.0, 4_000_000),
        Finished("faster", 0.894, 0.5, 1_000_000),  # more than a tie behind
        Finished("too slow", 0.99, 3.1, 1_000_000),
        Finished("too large", 0.99, 1.0, 6_000_001),
    ]
    assert winner(trials).name == "fast"
    assert winner(trials, limits=NO_LIMITS).name == "too large"
    assert winner(trials, maximise=False).name == "faster"


def test_the_shipped_winner_follows_from_the_shipped_trials():
    folder = load_engine("deepfake-nas").folder
    with (folder / "trials.csv").open(newline="") as file:
        trials = list(csv.DictReader(file))
    named = {f"{row['bracket']}/{row['trial']}": row for row in trials}
    done = [Finished(name, float(row["score"]), float(row["ms"]), int(float(row["parameters"])))
            for name, row in named.items() if row["state"] == "finished"]  # fmt: skip
    assert len(done) == 22
    found = named[winner(done).name]
    design = read_design((folder / "winner.json").read_text())
    assert design.space == "/".join(found["bracket"].split("/")[:2])
    told = {name: found[name] for name in design.values}
    assert {name: type(value)(told[name] if isinstance(value, str) else float(told[name]))
            for name, value in design.values.items()} == dict(design.values)  # fmt: skip
    assert design.text in (folder / "CARD.md").read_text()


def test_of_equals_the_smaller_then_the_first_wins():
    first, second = Finished("first", 0.9, 1.0, 100), Finished("second", 0.9, 1.0, 100)
    assert winner([first, second]).name == "first"
    assert winner([first, second._replace(parameters=50)]).name == "second"


def test_no_winner_without_a_trial_within_the_limits():
    with pytest.raises(UsageError, match=r"none of 1 finished trials is within 0\.1 ms"):
        winner([Finished("a", 0.9, 1.0, 1)], limits=Limits(0.1, 10))


@pytest.mark.parametrize(
    ("searched", "replaces", "target"),
    [
        (Shown(0.70, 2.0), True, False),  # as good, as fast
        (Shown(0.72, 2.0), True, True),  # two points
        (Shown(0.70, 1.0), True, True),  # half the cost
        (Shown(0.69, 1.0), False, False),  # worse
        (Shown(0.75, 2.1), False, True),  # better, and dearer
    ],
)
def test_what_ships(searched, replaces, target):
    found = verdict(searched, Shown(0.70, 2.0))
    assert (found.replaces, found.target) == (replaces, target)
    assert ("the base stays" in found.words) == (not replaces)


def test_the_bracket_with_the_fewest_is_next():
    assert fewest({"a": 2, "b": 1, "c": 1}) == "b"
