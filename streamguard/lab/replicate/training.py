"""A net of the paper on one cut of the pictures, epoch by epoch, as its figures 4 and 5 follow it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import torch
from torch import nn

from streamguard.errors import UsageError
from streamguard.lab.course import Course, Trainee
from streamguard.lab.ledger import Ledger
from streamguard.lab.model import logits
from streamguard.lab.pictures import PictureBatches
from streamguard.lab.replicate.protocol import Cut, accuracy, figures
from streamguard.lab.search.nets import build_design
from streamguard.lab.search.spaces import PAPER, Design

LOSS: Final = nn.functional.binary_cross_entropy_with_logits


@dataclass(frozen=True, slots=True)
class Recipe:
    """The paper's: Adam, batches of 8, 20 epochs, 128 px. ``pretrained``: the `efficient` net starts from ImageNet."""

    size: int = 128
    epochs: int = 20
    batch: int = 8
    pretrained: bool = True


def follow(ledger: Ledger, name: str, block: str, halves: Cut, recipe: Recipe) -> dict[str, Any]:
    """``figures`` on the test side after the last epoch, and ``curves``: of each epoch, accuracy and loss of both
    sides.

    Raises:
        UsageError: the training diverged.
    """
    design = PAPER.design({"block": block, "normalise": True, "augment": False})
    net = build_design(_sized(design, recipe.size), pretrained=recipe.pretrained)
    batches = PictureBatches(halves.train, recipe.batch, 1, augment=False)
    folder = ledger.out / "nets" / name.replace("/", "-").replace(", ", "-").replace(" ", "-")
    course = Course(recipe.epochs * batches.epoch, rate=1e-3)
    trainee = Trainee(net, course, folder, batches.epoch)
    lines = [
        ledger.value(f"{name}/epoch {epoch}", partial(_epoch, trainee, batches, halves, epoch))
        for epoch in range(1, recipe.epochs + 1)
    ]
    scores = ledger.arrays(f"{name}/scores", lambda: {"of": logits(trainee.best, halves.test.pictures).numpy()})["of"]
    measured = ledger.value(f"{name}/figures", lambda: figures(scores, halves.test.label, halves.test.group))
    return {"figures": measured, "curves": {key: [line[key] for line in lines] for key in lines[0]}}


def _sized(design: Design, size: int) -> Design:
    return Design(design.space, {**design.values, "size": size})


def _epoch(trainee: Trainee, batches: PictureBatches, halves: Cut, epoch: int) -> dict[str, float]:
    reached = trainee.follow(batches, epoch * batches.epoch)
    if reached.diverged:
        raise UsageError(f"training in '{trainee.folder}' diverged: {reached.diverged}. Use another --seed.")
    found: dict[str, float] = {}
    for side, of in (("training", halves.train), ("test", halves.test)):
        scores = logits(trainee.best, of.pictures)
        loss = float(LOSS(scores.double(), torch.from_numpy(of.label.astype(np.float64))))
        found |= {f"{side} accuracy": round(accuracy(scores.double().numpy(), of.label.astype(np.float64)), 4),
                  f"{side} loss": round(loss, 4)}  # fmt: skip
    return found
