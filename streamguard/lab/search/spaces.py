"""The spaces that are searched: what may be chosen, and what depends on what. Pure: no torch, no Optuna in here.

``paper2025`` is the space of S. Banerjee et al., "Neural Architecture Search Based Deepfake Detection Model using
YOLO", IJARSCT 5(1), 2025: AutoKeras's image block, a kind of net, normalised or not, augmented or not.

``edge`` are two studies that share no trial, since ImageNet weights would decide between them: ``edge/pretrained``,
what to keep of EfficientNet-Lite0, and ``edge/scratch``, small nets from nothing.

A design is a point of a space: its values by name, and as one line of JSON what ``lab train`` builds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol

from streamguard.errors import UsageError

Value = str | int | float | bool
MASK: Final = (0.0, 0.25, 1.0)  # weight of the auxiliary head that says where a face was changed
AUGMENT: Final = ("forensic", "forensic+cutout", "paper")


class Suggester(Protocol):
    """What a trial of Optuna offers; anything that draws will do."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of ``choices``."""
        ...

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from ``low`` to ``high``."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One of ``values``; asked for only where the parameter ``when`` has one of the values ``among``."""

    name: str
    values: tuple[Value, ...]
    when: str = ""
    among: tuple[Value, ...] = ()

    def suggest(self, trial: Suggester) -> Value:
        """What ``trial`` takes."""
        value: Value = trial.suggest_categorical(self.name, list(self.values))
        return value

    def allows(self, value: Any) -> bool:
        """Whether it is one of the values, and of their type."""
        return any(type(value) is type(one) and value == one for one in self.values)

    def words(self) -> str:
        """What is allowed."""
        return ", ".join(map(str, self.values))


@dataclass(frozen=True, slots=True)
class Range:
    """A number from ``low`` to ``high``, its logarithm drawn evenly."""

    name: str
    low: float
    high: float
    when: str = ""
    among: tuple[Value, ...] = ()

    def suggest(self, trial: Suggester) -> Value:
        """What ``trial`` takes."""
        return trial.suggest_float(self.name, self.low, self.high, log=True)

    def allows(self, value: Any) -> bool:
        """Whether it is a number within."""
        return isinstance(value, float) and self.low <= value <= self.high

    def words(self) -> str:
        """What is allowed."""
        return f"{self.low:g} to {self.high:g}"


Parameter = Choice | Range


@dataclass(frozen=True, slots=True)
class Design:
    """A point of a space."""

    space: str
    values: Mapping[str, Value]

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @property
    def text(self) -> str:
        """One line of JSON; the same design gives the same line."""
        return json.dumps({"space": self.space, **self.values}, sort_keys=True)

    @property
    def size(self) -> int:
        """Side of the net's input, px."""
        return int(self.values.get("size", PAPER_SIZE))


@dataclass(frozen=True, slots=True)
class Space:
    """``parameters`` in the order in which they are asked for: a condition speaks of one before."""

    name: str
    parameters: tuple[Parameter, ...]

    def draw(self, trial: Suggester) -> Design:
        """A design whose values ``trial`` chose."""
        values: dict[str, Value] = {}
        for parameter in self.parameters:
            if _asked(parameter, values):
                values[parameter.name] = parameter.suggest(trial)
        return Design(self.name, MappingProxyType(values))

    def design(self, values: Mapping[str, Any]) -> Design:
        """The design of these values.

        Raises:
            UsageError: a value is missing, not allowed, or of no parameter that is asked for.
        """
        rest = dict(values)
        for parameter in self.parameters:
            if not _asked(parameter, values):
                continue
            if parameter.name not in rest:
                raise UsageError(f"a design of '{self.name}' lacks '{parameter.name}' ({parameter.words()}).")
            if not parameter.allows(value := rest.pop(parameter.name)):
                told = f"'{parameter.name}' can't be {value!r}. Allowed: {parameter.words()}."
                raise UsageError(f"a design of '{self.name}': {told}")
        if rest:
            raise UsageError(f"a design of '{self.name}' has no '{', '.join(sorted(rest))}'.")
        return Design(self.name, MappingProxyType(dict(values)))

    @property
    def count(self) -> int:
        """Designs there are, a range counted as one value."""
        partial: list[tuple[dict[str, Value], int]] = [({}, 1)]
        for parameter in self.parameters:
            decides = any(other.when == parameter.name for other in self.parameters)
            grown: list[tuple[dict[str, Value], int]] = []
            for values, ways in partial:
                if not _asked(parameter, values) or isinstance(parameter, Range):
                    grown.append((values, ways))
                elif decides:
                    grown += [({**values, parameter.name: value}, ways) for value in parameter.values]
                else:
                    grown.append((values, ways * len(parameter.values)))
            partial = grown
        return sum(ways for _, ways in partial)

    @property
    def fingerprint(self) -> str:
        """Changes with every parameter, value and condition: a study belongs to one fingerprint."""
        return hashlib.sha256(repr((self.name, self.parameters)).encode()).hexdigest()[:16]


