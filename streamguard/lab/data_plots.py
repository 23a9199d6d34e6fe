"""Plots of the data steps: PNG files for run folders and documents."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from streamguard.frames import F32

_COLOURS: Final = {"real": "#2a6f97", "fake": "#c1121f", "raw": "#adb5bd", "chain": "#2a6f97"}


def face_sizes(boxes: F32, fake: np.ndarray) -> Figure:
    """Longer side of the faces in their frames, a histogram for each label: where they differ, size is a shortcut.

    ``boxes`` (N, 4) x1, y1, x2, y2, px; ``fake`` (N,) bool.
    """
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    sides = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1])
    edges = np.geomspace(max(1.0, sides.min()), max(2.0, sides.max() * 1.01), 25)
    for label, rows in (("real", ~fake), ("fake", fake)):
        axes.hist(sides[rows], edges.tolist(), label=f"{label} ({int(rows.sum())})", alpha=0.6, color=_COLOURS[label])
    axes.set(xscale="log", xlabel="longer side of the face in its frame, px", ylabel="faces")
    axes.legend()
    return figure


def probe_figures(probe: Mapping[str, Mapping[str, Any]], limit: float) -> Figure:
    """AUC of the quality probe, raw and after the training chain, a pair of bars for each source that was judged."""
    judged = {name: result for name, result in probe.items() if result["chain"] is not None}
    figure = Figure(figsize=(6, 1.2 + 0.5 * max(1, len(judged))), layout="constrained")
    axes = figure.subplots()
    places = np.arange(len(judged))
    for key, shift, words in (("raw", -0.2, "as stored"), ("chain", 0.2, "after the training chain")):
        axes.barh(places + shift, [r[key] for r in judged.values()], 0.38, label=words, color=_COLOURS[key])
    axes.axvline(limit, color=_COLOURS["fake"], label=f"limit {limit}")
    axes.axvline(0.5, color="black", linewidth=0.8)
    axes.set(yticks=places, yticklabels=list(judged), xlim=(0, 1), xlabel="AUC of picture quality alone")
    axes.invert_yaxis()
    axes.legend(loc="lower right", fontsize="small")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a PNG, the same bytes for the same figure."""
    figure.savefig(path, dpi=120, metadata={"Software": None})
