"""One trial: a design is drawn, weighed, trained from rung to rung, and told what became of it."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from optuna.trial import TrialState
from torch import nn

from streamguard.errors import UsageError
from streamguard.lab.course import Trainee
from streamguard.lab.search.material import Material
from streamguard.lab.search.nets import Searched, build_design, parameters_of
from streamguard.lab.search.rules import LIMITS, Halving, Limits
from streamguard.lab.search.spaces import Design
from streamguard.lab.search.study import REFUSED, Claim
from streamguard.lab.search.zerocost import proxies

Timer = Callable[[nn.Module, int], tuple[float, float]]
"""(ratio to the reference, milliseconds a face) of a net at a size."""
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """What every trial of a study needs. ``late``: whether the budget is spent."""

    material: Material
    halving: Halving
    timer: Timer
    folder: Path
    late: Callable[[], bool] = lambda: False
    limits: Limits = LIMITS
    pretrained: bool = True

    def work_off(self, claim: Claim) -> bool:
        """Take the trial as far as it goes; False if the budget ended before it did, and it waits to be gone on
        with."""
        design = claim.space.draw(claim.trial)
        folder = self.folder / claim.bracket.name.replace("/", ".") / f"{claim.trial.number:04d}"
        course = self.material.course(design, self.halving.rungs[-1])
        torch.manual_seed(course.seed)  # the same design begins with the same weights, whoever drew it
        net = build_design(design, pretrained=self.pretrained)
        if not self._weighed(claim, design, net):
            return True
        trainee = Trainee(net, course, folder, self.material.epoch)
        done = self._climb(claim, design, trainee)
        if done and folder.is_dir():
            shutil.rmtree(folder)  # its figures stay; the winner is trained anew
        return done

    def _weighed(self, claim: Claim, design: Design, net: Searched) -> bool:
        """Whether the design is within the limits; what it weighs is noted once."""
        told: dict[str, Any] = claim.known.user_attrs
        if "ms" in told:
            return True
        try:
            ratio, ms = self.timer(net, design.size)
        except UsageError as error:
            claim.finish(TrialState.FAIL, reason=f"it does not export: {error}")
            return False
        facts = {"ratio": ratio, "ms": ms, **proxies(net, design.size, self.material.some(design.size))}
        for name, value in facts.items():
            if math.isfinite(value):
                claim.trial.set_user_attr(name, round(value, 6))
        beyond = self.limits.violations(ms, parameters_of(net))
        for name, by in beyond.items():
            claim.trial.set_constraint(name, by)
        words = [name for name, by in beyond.items() if by > 0]
        if words:
            claim.trial.set_user_attr(REFUSED, True)
            claim.finish(TrialState.PRUNED, reason=f"beyond the limit of {' and '.join(words)}: {ms:.2f} ms")
        return not words

    def _climb(self, claim: Claim, design: Design, trainee: Trainee) -> bool:
        known = claim.known.intermediate_values
        batches = self.material.batches(design)
        for rung in self.halving.rungs:
            score = known.get(rung)
            if score is None:
                until = rung * self.material.epoch
                reached = trainee.follow(batches, until, self.late)
                if reached.diverged:
                    return self._diverged(claim, reached.diverged)
                if reached.step < until:
                    return False
                measured = self.material.measure(trainee.best, design)
                if not math.isfinite(measured.score):
                    return self._diverged(claim, f"a score is no number after {rung} epochs")
                score = measured.score
                for name, value in {**measured.beside, "epochs": rung, "seconds": reached.seconds}.items():
                    claim.trial.set_user_attr(name, round(value, 5))
                claim.trial.report(score, rung)
            told = f"{claim.bracket.name} {claim.trial.number}: {score:.4f} after {rung} epochs"
            _LOG.info("%s", told)
            if rung == self.halving.rungs[-1]:
                claim.finish(TrialState.COMPLETE, score)
            elif not self.halving.goes_on(score, claim.others(rung)):
                claim.finish(TrialState.PRUNED, reason=f"not in the best 1/{self.halving.eta} after {rung} epochs")
                return True
        return True

    @staticmethod
    def _diverged(claim: Claim, words: str) -> bool:
        _LOG.warning("%s %d diverged: %s", claim.bracket.name, claim.trial.number, words)
        claim.finish(TrialState.FAIL, reason=f"diverged: {words}")
        return True
