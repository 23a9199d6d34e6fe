"""What a search's figures say, on trials whose scores are known."""

from __future__ import annotations

import csv
from datetime import datetime, timedelta

import numpy as np
import pytest

pytest.importorskip("optuna")

from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState, create_trial

from streamguard.lab.search import plots, report
from streamguard.lab.search.rules import Halving
from streamguard.lab.search.spaces import Choice, Range, Space, read_design
from streamguard.lab.search.study import REASON, REFUSED, Bracket

pytestmark = pytest.mark.lab
SPACE = Space("edge/made", (Choice("block", ("a", "b")), Range("rate", 0.1, 1.0)))
HALVING = Halving((1, 3))
KINDS = {"block": CategoricalDistribution(("a", "b")), "rate": FloatDistribution(0.1, 1.0, log=True)}


def trial(number, scores, ms=1.0, state=None, **attributes):
    """One trial; ``scores`` at the rungs 1 and 3."""
    values = dict(zip((1, 3), scores, strict=False))
    state = state or (TrialState.COMPLETE if len(scores) == 2 else TrialState.PRUNED)
    made = create_trial(
        state=state, value=scores[-1] if state is TrialState.COMPLETE else None, intermediate_values=values,
        params={"block": "ab"[number % 2], "rate": 0.1 + 0.1 * number}, distributions=KINDS,
        user_attrs={"ms": ms, "parameters": 1000 * (number + 1), "epochs": len(scores), **attributes},
    )  # fmt: skip
    made.number = number
    if state is TrialState.COMPLETE:
        made.datetime_complete = datetime(2026, 1, 1) + timedelta(minutes=number)
    return made


@pytest.fixture
def trials():
    """Two seeds: TPE ends at 0.8 and 0.82, random search at 0.7 and 0.72."""
    found = {}
    for seed in (1, 2):
        extra = 0.02 * (seed - 1)
        for sampler, best in (("tpe", 0.8), ("random", 0.7)):
            found[Bracket("edge/made", sampler, seed)] = [
                trial(0, (0.5, 0.6), ms=0.5),
                trial(1, (0.4,), **{REASON: "not in the best 1/3 after 1 epochs"}),
                trial(2, (), state=TrialState.PRUNED, ms=9.0, **{REFUSED: True, REASON: "beyond the limit of ms"}),
                trial(3, (), state=TrialState.FAIL, **{REASON: "diverged: the loss is nan at step 3"}),
                trial(4, (0.7, best + extra), ms=2.0),
            ]
    return found


def test_every_trial_has_a_line(trials, tmp_path):
    report.written(trials, HALVING, tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 20
    assert [row["state"] for row in rows[:5]] == ["finished", "stopped", "refused", "failed", "finished"]
    assert rows[3]["reason"] == "diverged: the loss is nan at step 3"
    assert (rows[0]["score after 1"], rows[0]["score"], rows[1]["score after 3"]) == ("0.5", "0.6", "")
    assert (rows[4]["bracket"], rows[4]["block"], rows[4]["ms"]) == ("edge/made/tpe/1", "a", "2.0")


def test_the_best_so_far_leaves_out_what_was_refused(trials):
    line = report.best_so_far(trials[Bracket("edge/made", "tpe", 1)], maximise=True)
    assert line == [0.6, 0.6, 0.6, 0.8]
    assert report.best_so_far(trials[Bracket("edge/made", "tpe", 1)], maximise=False)[-1] == 0.6
    assert report.counts(trials)["edge/made/tpe/1"] == {
        "finished": 2, "stopped": 1, "refused": 1, "failed": 1, "epochs": 5.0, "seconds": 0.0,
    }  # fmt: skip


def test_the_difference_has_its_interval(trials):
    found = report.difference(trials, "edge/made", maximise=True)
    assert found["mean"] == pytest.approx(0.1)
    assert found["low"] < 0.1 < found["high"]
    assert found["high"] - 0.1 == pytest.approx(4.303 * np.sqrt(2 * 0.0002 / 2), abs=1e-3)  # two degrees of freedom
    one = {bracket: of for bracket, of in trials.items() if bracket.seed == 1}
    assert "low" not in report.difference(one, "edge/made", maximise=True)
    assert "mean" not in report.difference({}, "edge/made", maximise=True)


def test_rungs_that_agree_have_tau_one(trials):
    (row,) = report.agreement(trials, "edge/made", HALVING)
    assert (row["from"], row["to"], row["trials"]) == (1, 3, 8)
    assert row["tau"] > 0.7
    assert "tau" not in report.agreement({}, "edge/made", HALVING)[0]


def test_proxies_stand_beside_the_count_of_parameters(trials):
    found = report.known_before(trials, "edge/made", HALVING, maximise=True)
    assert found["trials"] == 12
    assert found["parameters"] == pytest.approx(0.5)
    assert "naswot" not in found
    assert report.known_before(trials, "edge/made", HALVING, maximise=False)["parameters"] == pytest.approx(-0.5)


def test_the_winner_is_found_over_all_brackets(trials):
    found = report.chosen(trials, ["edge/made"], {"edge/made": SPACE}, maximise=True)
    assert found["winner"]["name"] == "edge/made/tpe/2/4"
    assert found["winner"]["score"] == pytest.approx(0.82)
    assert '"block": "a"' in found["design"]


def test_a_design_of_a_real_space_is_one_that_train_reads():
    from streamguard.lab.search.spaces import PAPER

    params = {"block": "vanilla", "normalise": True, "augment": False}
    made = create_trial(value=0.3, params=params, distributions={
        "block": CategoricalDistribution(("vanilla", "resnet", "xception", "efficient")),
        "normalise": CategoricalDistribution((True, False)), "augment": CategoricalDistribution((True, False)),
    })  # fmt: skip
    design = report.design_of({Bracket("paper2025", "tpe", 1): [made]}, "paper2025/tpe/1/0", {"paper2025": PAPER})
    assert read_design(design.text).values == params


def test_importances_need_trials(trials):
    found = report.importances(trials, "edge/made", maximise=True)
    assert set(found) == {"block", "rate"}
    assert report.importances({}, "edge/made", maximise=True) == {}


def test_the_front_is_what_nothing_cheaper_equals():
    assert plots.front([1.0, 2.0, 3.0, 2.5], [0.5, 0.7, 0.6, 0.7], maximise=True) == [0, 1]
    assert plots.front([1.0, 2.0], [0.5, 0.2], maximise=False) == [0, 1]


def test_plots_show_every_study(trials):
    figures = [
        plots.history(trials, ["edge/made"], "AUC", maximise=True),
        plots.pareto(trials, ["edge/made"], "AUC", maximise=True),
        plots.importance_bars({"edge/made": {"rate": 0.7, "block": 0.3}, "edge/other": {}}),
    ]
    assert [len(figure.axes) for figure in figures] == [1, 1, 2]
    assert len(figures[0].axes[0].lines) == 4  # a line a bracket
    assert [label.get_text() for label in figures[2].axes[1].get_yticklabels()] == ["too few trials to tell"]
