"""The rules of the search, written before any search ran. Pure: nothing in here trains, measures or draws.

**Roles.** A group of forgery families has one role (:data:`ROLES`): what trials are trained on, what they are compared
by, or what stays closed until the winner is trained and measured by `lab evaluate`.

**Constraints.** :data:`LIMITS`: 3 ms a face on one core, 6 million parameters. A design beyond them is not trained.

**Halving.** All trials take the first rung; from each rung the best third goes on (:class:`Halving`).

**Winner.** Of all feasible trials of a study that finished the last rung, whoever drew them: the best score. Scores
within :data:`TIE` of the best are one score, and the least time a face decides; then fewer parameters; then who was
first. The winner of a space is the winner over its studies, by the same rule.

**Shipping.** The winner replaces the default engine if it is not worse in the mean over the unseen rows and costs no
more time a face (:func:`verdict`). It reaches the target if it is 2 points better, or no worse at half the cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from streamguard.errors import UsageError

Role = Literal["trained", "compared", "closed"]
ROLES: Final[Mapping[Role, tuple[str, ...]]] = MappingProxyType({
    "trained": ("blends", "resampling", "dfdc"),
    "compared": ("reconstruction", "parts", "openforensics"),
    "closed": ("warp", "stylegan"),
})  # fmt: skip
UNSEEN: Final = ("reconstruction", "parts", "warp")  # made families that neither net of `lab choose` is trained on
TIE: Final = 0.005  # AUC; and of the loss of the paper's space. Less than an interval is wide
ETA: Final = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """``ms``: a face on one core. ``parameters``: without the head that only training has."""

    ms: float = 3.0
    parameters: int = 6_000_000

    def violations(self, ms: float, parameters: int) -> dict[str, float]:
        """By constraint: how far beyond, relative to the limit; 0 or less is within."""
        return {"ms": ms / self.ms - 1, "parameters": parameters / self.parameters - 1}


LIMITS: Final = Limits()
NO_LIMITS: Final = Limits(float("inf"), 2**62)  # the paper's space


@dataclass(frozen=True, slots=True)
class Halving:
    """Successive halving without waiting (Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys
    2020): a trial goes on if it is in the best ``1 / eta`` of those that have finished the same rung by now.

    ``rungs``: epochs, ascending; the last is the whole course. ``maximise``: whether more is better.
    """

    rungs: tuple[int, ...]
    maximise: bool = True
    eta: int = ETA

    @classmethod
    def of(cls, epochs: int, *, maximise: bool = True, eta: int = ETA) -> Halving:
        """Rungs at ``epochs`` and its ``eta``-th parts, at most three, none shorter than an epoch."""
        found = {epochs, -(-epochs // eta), -(-epochs // eta**2)}
        return cls(tuple(sorted(found)), maximise, eta)

    def goes_on(self, score: float, others: Sequence[float]) -> bool:
        """Whether a trial with ``score`` leaves the rung upwards; ``others``: the scores of all others that had it.

        The first few go on whatever they score: nothing is known to stop them by.
        """
        better = sum(other > score if self.maximise else other < score for other in others)
        return better < max(1, (len(others) + 1) // self.eta)


class Finished(NamedTuple):
    """A trial that finished the last rung. ``name`` says whose it is."""

    name: str
    score: float
    ms: float
    parameters: int


def winner(trials: Sequence[Finished], *, maximise: bool = True, limits: Limits = LIMITS) -> Finished:
    """By the rule above; ``trials`` in the order in which they finished.

    Raises:
        UsageError: no trial is within the limits.
    """
    feasible = [t for t in trials if all(by <= 0 for by in limits.violations(t.ms, t.parameters).values())]
    if not feasible:
        told = f"{limits.ms:g} ms and {limits.parameters / 1e6:g} M parameters"
        raise UsageError(f"none of {len(trials)} finished trials is within {told}. Give the search more budget.")
    best = max(t.score for t in feasible) if maximise else min(t.score for t in feasible)
    tied = [t for t in feasible if abs(t.score - best) <= TIE]
    return min(tied, key=lambda t: (t.ms, t.parameters))  # min takes the first of equals


class Shown(NamedTuple):
    """What a trained engine showed: mean AUC over the unseen rows, and ms a face, both measured alike."""

    unseen: float
    ms: float


class Verdict(NamedTuple):
    """Whether the searched engine becomes the default, whether the target is reached, and why in words."""

    replaces: bool
    target: bool
    words: str


def verdict(searched: Shown, base: Shown) -> Verdict:
    """By the rule above."""
    gain, cost = searched.unseen - base.unseen, searched.ms / base.ms
    replaces = gain >= 0 and cost <= 1
    target = gain >= 0.02 or (gain >= 0 and cost <= 0.5)
    told = f"{100 * gain:+.1f} points on the unseen rows at {cost:.2f} of the cost"
    return Verdict(replaces, target, f"{told}: {'replaces the base' if replaces else 'the base stays'}")


def fewest(counts: Mapping[str, int]) -> str:
    """The bracket whose turn it is: the one with the fewest trials, the first of equals. A search that is cut off has
    given each the same."""
    return min(counts, key=lambda name: counts[name])
