"""The two models of the stage, and the line in front of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from streamguard.decision.calibration import Temperature
from streamguard.frames import U8
from streamguard.inference.backend import Backend, Completion
from streamguard.metrics import Metrics
from streamguard.vision.batcher import Batcher
from streamguard.vision.detector import FaceDecoder

Item = TypeVar("Item")


class Models(NamedTuple):
    """The two compiled models and what turns their raw output into faces and logits."""

    detector: Backend
    decoder: FaceDecoder
    pad: int
    size: tuple[int, int]
    classifier: Backend
    calibration: Temperature


class ModelLine(Generic[Item]):
    """A backend with its batcher and what is in flight; the inference thread's alone.

    ``name`` is the label ``stage`` of its metrics, ``wait`` the batcher's.
    """

    def __init__(self, name: str, backend: Backend, wait: float, metrics: Metrics) -> None:
        self.batcher: Batcher[Item] = Batcher(wait)
        self._backend = backend
        self._flying = 0
        self._runs = (backend.name, backend.variant)
        self._sizes = metrics.batch_size.labels(name)
        self._durations = metrics.stage_duration.labels(name)
        self._depth = metrics.queue_depth.labels(name)
        self._told = 0

    def take(self, now: float, enough: int | None = None) -> list[Item]:
        """The batch to submit now; nothing while every slot is in flight or company is waited for.

        ``enough``: so many are all that can come.
        """
        if self._flying >= self._backend.slots:
            return []
        return self.batcher.take(now, self._backend.preferred_batch, enough)

    @property
    def flying(self) -> int:
        """Batches in flight."""
        return self._flying

    @property
    def due(self) -> float | None:
        """When :meth:`take` should be tried again though nothing else happens; None if that would be in vain."""
        return self.batcher.due if self._flying < self._backend.slots else None

    def submit(self, pictures: Sequence[U8], token: object) -> None:
        """Start a batch of (H, W, 3) uint8 pictures."""
        self._flying += 1
        self._sizes.observe(len(pictures))
        self._backend.submit(pictures[0][None] if len(pictures) == 1 else np.stack(pictures), token)

    def completed(self, done: Completion) -> None:
        """A batch is back."""
        self._flying -= 1
        self._durations.observe(done.seconds)

    def tell(self) -> None:
        """Show what waits."""
        if len(self.batcher) != self._told:
            self._told = len(self.batcher)
            self._depth.set(self._told)

    def changed(self) -> bool:
        """Whether another backend works than the last time this was asked."""
        before, self._runs = self._runs, (self._backend.name, self._backend.variant)
        return self._runs != before
