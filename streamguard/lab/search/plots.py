"""Plots of a search: history, Pareto front, importances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from streamguard.lab.search.report import Trials, best_so_far, state_of
from streamguard.lab.search.rules import LIMITS

_COLOURS: Final = {"tpe": "#c1121f", "random": "#2a6f97"}


def _columns(figure: Figure, studies: Sequence[str]) -> list[Axes]:
    axes = list(figure.subplots(1, len(studies), squeeze=False)[0])
    for one, study in zip(axes, studies, strict=True):
        one.set_title(study, fontsize="small")
    return axes


def history(trials: Trials, studies: Sequence[str], what: str, *, maximise: bool) -> Figure:
    """Best score so far over trials: a line a bracket, a point a trial that finished the last rung."""
    figure = Figure(figsize=(4.6 * len(studies), 3.4), layout="constrained")
    for axes, study in zip(_columns(figure, studies), studies, strict=True):
        for bracket, of in trials.items():
            if bracket.study != study:
                continue
            counted = [t for t in of if state_of(t) != "refused"]
            line = best_so_far(of, maximise=maximise)
            colour = _COLOURS[bracket.sampler]
            label = bracket.sampler if bracket.seed == min(b.seed for b in trials) else None
            axes.step(range(1, len(line) + 1), line, where="post", color=colour, label=label, alpha=0.8)
            ends = [(i, t.value) for i, t in enumerate(counted, 1) if t.value is not None and state_of(t) == "finished"]
            axes.scatter([i for i, _ in ends], [value for _, value in ends], s=9, color=colour)
        axes.set(xlabel="trials of a bracket", ylabel=what)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="x-small")
    return figure


def front(costs: Sequence[float], scores: Sequence[float], *, maximise: bool) -> list[int]:
    """Row numbers, by cost, of those that nothing cheaper equals: the Pareto front."""
    best, found = float("-inf"), []
    signed = [score if maximise else -score for score in scores]
    for row in sorted(range(len(costs)), key=lambda i: (costs[i], -signed[i])):
        if signed[row] > best:
            best = signed[row]
            found.append(row)
    return found


def pareto(trials: Trials, studies: Sequence[str], what: str, *, maximise: bool) -> Figure:
    """Score at the last rung that a trial had over ms a face; the line joins the front of those that finished."""
    figure = Figure(figsize=(4.6 * len(studies), 3.4), layout="constrained")
    for axes, study in zip(_columns(figure, studies), studies, strict=True):
        own = [t for bracket, of in trials.items() if bracket.study == study for t in of
               if t.intermediate_values and "ms" in t.user_attrs]  # fmt: skip
        score = [t.intermediate_values[max(t.intermediate_values)] for t in own]
        cost = [float(t.user_attrs["ms"]) for t in own]
        done = [i for i, t in enumerate(own) if state_of(t) == "finished"]
        rest = [i for i in range(len(own)) if i not in done]
        axes.scatter([cost[i] for i in rest], [score[i] for i in rest], s=9, color="#adb5bd", label="stopped")
        axes.scatter([cost[i] for i in done], [score[i] for i in done], s=14, color="#c1121f", label="finished")
        line = [done[i] for i in front([cost[i] for i in done], [score[i] for i in done], maximise=maximise)]
        axes.plot([cost[i] for i in line], [score[i] for i in line], color="#c1121f", linewidth=0.8)
        axes.axvline(LIMITS.ms, color="black", linewidth=0.6, linestyle="--")
        axes.set(xlabel="ms a face on one core", ylabel=what, xscale="log")
        for numbers in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            numbers(StrMethodFormatter("{x:g}"))
        axes.legend(fontsize="x-small")
    return figure


def importance_bars(found: Mapping[str, Mapping[str, float]]) -> Figure:
    """A bar a parameter, a column a study."""
    figure = Figure(figsize=(4.6 * len(found), 3.4), layout="constrained")
    for axes, (study, of) in zip(_columns(figure, list(found)), found.items(), strict=True):
        names = list(of)[::-1] or ["too few trials to tell"]
        axes.barh(np.arange(len(names)), [of.get(name, 0.0) for name in names], color="#2a6f97")
        axes.set_yticks(range(len(names)), names, fontsize="x-small")
        axes.set(title=study, xlabel="importance (PED-ANOVA)", xlim=(0, 1))
    return figure
