"""What a search found: every trial in trials.csv, plots, and figures with what they are worth.

* The difference between TPE and random search at the same budget, over the seeds, with a 95 % interval, whatever its
  sign.
* How far the rungs agree: Kendall's tau between neighbouring ones, over the trials that had both. Those are the better
  ones: the agreement over all would be higher.
* What zero-cost proxies knew: Spearman's rank correlation with the score at the first rung, which all trials had,
  beside that of the plain count of parameters.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState
from scipy import stats

from streamguard.lab.search.rules import LIMITS, Finished, Halving, Limits, winner
from streamguard.lab.search.spaces import Design, Space
from streamguard.lab.search.study import REASON, REFUSED, Bracket
from streamguard.lab.search.zerocost import PROXIES

Trials = Mapping[Bracket, Sequence[FrozenTrial]]
_FIRST: Final = ("bracket", "trial", "state", "score", "epochs", "seconds", "ms", "ratio", *PROXIES)


def written(trials: Trials, halving: Halving, out: Path) -> None:
    """``out``: a line a trial, in the order of the brackets; empty where a trial has no such value."""
    attributes = sorted(
        {key for of in trials.values() for t in of for key in t.user_attrs} - {*_FIRST, REASON, REFUSED}
    )
    parameters = sorted({key for of in trials.values() for t in of for key in t.params})
    rungs = [f"score after {rung}" for rung in halving.rungs]
    head = [*_FIRST, *rungs, *attributes, *parameters, REASON]
    with out.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, head, restval="", lineterminator="\n")
        table.writeheader()
        for bracket, of in trials.items():
            for trial in of:
                told = {key: value for key, value in trial.user_attrs.items() if key != REFUSED}
                scores = {f"score after {rung}": value for rung, value in trial.intermediate_values.items()}
                table.writerow({"bracket": bracket.name, "trial": trial.number, "state": state_of(trial),
                                "score": "" if trial.value is None else trial.value, **told, **scores,
                                **trial.params})  # fmt: skip


def state_of(trial: FrozenTrial) -> str:
    """finished, stopped, refused, failed, or under way."""
    if REFUSED in trial.user_attrs:
        return "refused"
    return {TrialState.COMPLETE: "finished", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}.get(
        trial.state, "under way"
    )


def counts(trials: Trials) -> dict[str, dict[str, float]]:
    """By bracket: how many trials became what, and the epochs and seconds that they took."""
    found = {}
    for bracket, of in trials.items():
        states = [state_of(trial) for trial in of]
        found[bracket.name] = {word: float(states.count(word)) for word in dict.fromkeys(states)} | {
            "epochs": sum(float(t.user_attrs.get("epochs", 0)) for t in of),
            "seconds": round(sum(float(t.user_attrs.get("seconds", 0)) for t in of), 1),
        }
    return found


def best_so_far(trials: Sequence[FrozenTrial], *, maximise: bool) -> list[float]:
    """After each trial that was not refused: the best score at the last rung until then; NaN before there is one."""
    found, best = [], float("nan")
    for trial in trials:
        if REFUSED in trial.user_attrs:
            continue
        if trial.state is TrialState.COMPLETE and trial.value is not None:
            best = trial.value if np.isnan(best) else (max if maximise else min)(best, trial.value)
        found.append(best)
    return found


def difference(trials: Trials, study: str, *, maximise: bool) -> dict[str, Any]:
    """TPE's best less random search's best of one study: mean over seeds, with Welch's 95 % interval.

    ``low`` and ``high`` are missing where a sampler has fewer than two seeds: one seed gives no interval.
    """
    bests: dict[str, list[float]] = {"tpe": [], "random": []}
    for bracket, of in trials.items():
        line = best_so_far(of, maximise=maximise)
        if bracket.study == study and line and np.isfinite(line[-1]):
            bests[bracket.sampler].append(line[-1])
    found: dict[str, Any] = {"tpe": bests["tpe"], "random": bests["random"]}
    if not bests["tpe"] or not bests["random"]:
        return found
    found["mean"] = float(np.mean(bests["tpe"]) - np.mean(bests["random"]))
    if min(map(len, bests.values())) > 1:
        if max(np.ptp(bests["tpe"]), np.ptp(bests["random"])) == 0:  # all alike: Welch's test has no scale
            low = high = found["mean"]
        else:
            interval = stats.ttest_ind(bests["tpe"], bests["random"], equal_var=False).confidence_interval(0.95)
            low, high = float(interval.low), float(interval.high)
        found |= {"low": low, "high": high}
    return found


def agreement(trials: Trials, study: str, halving: Halving) -> list[dict[str, Any]]:
    """Kendall's tau between each rung and the next, with the number of trials that had both."""
    found = []
    own = [t for bracket, of in trials.items() if bracket.study == study for t in of]
    for lower, upper in zip(halving.rungs, halving.rungs[1:], strict=False):
        both = [t.intermediate_values for t in own if lower in t.intermediate_values and upper in t.intermediate_values]
        pairs = np.array([[values[lower], values[upper]] for values in both]).reshape(-1, 2)
        row: dict[str, Any] = {"from": lower, "to": upper, "trials": len(both)}
        if len(both) > 2 and all(np.ptp(pairs, axis=0) > 0):
            row["tau"] = round(float(stats.kendalltau(pairs[:, 0], pairs[:, 1]).statistic), 3)
        found.append(row)
    return found


