"""Two ways of cutting pictures into training and test, and what a classifier's answers are worth. Pure.

``paper``: augmented copies are made first, then everything is cut 80/20 by picture, as S. Banerjee et al., IJARSCT
5(1), 2025 do by the order of their pipeline. A picture and its copy, or two frames of one video, come on both sides.

``ours``: groups are cut 80/20 first (a group is whatever shares a person, a recording or a photo); then the training
side alone is augmented. The test side is as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from streamguard.errors import UsageError
from streamguard.lab.pictures import Pictures, augmented
from streamguard.lab.statistics import auc, interval

Protocol = Literal["paper", "ours"]
PROTOCOLS: Final[tuple[Protocol, ...]] = ("paper", "ours")
SHARE: Final = 0.8
TOLD: Final = {"case 1": 0.895, "case 2": 0.9881}  # accuracies of the paper's table
F64 = npt.NDArray[np.float64]


class Cut(NamedTuple):
    """What a net is trained on, and what it is tested on."""

    train: Pictures
    test: Pictures


def cut(of: Pictures, protocol: Protocol, seed: int, *, augment: bool) -> Cut:
    """``of`` by one of the two ways; with ``augment``, one copy of each picture is added, by the paper's policy.

    Raises:
        UsageError: a side lacks one of the labels.
    """
    rng = np.random.default_rng(seed)
    everything = with_copies(of, rng) if augment and protocol == "paper" else of
    train, test = divided(everything.group, protocol, rng)
    found = Cut(everything.take(train), everything.take(test))
    if augment and protocol == "ours":
        found = Cut(with_copies(found.train, rng), found.test)
    for side, words in zip(found, ("training", "test"), strict=True):
        if not 0 < side.label.sum() < side.label.size:
            raise UsageError(f"the {words} side has one label only ({side.label.size} pictures). Use more pictures.")
    return found


def divided(
    group: npt.NDArray[np.str_], protocol: Protocol, rng: np.random.Generator
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row numbers of training and test: by picture, or as :func:`apart` does."""
    if protocol == "ours":
        return apart(group, rng)
    order = rng.permutation(len(group))
    first = round(SHARE * order.size)
    return order[:first], order[first:]


def with_copies(of: Pictures, rng: np.random.Generator) -> Pictures:
    """Every picture, and an augmented copy of it with the same label and group."""
    seeds = rng.integers(2**31, size=len(of.label))
    copies = np.stack([augmented(p, int(seed)) for p, seed in zip(of.pictures, seeds, strict=True)])
    return Pictures(np.concatenate((of.pictures, copies)), np.tile(of.label, 2), np.tile(of.group, 2))


def apart(groups: npt.NDArray[np.str_], rng: np.random.Generator) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Row numbers of training and test: a fifth of the groups is test. Of a swap, ``a|b``, both people are in its
    group; one that straddles the cut is on neither side."""
    names = sorted({name for group in np.unique(groups) for name in str(group).split("|")})
    first = round(SHARE * len(names))
    training = {names[i] for i in rng.permutation(len(names))[:first]}
    held = [[name in training for name in str(group).split("|")] for group in groups]
    train = [row for row, inside in enumerate(held) if all(inside)]
    test = [row for row, inside in enumerate(held) if not any(inside)]
    return np.array(train, np.intp), np.array(test, np.intp)


def shared(cut_: Cut) -> float:
    """Share of test pictures whose group is in the training too: the leak, before any net is trained."""
    return float(np.isin(cut_.test.group, cut_.train.group).mean())


def accuracy(scores: F64, label: F64) -> float:
    """Share of right answers, a logit above 0 being "fake"."""
    return float(((scores > 0) == (label > 0.5)).mean())


def precision(scores: F64, label: F64) -> float:
    """Share of fakes among what is called fake; 0 if nothing is."""
    called = scores > 0
    return float((label[called] > 0.5).mean()) if called.any() else 0.0


def recall(scores: F64, label: F64) -> float:
    """Share of the fakes that are called fake."""
    return float((scores[label > 0.5] > 0).mean())


def f1(scores: F64, label: F64) -> float:
    """Harmonic mean of the two."""
    p, r = precision(scores, label), recall(scores, label)
    return 2 * p * r / (p + r) if p + r else 0.0


FIGURES: Final[dict[str, Callable[[F64, F64], float]]] = {
    "accuracy": accuracy, "precision": precision, "recall": recall, "F1": f1, "AUC": auc,
}  # fmt: skip


def figures(scores: npt.ArrayLike, label: npt.ArrayLike, group: npt.ArrayLike) -> dict[str, Any]:
    """Each of :data:`FIGURES` with ``value``, ``low``, ``high``: 95 %, whole groups drawn with replacement."""
    answers, truth = np.asarray(scores, np.float64), np.asarray(label, np.float64)
    found = {}
    for name, figure in FIGURES.items():
        low, high = interval(figure, answers, truth, group)
        found[name] = {"value": round(figure(answers, truth), 4), "low": round(low, 4), "high": round(high, 4)}
    return found
