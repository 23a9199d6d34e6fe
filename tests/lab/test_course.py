"""Courses that stop and go on as if they had not, and that say when they diverge."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("timm")

import torch
from torch import nn

from streamguard.lab import course as module
from streamguard.lab.course import Batch, Course, Trainee, changed_in, located

pytestmark = pytest.mark.lab


class Bright:
    """Bright pictures are fake."""

    def __getitem__(self, step):
        rng = np.random.default_rng(step)
        labels = rng.integers(0, 2, 8).astype(np.float32)
        pictures = rng.integers(0, 100, (8, 4, 4, 3)) + 120 * labels.astype(np.int64)[:, None, None, None]
        return Batch(pictures.astype(np.uint8), labels)


def net():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(48, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 1))


COURSE = Course(steps=12, rate=1e-2, warm_up=3, cosine=True, average=0.9)


def test_a_broken_course_ends_as_an_unbroken_one(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SAVE_EVERY", 1)
    whole = Trainee(net(), COURSE, tmp_path / "whole", epoch=4)
    assert whole.follow(Bright(), 12).step == 12
    first = Trainee(net(), COURSE, tmp_path / "broken", epoch=4)
    count = iter(range(100))
    assert first.follow(Bright(), 12, late=lambda: next(count) >= 5).step == 5
    second = Trainee(net(), COURSE, tmp_path / "broken", epoch=4)
    assert second.reached.step == 5
    reached = second.follow(Bright(), 12)
    assert reached.losses == pytest.approx(whole.reached.losses)
    assert len(reached.losses) == 3
    for mine, theirs in zip(second.best.parameters(), whole.best.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_a_course_learns_and_the_average_is_what_is_measured(tmp_path):
    trainee = Trainee(net(), replace(COURSE, steps=80, rate=3e-3), tmp_path, epoch=20)
    losses = trainee.follow(Bright(), 80).losses
    assert losses[-1] < losses[0] / 2
    assert trainee.best is not trainee.net
    assert Trainee(net(), replace(COURSE, average=0.0), tmp_path / "none", 4).best is not None


def test_what_diverges_says_so_and_is_over(tmp_path):
    trainee = Trainee(net(), replace(COURSE, rate=float("inf"), warm_up=0, cosine=False), tmp_path, epoch=4)
    reached = trainee.follow(Bright(), 12)
    assert reached.step < 12
    assert reached.diverged.startswith("the loss is nan at step")
    assert Trainee(net(), trainee.course, tmp_path, 4).follow(Bright(), 12) == reached  # nothing more is tried


def test_the_rate_warms_up_and_falls():
    rates = [replace(COURSE, steps=100, warm_up=10).rate_at(step) for step in (0, 9, 50, 100)]
    assert rates == pytest.approx([1e-3, 1e-2 * 0.5 * (1 + math.cos(0.09 * math.pi)), 5e-3, 0.0], abs=1e-6)
    assert Course(steps=10, rate=0.5).rate_at(9) == 0.5


def test_the_second_head_learns_where_and_not_what_nobody_knows():
    where = torch.zeros(2, 1, 2, 2, requires_grad=True)
    changed = torch.zeros(2, 4, 4)
    changed[0, :2, :2] = 1
    changed[1] = float("nan")
    loss = located(where, changed)
    assert loss.item() == pytest.approx(math.log(2))
    loss.backward()
    assert where.grad[0, 0, 0, 0] < 0 < where.grad[0, 0, 1, 1]
    assert where.grad[1].abs().max() == 0
    assert located(where, torch.full((2, 4, 4), float("nan"))).item() == 0


def test_a_couple_tells_where_it_was_changed():
    couple = np.full((2, 8, 8, 3), 100, np.uint8)
    couple[1, :4, :4] += 40
    couple[1, 6:, 6:] += 2  # what a codec does
    where = changed_in(couple)
    assert where[:4, :4].min() == 1
    assert where[4:].max() == 0


class Headed(nn.Module):
    """A net with a second head."""

    def __init__(self):
        super().__init__()
        self.body, self.one, self.two = nn.Conv2d(3, 4, 1), nn.Linear(4, 1), nn.Conv2d(4, 1, 1)

    def both(self, x):
        seen = self.body(x)
        return self.one(seen.mean((2, 3))), self.two(seen)

    def forward(self, x):
        return self.both(x)[0]


class Located(Bright):
    def __getitem__(self, step):
        batch = super().__getitem__(step)
        return batch._replace(changed=np.tile(batch.labels[:, None, None], (1, 4, 4)))


@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_second_head_is_trained_by_its_weight(tmp_path, weight):
    torch.manual_seed(0)
    headed = Headed()
    before = headed.two.weight.clone()
    Trainee(headed, replace(COURSE, mask=weight), tmp_path, 4).follow(Located(), 4)
    assert torch.equal(before, headed.two.weight) == (weight == 0)