def known_before(trials: Trials, study: str, halving: Halving, *, maximise: bool) -> dict[str, Any]:
    """Spearman's correlation of each proxy with the score at the first rung (turned where less is better), and
    ``trials``: on how many."""
    first = halving.rungs[0]
    own = [t for bracket, of in trials.items() if bracket.study == study for t in of if first in t.intermediate_values]
    found: dict[str, Any] = {"trials": len(own)}
    scores = np.array([t.intermediate_values[first] for t in own]) * (1 if maximise else -1)
    for proxy in PROXIES:
        rows = [i for i, trial in enumerate(own) if proxy in trial.user_attrs]
        values = np.array([own[i].user_attrs[proxy] for i in rows])
        if len(rows) > 2 and np.ptp(values) > 0 and np.ptp(scores[rows]) > 0:
            found[proxy] = round(float(stats.spearmanr(values, scores[rows]).statistic), 3)
    return found


def finished(trials: Trials, study: str) -> list[Finished]:
    """The trials of a study that finished the last rung, in the order in which they did."""
    own = [(bracket, t) for bracket, of in trials.items() if bracket.study == study for t in of]
    done = [(bracket, t) for bracket, t in own if t.state is TrialState.COMPLETE and t.value is not None]
    done.sort(key=lambda one: str(one[1].datetime_complete))
    return [Finished(f"{bracket.name}/{t.number}", float(t.value or 0.0), float(t.user_attrs.get("ms", 0.0)),
                     int(t.user_attrs.get("parameters", 0))) for bracket, t in done]  # fmt: skip


def design_of(trials: Trials, name: str, spaces: Mapping[str, Space]) -> Design:
    """The design of the trial ``bracket/number``."""
    bracket_name, _, number = name.rpartition("/")
    bracket = next(bracket for bracket in trials if bracket.name == bracket_name)
    return spaces[bracket.study].design(trials[bracket][int(number)].params)


def importances(trials: Trials, study: str, *, maximise: bool) -> dict[str, float]:
    """How much each parameter that all trials have decides, by Optuna (PED-ANOVA, on what finished or was stopped with
    a score); empty with too few trials to tell."""
    together = optuna.create_study(direction="maximize" if maximise else "minimize")
    for bracket, of in trials.items():
        done = [t for t in of if t.intermediate_values and bracket.study == study and REFUSED not in t.user_attrs]
        for trial in done:
            score = trial.intermediate_values[max(trial.intermediate_values)]
            together.add_trial(optuna.trial.create_trial(params=trial.params, distributions=trial.distributions,
                                                         value=score))  # fmt: skip
    if len(together.trials) < 4:
        return {}
    return {name: round(float(value), 4) for name, value in optuna.importance.get_param_importances(together).items()}


def chosen(
    trials: Trials, studies: Sequence[str], spaces: Mapping[str, Space], *, maximise: bool, limits: Limits = LIMITS
) -> dict[str, Any]:
    """The winner over all studies, by :func:`streamguard.lab.search.rules.winner`, and each study's own."""
    own = {study: finished(trials, study) for study in studies}
    bests = {study: winner(of, maximise=maximise, limits=limits) for study, of in own.items() if of}
    best = winner([one for of in own.values() for one in of], maximise=maximise, limits=limits)
    return {"winner": best._asdict(), "by_study": {study: one._asdict() for study, one in bests.items()},
            "design": design_of(trials, best.name, spaces).text}  # fmt: skip
