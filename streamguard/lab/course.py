"""A short training that stops and goes on: what a search's trials and the replicated nets are trained by.

`lab train` trains one net for long; here many are trained for a little, each as far as it is asked to go. The folder of
a course holds last.pt, written whole or not at all. Batches, dropout and schedule depend on seed and step, so that a
course that was broken off and went on ends as an unbroken one does. One that diverges says so and is over.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import numpy as np
import torch
from torch import nn

from streamguard.frames import F32, U8
from streamguard.lab.model import Ema, normalised

SAVE_EVERY: Final = 50  # steps: what a killed trial loses at most
LOSS: Final = nn.functional.binary_cross_entropy_with_logits


class Batch(NamedTuple):
    """``pictures`` (N, S, S, 3) uint8 RGB; ``labels`` (N,) float32, 1 = fake; ``changed`` (N, S, S) float32: where,
    0..1; NaN where nobody knows."""

    pictures: U8
    labels: F32
    changed: F32 | None = None


class Batches(Protocol):
    """Batch number ``step``."""

    def __getitem__(self, step: int) -> Batch: ...


@dataclass(frozen=True, slots=True)
class Course:
    """The whole way, of which a trial may go a part. ``average``: decay of the averaged net, 0 for none."""

    steps: int
    rate: float = 1e-3
    decay: float = 0.0
    warm_up: int = 0
    cosine: bool = False
    average: float = 0.0
    smoothing: float = 0.0
    mask: float = 0.0  # weight of the second head's loss
    clip: float = 0.0  # norm of the gradient; 0 for no limit
    seed: int = 1

    def rate_at(self, step: int) -> float:
        """Linear warm-up, then flat or half a cosine down to nothing."""
        warm = min(1.0, (step + 1) / max(1, self.warm_up))
        return self.rate * warm * (0.5 * (1 + math.cos(math.pi * step / self.steps)) if self.cosine else 1.0)


class Reached(NamedTuple):
    """``step``: how far the course is. ``losses``: mean training loss of every ``epoch`` steps so far. ``diverged``: in
    words, what stopped being a number; empty if all is well. ``seconds``: of training, all sessions together."""

    step: int
    losses: list[float]
    diverged: str
    seconds: float


class Trainee:
    """One net on its course; made anew, or as far as ``folder`` holds it.

    Args:
        net: takes normalised pictures; one with a method ``both`` has a second head.
        epoch: steps over which a training loss is averaged.
    """

    def __init__(self, net: nn.Module, course: Course, folder: Path, epoch: int) -> None:
        self.net, self.course, self.folder, self.epoch = net, course, folder, epoch
        self._ema = Ema(net, course.average) if course.average else None
        # Adam with decay kept out of the moments is AdamW; without decay the two are one.
        free = [p for p in net.parameters() if p.requires_grad]
        self._optimiser = torch.optim.AdamW(free, lr=course.rate, weight_decay=course.decay)
        self.reached = Reached(0, [], "", 0.0)
        self._sum = 0.0
        if (folder / "last.pt").is_file():
            self._load()

    @property
    def best(self) -> nn.Module:
        """The net that is measured: the averaged one, where there is one."""
        return (self._ema.net if self._ema else self.net).eval()

    def follow(self, batches: Batches, until: int, late: Callable[[], bool] = lambda: False) -> Reached:
        """Go on to step ``until``, or until ``late()``; saved either way."""
        started, before = time.monotonic(), self.reached.seconds
        self.net.train()
        step, losses, diverged, _ = self.reached
        while step < until and not diverged and not late():
            loss = self._step(step, batches[step])
            step += 1
            self._sum += loss
            if not math.isfinite(loss):
                diverged = f"the loss is {loss} at step {step}"
            if step % self.epoch == 0:
                losses = [*losses, self._sum / self.epoch]
                self._sum = 0.0
            self.reached = Reached(step, losses, diverged, before + time.monotonic() - started)
            if step % SAVE_EVERY == 0:
                self._save()
        self._save()
        return self.reached

    def _step(self, step: int, batch: Batch) -> float:
        course = self.course
        torch.manual_seed(course.seed * 1_000_003 + step)  # dropout of a resumed course = of an unbroken one
        for group in self._optimiser.param_groups:
            group["lr"] = course.rate_at(step)
        x, labels = normalised(batch.pictures), torch.from_numpy(batch.labels)
        targets = labels * (1 - course.smoothing) + course.smoothing / 2
        if course.mask and batch.changed is not None:
            logits, where = self.net.both(x)
            loss = LOSS(logits[:, 0], targets) + course.mask * located(where, torch.from_numpy(batch.changed))
        else:
            loss = LOSS(self.net(x)[:, 0], targets)
        self._optimiser.zero_grad()
        loss.backward()
        if course.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), course.clip)
        self._optimiser.step()
        if self._ema is not None:
            self._ema.update(self.net, step)
        return float(loss.detach())

    def _save(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        state = {"course": asdict(self.course), "reached": tuple(self.reached), "sum": self._sum,
                 "net": self.net.state_dict(), "optimiser": self._optimiser.state_dict(),
                 "ema": self._ema.net.state_dict() if self._ema else None}  # fmt: skip
        torch.save(state, self.folder / "last.pt.part")
        os.replace(self.folder / "last.pt.part", self.folder / "last.pt")

    def _load(self) -> None:
        state: dict[str, Any] = torch.load(self.folder / "last.pt", map_location="cpu", weights_only=True)
        self.net.load_state_dict(state["net"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._ema is not None:
            self._ema.net.load_state_dict(state["ema"])
        self.reached, self._sum = Reached(*state["reached"]), float(state["sum"])


def located(where: torch.Tensor, changed: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of (N, 1, h, w) logits against the mean of ``changed`` over each of their cells; NaN is no
    target."""
    cells = nn.functional.adaptive_avg_pool2d(changed[:, None], where.shape[-2:])
    known = torch.isfinite(cells)
    loss = LOSS(where, torch.where(known, cells, 0.0), reduction="none")
    return (loss * known).sum() / known.sum().clamp(min=1)


def changed_in(couple: U8, levels: float = 24.0) -> F32:
    """(S, S) float32, 0..1: where the fake of a couple (2, S, S, 3) uint8 differs from its partner, full at ``levels``.

    Both went through one chain, whose codec spreads small differences: the first sixth does not count.
    """
    apart = np.abs(couple[0].astype(np.float32) - couple[1]).max(axis=-1)
    return np.asarray(np.clip(apart / levels - 1 / 6, 0, 1), np.float32)
