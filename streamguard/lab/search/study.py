"""The trials of a search: who draws them, where they are kept, and whose turn it is.

A study is searched in brackets: one for each sampler and seed, all of the same budget, none of which sees another's
trials. They lie in one SQLite file, ``study.db``. Several processes may work on it, on one machine: a trial belongs to
who holds the lock of its file in ``locks/``. A process that is killed loses its locks; the next one that comes by takes
the trial up where its last checkpoint stands.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, get_args

import numpy as np
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DatabaseError

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab.search.rules import fewest
from streamguard.lab.search.spaces import Space

Sampler = Literal["tpe", "random"]
SAMPLERS: Final[tuple[Sampler, ...]] = get_args(Sampler)
DATABASE: Final = "study.db"
REASON: Final = "reason"  # of a trial that did not finish the last rung
REFUSED: Final = "refused"  # marks a design that is beyond the limits; it took nothing of the budget
MOST_REFUSED: Final = 20  # designs beyond the limits for each trial wanted: then the bracket is over
_PATIENCE: Final = 60  # seconds that a process waits for another one's write
_STARTUP: Final = 10  # trials that TPE draws at random before it has seen enough


@dataclass(frozen=True, slots=True)
class Bracket:
    """Trials of one study that one sampler draws."""

    study: str
    sampler: Sampler
    seed: int

    @property
    def name(self) -> str:
        """As Optuna's file knows it."""
        return f"{self.study}/{self.sampler}/{self.seed}"


class Lock:
    """A file that one process holds at a time; its death lets go."""

    def __init__(self, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)

    def take(self, *, wait: bool = True) -> bool:
        """Whether it is held now; without ``wait`` only if nobody else holds it."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Let go."""
        os.close(self._handle)

    def __enter__(self) -> Self:
        self.take()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Claim:
    """A trial that this process works on, until the block ends. ``space``: what its design is drawn from."""

    def __init__(self, study: optuna.Study, trial: Trial, space: Space, bracket: Bracket, lock: Lock) -> None:
        self.study, self.trial, self.space, self.bracket = study, trial, space, bracket
        self._lock = lock

    @property
    def known(self) -> FrozenTrial:
        """What the file holds of it."""
        return self.study.get_trials(deepcopy=False)[self.trial.number]

    def others(self, rung: int) -> list[float]:
        """Scores of the bracket's other trials at ``rung``."""
        trials = self.study.get_trials(deepcopy=False)
        return [t.intermediate_values[rung] for t in trials if t.number != self.trial.number
                and rung in t.intermediate_values]  # fmt: skip

    def finish(self, state: TrialState, score: float | None = None, reason: str = "") -> None:
        """The trial is over."""
        if reason:
            self.trial.set_user_attr(REASON, reason)
        self.study.tell(self.trial, score, state)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._lock.close()


class Studies:
    """All brackets of a search, in ``out/study.db``.

    Args:
        spaces: by the study's name.
        trials: wanted in each bracket, without those refused before training.

    Raises:
        UsageError: the file holds a search of another space.
        InputUnreadable: the file is damaged, or no database.
    """

    def __init__(self, out: Path, spaces: Mapping[str, Space], brackets: Sequence[Bracket], trials: int, *,
                 maximise: bool) -> None:  # fmt: skip
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._out, self._spaces, self._trials = out, spaces, trials
        self.brackets = {bracket.name: bracket for bracket in brackets}
        url = f"sqlite:///{out.resolve() / DATABASE}"
        try:
            with Lock(out / "locks" / "search"):  # the first one makes the tables
                storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": _PATIENCE}})
                self.of = {name: self._opened(storage, bracket, maximise) for name, bracket in self.brackets.items()}
        except DatabaseError as error:
            raise InputUnreadable(
                f"'{out / DATABASE}' is damaged, or no database of a search. Begin again in another folder."
            ) from error

    def _opened(self, storage: optuna.storages.BaseStorage, bracket: Bracket, maximise: bool) -> optuna.Study:
        direction: Literal["maximize", "minimize"] = "maximize" if maximise else "minimize"
        others = [one.study_name for one in optuna.get_all_study_summaries(storage, include_best_trial=False)]
        foreign = sorted({name.rsplit("/", 2)[0] for name in others} - set(self._spaces))
        if foreign:
            raise UsageError(
                f"'{self._out}' holds a search of the space '{foreign[0]}', not of {', '.join(self._spaces)}. "
                "Use its own space, or another folder."
            )
        study = optuna.create_study(storage=storage, study_name=bracket.name, direction=direction, load_if_exists=True)
        fingerprint = self._spaces[bracket.study].fingerprint
        told = study.user_attrs.get("space")
        if told is None:
            study.set_user_attr("space", fingerprint)
        elif told != fingerprint:
            raise UsageError(
                f"'{self._out}' was searched in another form of the space '{bracket.study}' ({told}, now "
                f"{fingerprint}): its parameters have changed since. Use another folder."
            )
        return study

    def claim(self) -> Claim | None:
        """The next trial to work on: one that somebody left, or a new one of the bracket whose turn it is; None if
        there is nothing left to begin."""
        with Lock(self._out / "locks" / "search"):
            for name, study in self.of.items():
                for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                    lock = self._lock(name, left.number)
                    if lock.take(wait=False):
                        return self._claim(name, Trial(study, left._trial_id), lock)
                    lock.close()
            open_ones = {name: count for name in self.of if (count := self._begun(name)) < self._trials}
            open_ones = {name: count for name, count in open_ones.items() if not self._hopeless(name)}
            if not open_ones:
                return None
            name = fewest(open_ones)
            study = self.of[name]
            study.sampler = self._sampler(self.brackets[name], len(study.get_trials(deepcopy=False)))
            trial = study.ask()
            lock = self._lock(name, trial.number)
            lock.take()
            return self._claim(name, trial, lock)

    def trials(self, name: str) -> list[FrozenTrial]:
        """All of a bracket, by number."""
        return self.of[name].get_trials(deepcopy=False)

    def _claim(self, name: str, trial: Trial, lock: Lock) -> Claim:
        bracket = self.brackets[name]
        return Claim(self.of[name], trial, self._spaces[bracket.study], bracket, lock)

    def _lock(self, name: str, number: int) -> Lock:
        return Lock(self._out / "locks" / f"{name.replace('/', '.')}.{number}")

    def _begun(self, name: str) -> int:
        return sum(REFUSED not in trial.user_attrs for trial in self.trials(name))

    def _hopeless(self, name: str) -> bool:
        return sum(REFUSED in trial.user_attrs for trial in self.trials(name)) >= MOST_REFUSED * self._trials

    def _sampler(self, bracket: Bracket, number: int) -> optuna.samplers.BaseSampler:
        """Made anew for each trial, seeded by its number: who asks, and after which break, changes nothing."""
        of = (bracket.seed, number, SAMPLERS.index(bracket.sampler))
        seed = int(np.random.SeedSequence(of).generate_state(1)[0])  # neighbours' streams have nothing in common
        if bracket.sampler == "random":
            return optuna.samplers.RandomSampler(seed)
        startup = min(_STARTUP, max(2, self._trials // 3))
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=startup)
