"""Plots of an evaluation: PNG files for its run folder and for docs/models.md. Curves and bars, never a face."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from streamguard.lab.statistics import BINS

F64 = npt.NDArray[np.float64]
Scores = tuple[F64, npt.NDArray[np.uint8]]
_COLOURS: Final = {"real": "#2a6f97", "fake": "#c1121f"}


def roc(sets: Mapping[str, Scores], title: str) -> Figure:
    """One curve a set: name -> (logits, labels)."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, (logits, labels) in sets.items():
        fakes, reals = (np.sort(logits[labels == label]) for label in (1, 0))
        cuts = np.unique(np.concatenate((fakes, reals)))
        caught = np.concatenate(([1.0], 1 - np.searchsorted(fakes, cuts, "right") / fakes.size))
        alarmed = np.concatenate(([1.0], 1 - np.searchsorted(reals, cuts, "right") / reals.size))
        axes.step(alarmed, caught, label=f"{name} ({reals.size} real, {fakes.size} fake)", where="pre")
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    axes.set(xlabel="real faces above the threshold", ylabel="fakes above it", title=title, xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(fontsize="x-small", loc="lower right")
    return figure


def reliability(sets: Mapping[str, Scores], title: str) -> Figure:
    """Share of fakes against stated probability, in bins of equal count: name -> (calibrated logits, labels)."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, (logits, labels) in sets.items():
        share = 1 / (1 + np.exp(-logits))
        bins = [of for of in np.array_split(np.argsort(share, kind="stable"), BINS) if of.size]
        axes.plot([share[of].mean() for of in bins], [labels[of].mean() for of in bins], marker="o", label=name)
    axes.plot([0, 1], [0, 1], color="black", linewidth=0.6)
    axes.set(
        xlabel="stated probability of manipulation", ylabel="share of fakes", title=title, xlim=(0, 1), ylim=(0, 1)
    )
    axes.legend(fontsize="x-small")
    return figure


def histograms(sets: Mapping[str, Scores], threshold: float | None) -> Figure:
    """Calibrated logits of real and fake faces, a row of axes a set."""
    figure = Figure(figsize=(6, 1.3 * len(sets) + 0.6), layout="constrained")
    for axes, (name, (logits, labels)) in zip(_column(figure, len(sets)), sets.items(), strict=True):
        for label, word in enumerate(("real", "fake")):
            axes.hist(np.clip(logits[labels == label], -6, 6), np.linspace(-6, 6, 49).tolist(), density=True,
                      alpha=0.6, label=word, color=_COLOURS[word])  # fmt: skip
        if threshold is not None:
            axes.axvline(threshold, color="black", linewidth=0.8, linestyle="--")
        axes.set(ylabel=name, yticks=[])
        axes.yaxis.label.set(rotation=0, ha="right", fontsize="x-small")
    figure.axes[0].legend(fontsize="x-small")
    figure.axes[-1].set_xlabel("calibrated logit of a single face; dashed: threshold `default`")
    return figure


def corruption_curves(found: Mapping[str, Any]) -> Figure:
    """AUC over severity, one small plot a corruption, one line a subject."""
    kinds = list(found["steps"])
    columns = 3
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(8, 1.9 * rows), layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, sharey=True, squeeze=False)).ravel()
    for axes, kind in zip(grid, kinds, strict=False):
        steps = found["steps"][kind]
        places = range(1, len(steps["steps"]) + 1)
        for name, subject in found["subjects"].items():
            (line,) = axes.plot(places, subject["auc"][kind], marker=".", label=name)
            axes.axhline(subject["clean"], color=line.get_color(), linewidth=0.6, linestyle=":")
        axes.set(title=f"{kind} ({steps['unit']})", xticks=list(places))
        axes.set_xticklabels([f"{step:g}" for step in steps["steps"]], fontsize="x-small")
        axes.title.set_fontsize("small")
    for axes in grid[len(kinds) :]:
        axes.set_axis_off()
    grid[0].set_ylabel("AUC")
    grid[0].legend(fontsize="x-small")
    return figure


def matrix(rows: Sequence[str], columns: Sequence[str], values: F64, marked: npt.NDArray[np.bool_]) -> Figure:
    """AUC of nets (``rows``) on sets (``columns``), (R, C); frames round what a net was never shown."""
    figure = Figure(figsize=(1.5 + 0.75 * len(columns), 1.2 + 0.42 * len(rows)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(values, cmap="RdYlGn", vmin=0.5, vmax=1.0, aspect="auto")
    axes.set_xticks(range(len(columns)), columns, rotation=40, ha="right", fontsize="x-small")
    axes.set_yticks(range(len(rows)), rows, fontsize="x-small")
    for (r, c), value in np.ndenumerate(values):
        weight = "bold" if marked[r, c] else "normal"
        axes.text(c, r, f"{value:.2f}", ha="center", va="center", fontsize="x-small", weight=weight)
    axes.set_title("AUC on held-out faces; bold: never shown to that net", fontsize="small")
    return figure


def _column(figure: Figure, count: int) -> list[Axes]:
    return list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
