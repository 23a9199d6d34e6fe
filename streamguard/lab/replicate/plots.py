"""Accuracy and loss over epochs, as the paper's figures 4 and 5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from matplotlib.figure import Figure

_COLOURS: Final = {"paper": "#c1121f", "ours": "#2a6f97"}
_WORDS: Final = {"paper": "cut by picture, after augmentation", "ours": "cut by group, before it"}


def curves(lines: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """``lines``: by protocol, then "training accuracy", "test loss" and so on; a value an epoch."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for protocol, of in lines.items():
            epochs = range(1, len(of[f"test {what}"]) + 1)
            axes.plot(epochs, of[f"training {what}"], color=_COLOURS[protocol], linestyle=":", label="training")
            axes.plot(epochs, of[f"test {what}"], color=_COLOURS[protocol], label=f"test, {_WORDS[protocol]}")
        axes.set(xlabel="epoch", ylabel=what)
        axes.legend(fontsize="xx-small")
    figure.suptitle(title, fontsize="small")
    return figure
