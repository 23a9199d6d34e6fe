"""What a net costs: milliseconds a face on one core, by OpenVINO, told apart from what else the machine does.

A single timing on a shared machine is off by a factor. So a net is timed in turns with a reference whose cost does not
change, EfficientNet-Lite0 at 176 px: whatever slows the machine slows both, and the median of the ratios stays. The
reference's own time is taken once a search, at its least disturbed.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from torch import nn

from streamguard.lab.export import export
from streamguard.lab.model import build
from streamguard.lab.search.timing import ROUNDS, Model, timed

REFERENCE_SIZE: Final = 176


def exported(net: nn.Module, size: int) -> Model:
    """The net as it would be served.

    Raises:
        UsageError: it does not export.
    """
    with TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(net, file, size)
        return Model(file.read_bytes(), size)


class Stopwatch:
    """Times nets against the reference. ``reference_ms``: what it takes here; measured if not given."""

    def __init__(self, reference_ms: float | None = None, rounds: int = ROUNDS) -> None:
        self._reference = exported(build(pretrained=False, size=REFERENCE_SIZE), REFERENCE_SIZE)
        self.rounds = rounds
        if reference_ms is None:
            reference_ms = timed(self._reference, self._reference, rounds).reference_ms
        self.reference_ms = reference_ms

    def __call__(self, net: nn.Module, size: int) -> tuple[float, float]:
        """(ratio to the reference, milliseconds a face).

        Raises:
            UsageError: the net does not export.
            InputUnreadable: it can't be compiled or run.
        """
        found = timed(exported(net, size), self._reference, self.rounds).ratio
        return found, found * self.reference_ms