def _asked(parameter: Parameter, values: Mapping[str, Any]) -> bool:
    return not parameter.when or values.get(parameter.when) in parameter.among


PAPER_SIZE: Final = 128  # px, as the paper's nets have
PAPER: Final = Space("paper2025", (
    Choice("block", ("vanilla", "resnet", "xception", "efficient")),
    Choice("normalise", (True, False)),
    Choice("augment", (True, False)),
))  # fmt: skip

PRETRAINED: Final = Space("edge/pretrained", (
    Choice("keep", (4, 5, 6, 7)),  # stages of EfficientNet-Lite0; 7 is all of it, with its last convolution
    Choice("size", (112, 128, 160, 176)),
    Choice("stem", ("rgb", "srm", "npr")),
    Choice("pool", ("mean", "mean+max", "gem")),
    Choice("frozen", (0, 2, 3)),  # first stages, held still with the stem
    Choice("dropout", (0.0, 0.2, 0.4)),
    Choice("mask", MASK),
    Choice("augment", AUGMENT),
    Range("rate", 1e-4, 1e-3),  # beyond, ImageNet is forgotten
))  # fmt: skip

SCRATCH: Final = Space("edge/scratch", (
    Choice("size", (96, 112, 128, 160)),
    Choice("stem", ("rgb", "srm", "npr", "bayar")),
    Choice("stem_stride", (1, 2)),
    Choice("late", (True, False)),  # the first stage keeps the stem's resolution
    Choice("block", ("vanilla", "resnet", "xception", "mbconv", "dw7")),
    Choice("stages", (3, 4, 5)),
    Choice("depth", (1, 2, 3)),  # blocks a stage
    Choice("width", (12, 16, 24, 32)),  # channels of the stem
    Choice("growth", (1.5, 2.0)),  # of the channels from stage to stage
    Choice("kernel", (3, 5), "block", ("vanilla", "resnet", "xception", "mbconv")),
    Choice("expand", (2, 4, 6), "block", ("mbconv",)),
    Choice("squeeze", (True, False), "block", ("mbconv",)),
    Choice("activation", ("relu", "hardswish")),
    Choice("pool", ("mean", "mean+max", "gem")),
    Choice("dropout", (0.0, 0.2, 0.4)),
    Choice("mask", MASK),
    Choice("input", ("fixed", "picture", "unit")),  # normalised by constants, by the picture itself, or 0..1
    Choice("augment", AUGMENT),
    Choice("smoothing", (0.0, 0.05)),
    Choice("average", (True, False)),
    Range("rate", 3e-4, 3e-3),
    Range("decay", 1e-5, 1e-2),
))  # fmt: skip

SPACES: Final[Mapping[str, tuple[Space, ...]]] = MappingProxyType(
    {"paper2025": (PAPER,), "edge": (PRETRAINED, SCRATCH)}
)
"""By the name on the command line: the studies, each with a space of its own."""

_BY_NAME: Final = {space.name: space for studies in SPACES.values() for space in studies}


def read_design(text: str) -> Design:
    """The design that a line of JSON holds, as :attr:`Design.text` writes it.

    Raises:
        UsageError: no JSON object, an unknown space, or values that the space does not have.
    """
    try:
        values = json.loads(text)
    except ValueError as error:
        raise UsageError(f"a design is a line of JSON; this is none: {error}.") from error
    if not isinstance(values, dict) or values.get("space") not in _BY_NAME:
        raise UsageError(f"a design names its space: {', '.join(_BY_NAME)}. This one names none of them.")
    return _BY_NAME[values.pop("space")].design(values)
