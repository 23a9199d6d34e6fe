"""The families of forgeries, declared once: what training draws, leaves out, and what the cards name.

A group leaves a training together, since its families share a trace. Beside the made ones stand the supplied fakes,
each source a group of its own. ``--families`` speaks of both:

    all                    every family, by the weights of the table, and every supplied source
    self-blended           this one alone (the default), with every supplied source
    blends:2,warp          the families of these groups, blends drawn twice as often as they are by the table
    all,-blends            all but a group
    all,-dfdc              the fakes of this source are not shown
    all,-supplied          forgeries alone
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from streamguard.errors import UsageError
from streamguard.lab.data import STILLS
from streamguard.lab.forge.base import Family
from streamguard.lab.forge.parts import PartEdit
from streamguard.lab.forge.poisson import PoissonSwap
from streamguard.lab.forge.reconstruction import Reconstructed
from streamguard.lab.forge.resampling import Resampled
from streamguard.lab.forge.selfblend import SelfBlended
from streamguard.lab.forge.swap import TwoIdentity
from streamguard.lab.forge.warp import Warped

DEFAULT: Final = "self-blended"
SUPPLIED: Final = "supplied"


@dataclass(frozen=True, slots=True)
class Declared:
    """One row: the family, its group, its share of a mixture of all, what it was made after, and whether some or all of
    its forgeries take something of a second person."""

    family: type[Family]
    group: str
    weight: float
    source: str
    two: bool = False


FAMILIES: Final[Mapping[str, Declared]] = MappingProxyType(
    {
        "self-blended": Declared(SelfBlended, "blends", 0.35, "arXiv:2204.08376"),
        "two-identity": Declared(TwoIdentity, "blends", 0.12, "arXiv:1912.13458", two=True),
        "poisson": Declared(PoissonSwap, "blends", 0.10, "arXiv:1901.08971; Pérez et al. 2003", two=True),
        "resampled": Declared(Resampled, "resampling", 0.14, "Odena et al. 2016; arXiv:2504.04827"),
        "reconstructed": Declared(Reconstructed, "reconstruction", 0.12, "arXiv:2410.11835; arXiv:2504.04827"),
        "parts": Declared(PartEdit, "parts", 0.10, "Telea 2004; Bertalmio et al. 2001", two=True),
        "warp": Declared(Warped, "warp", 0.07, "arXiv:2406.13495; Wendland 1995", two=True),
    }
)

GROUPS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        group: tuple(name for name, row in FAMILIES.items() if row.group == group)
        for group in dict.fromkeys(row.group for row in FAMILIES.values())
    }
)
"""The made groups and their families, in the table's order."""

ALL_GROUPS: Final = (*GROUPS, *STILLS)
"""What leave-one-out leaves out, one after the other: the made groups, then the supplied sources of fakes."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a training draws: shares of families that sum to 1, and the supplied sources."""

    families: Mapping[str, float]
    supplied: tuple[str, ...]

    @property
    def plain(self) -> bool:
        """Self-blended alone: it needs no mesh and no second face."""
        return tuple(self.families) == (DEFAULT,)

    @property
    def groups(self) -> frozenset[str]:
        """Those of :data:`ALL_GROUPS` that something is shown of."""
        return frozenset(FAMILIES[name].group for name in self.families) | frozenset(self.supplied)


def choose(text: str) -> Choice:
    """Read ``--families``; the module's head shows its forms.

    Raises:
        UsageError: an unknown name, a weight that is no number above 0, or nothing left.
    """
    weights: dict[str, float] = {}
    supplied = list(STILLS)
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words and all(word.startswith("-") for word in words):
        words.insert(0, "all")
    for word in words:
        name, _, factor = word.removeprefix("-").partition(":")
        if word.startswith("-"):
            if name in (*STILLS, SUPPLIED):
                supplied = [] if name == SUPPLIED else [s for s in supplied if s != name]
                continue
            for family in _named(name, text):
                weights.pop(family, None)
            continue
        for family in _named(name, text):
            weights[family] = FAMILIES[family].weight * _number(factor, word)
    if not weights:
        raise UsageError(f"--families '{text}' leaves no family. Known: all, {', '.join((*GROUPS, *FAMILIES))}.")
    total = sum(weights.values())
    return Choice({name: weights[name] / total for name in FAMILIES if name in weights}, tuple(supplied))


def _named(name: str, text: str) -> tuple[str, ...]:
    if name == "all":
        return tuple(FAMILIES)
    if name in GROUPS:  # before the families: 'parts' and 'warp' are both
        return GROUPS[name]
    if name in FAMILIES:
        return (name,)
    known = ", ".join(dict.fromkeys(("all", *GROUPS, *FAMILIES)))
    extra = ", ".join((*STILLS, SUPPLIED))
    raise UsageError(f"--families '{text}': '{name}' is unknown. Known: {known}; with a minus also {extra}.")


def _number(factor: str, word: str) -> float:
    if not factor:
        return 1.0
    try:
        value = float(factor)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise UsageError(f"--families: the weight of '{word}' is not a number above 0.")
    return value
