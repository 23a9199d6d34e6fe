"""Figures of a binary classifier, each with an interval where groups allow one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

from streamguard.errors import UsageError

F64 = npt.NDArray[np.float64]
BINS: Final = 15
RESAMPLES: Final = 500


def auc(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Area under the ROC curve: how often a fake scores above a real one, ties counting half.

    Raises:
        UsageError: only one class.
    """
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels) > 0.5
    fakes, reals = int(labels.sum()), int((~labels).sum())
    if not fakes or not reals:
        raise UsageError(f"AUC needs both classes and got {reals} real and {fakes} fake.")
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]
    return float((rank[labels].sum() - fakes * (fakes + 1) / 2) / (fakes * reals))


def ece(logits: npt.ArrayLike, labels: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error over bins of equal count, 0..1."""
    share = 1 / (1 + np.exp(-np.asarray(logits, np.float64)))
    labels = np.asarray(labels, np.float64)
    order = np.argsort(share, kind="stable")
    parts = [part for part in np.array_split(order, bins) if part.size]
    return float(sum(abs(share[p].mean() - labels[p].mean()) * p.size for p in parts) / max(1, order.size))


def interval(
    figure: Callable[[F64, F64], float],
    scores: npt.ArrayLike,
    labels: npt.ArrayLike,
    groups: npt.ArrayLike,
    seed: int = 1,
) -> tuple[float, float]:
    """95 % bootstrap interval of ``figure(scores, labels)``, whole groups drawn with replacement."""
    scores, labels = np.asarray(scores, np.float64), np.asarray(labels, np.float64)
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    of_group = np.split(np.argsort(member, kind="stable"), np.cumsum(np.bincount(member))[:-1])
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([of_group[i] for i in rng.integers(len(of_group), size=len(of_group))])
        if 0 < labels[rows].sum() < rows.size:
            found.append(figure(scores[rows], labels[rows]))
    if not found:
        raise UsageError("no resample held both classes: too few groups for an interval.")
    low, high = np.quantile(found, (0.025, 0.975))
    return float(low), float(high)


def platt(raw: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[float, float]:
    """(temperature, bias) that minimise the cross-entropy of ``raw / temperature + bias``.

    After J. Platt, "Probabilistic Outputs for Support Vector Machines", 1999, with his softened targets; by
    Newton's method, the problem being convex in slope and bias.

    Raises:
        UsageError: one class only, or raw logits that rank real above fake (no temperature above 0 fits).
    """
    raw, labels = np.asarray(raw, np.float64), np.asarray(labels) > 0.5
    fakes, reals = int(labels.sum()), int((~labels).sum())
    if not fakes or not reals:
        raise UsageError(f"calibration needs both classes and got {reals} real and {fakes} fake.")
    target = np.where(labels, (fakes + 1) / (fakes + 2), 1 / (reals + 2))
    features = np.stack((raw, np.ones_like(raw)), axis=1)
    weights = np.zeros(2)
    for _ in range(50):
        share = 1 / (1 + np.exp(-np.clip(features @ weights, -30, 30)))
        gradient = features.T @ (share - target)
        curvature = (features * (share * (1 - share))[:, None]).T @ features + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))  # from afar, Newton's step would overshoot
        weights -= step
        if float(np.abs(step).max()) < 1e-9:
            break
    slope, bias = map(float, weights)
    if slope <= 0:
        raise UsageError(
            "the net ranks real above fake on the calibration part. It has learnt nothing; train it longer."
        )
    return 1 / slope, bias


def poisson(count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact interval of the mean of a Poisson count (F. Garwood, Biometrika 28, 1936)."""
    if count < 0:
        raise UsageError(f"a count of {count} has no interval.")
    tail = (1 - confidence) / 2
    low = float(chi2.ppf(tail, 2 * count)) / 2 if count else 0.0
    return low, float(chi2.ppf(1 - tail, 2 * count + 2)) / 2


def wilson(hits: int, total: int) -> tuple[float, float]:
    """95 % interval of a share."""
    if total <= 0:
        raise UsageError("a share of nothing has no interval.")
    z, share = 1.959964, hits / total
    middle = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * float(np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)))
    return max(0.0, middle - half), min(1.0, middle + half)
