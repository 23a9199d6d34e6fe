"""``streamguard lab search``: nets searched for on the machine that will run them.

    streamguard lab search --space paper2025 --trials 5 --epochs 10 --out runs/paper2025
    streamguard lab search --space edge --trials 54 --epochs 9 --budget-minutes 360 --processes 2 --out runs/edge
    streamguard lab search --space edge --trials 54 --epochs 9 --out runs/edge --resume       # after a break, or beside
    streamguard lab train --design runs/edge/winner.json --out runs/nas ...       # the rest of the road: docs/lab.md

What is searched is said in :mod:`streamguard.lab.search.spaces`, by which rules in :mod:`streamguard.lab.search.rules`.
The run folder holds config.json, study.db, trials.csv, history.png, pareto.png, importances.png, metrics.json and
winner.json; every file but study.db is written anew whenever the command ends, whatever it came to.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import torch
import typer
from rich.console import Console

from streamguard.errors import InputUnreadable, UsageError
from streamguard.inference.processor import processor
from streamguard.lab.course import Trainee
from streamguard.lab.data import FaceStore, build_store
from streamguard.lab.data_plots import save
from streamguard.lab.dataset import Dataset
from streamguard.lab.ledger import Ledger
from streamguard.lab.model import settle_cpu
from streamguard.lab.search import plots, report
from streamguard.lab.search.latency import Stopwatch
from streamguard.lab.search.material import Edge, Material, MaterialConfig, PaperMaterial
from streamguard.lab.search.nets import build_design
from streamguard.lab.search.rules import LIMITS, NO_LIMITS, Halving, Limits
from streamguard.lab.search.spaces import AUGMENT, SPACES, Space, read_design
from streamguard.lab.search.study import Bracket, Lock, Studies
from streamguard.lab.search.timing import ROUNDS
from streamguard.lab.search.trial import Trials

PAPER: Final = "paper2025"
PAPER_EPOCHS: Final = 20  # of the paper's winner, after the search
PAPER_BATCH: Final = 8
SCORE: Final = {"edge": "AUC on families never shown", PAPER: "loss on the 20 %"}


@dataclass(frozen=True, slots=True)
class SearchConfig:
    """``trials``: of a bracket. ``epochs``: of a trial that finishes. ``minutes``: of this session, None for no end.
    ``seeds``: of each sampler. ``rounds``: in which a net's time is taken."""

    space: str = "edge"
    trials: int = 54
    epochs: int = 9
    minutes: float | None = None
    seeds: int = 3
    threads: int = 1
    processes: int = 1
    rounds: int = ROUNDS
    pretrained: bool = True
    material: MaterialConfig = field(default_factory=MaterialConfig)

    @property
    def spaces(self) -> dict[str, Space]:
        """By the study's name. Raises UsageError for an unknown space."""
        if self.space not in SPACES:
            raise UsageError(f"--space '{self.space}' is unknown. Known: {', '.join(SPACES)}.")
        return {space.name: space for space in SPACES[self.space]}

    @property
    def brackets(self) -> list[Bracket]:
        """TPE and random search, each with every seed; the paper's search is one bracket of TPE."""
        if self.space == PAPER:
            return [Bracket(PAPER, "tpe", 1)]
        return [Bracket(study, sampler, seed) for study in self.spaces for seed in range(1, self.seeds + 1)
                for sampler in ("tpe", "random")]  # fmt: skip

    @property
    def halving(self) -> Halving:
        """The paper's trials all run to their end."""
        if self.space == PAPER:
            return Halving((self.epochs,), maximise=False)
        return Halving.of(self.epochs)

    @property
    def limits(self) -> Limits:
        """The paper knows none."""
        return NO_LIMITS if self.space == PAPER else LIMITS

    @property
    def fixed(self) -> dict[str, Any]:
        """What a run folder depends on; trials, minutes and processes may change from session to session."""
        return {"verb": "search", "space": self.space, "epochs": self.epochs, "seeds": self.seeds,
                "pretrained": self.pretrained, **asdict(self.material)}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Session:
    """``reference_ms``: what the reference takes here. ``seconds``: left for the trials, None for no end."""

    reference_ms: float
    seconds: float | None


_DEFAULT: Final = SearchConfig()


def search(  # noqa: PLR0913 - each is an option of the command line
    out: Annotated[Path, typer.Option(help="Run folder, made if absent.")],
    space: Annotated[str, typer.Option(help="paper2025 or edge.")] = _DEFAULT.space,
    trials: Annotated[int, typer.Option(min=1, help="Of each bracket: a study, sampler and seed.")] = _DEFAULT.trials,
    epochs: Annotated[int, typer.Option(min=1, help="Of a trial that reaches the last rung.")] = _DEFAULT.epochs,
    budget_minutes: Annotated[
        float | None, typer.Option(min=0, help="Of this session; what is under way then waits for --resume.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Of each sampler; the paper's space has one.")] = _DEFAULT.seeds,
    processes: Annotated[int, typer.Option(min=1, help="That work on the trials side by side.")] = 1,
    couples: Annotated[
        int, typer.Option(min=4, help="Of a family in training; of paper2025, pictures a label.")
    ] = _DEFAULT.material.couples,
    each: Annotated[int, typer.Option(min=4, help="Held-out faces a source and label.")] = _DEFAULT.material.each,
    seed: Annotated[int, typer.Option(help="Of the data and of every net.")] = 1,
    faces: Annotated[Path | None, typer.Option(help="faces.h5; by default beside --out, made if absent.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of a process.")] = 1,
    resume: Annotated[
        bool, typer.Option(help="Go on with what the run folder holds, also beside a search under way.")
    ] = False,
) -> None:
    """Search a space of nets; trials, plots and the winner's design go into the run folder."""
    batch = PAPER_BATCH if space == PAPER else _DEFAULT.material.batch
    config = SearchConfig(
        space, trials, epochs, budget_minutes, seeds, threads, processes,
        material=MaterialConfig(couples=couples, each=each, batch=batch, seed=seed),
    )  # fmt: skip
    config.spaces  # noqa: B018 - an unknown one is told before the faces are looked for
    store = build_store(Dataset.from_environment(), faces or out.parent / "faces.h5")
    _tell(searched(store, out, config, resume=resume), out)


def searched(store: FaceStore, out: Path, config: SearchConfig, *, resume: bool = False) -> dict[str, Any]:
    """Search, and report; returns what metrics.json holds.

    Raises:
        UsageError: the folder holds another search, or ``resume`` is off and it holds this one; no trial is within the
            limits.
        InputUnreadable: study.db is damaged, or a process of the search failed.
    """
    started = time.monotonic()
    ledger = Ledger(out, config.fixed, resume=resume)
    _opened(out, config)
    reference = _reference_ms(ledger, config)
    material = _prepared(store, out, config)
    left = None if config.minutes is None else 60 * config.minutes - (time.monotonic() - started)
    if config.processes == 1:
        _work(material, out, config, _Session(reference, left))
    else:
        del material  # each process reads its own
        _together(store.path, out, config, _Session(reference, left))
    return _reported(store, out, config, ledger)


def _reference_ms(ledger: Ledger, config: SearchConfig) -> float:
    """Measured once a search."""
    return float(ledger.value("reference_ms", lambda: Stopwatch(rounds=config.rounds).reference_ms))


def _opened(out: Path, config: SearchConfig) -> Studies:
    return Studies(out, config.spaces, config.brackets, config.trials, maximise=config.halving.maximise)


def _prepared(store: FaceStore, out: Path, config: SearchConfig) -> Material:
    """The material, made by the first process that comes by; the others wait for it."""
    cv2.setNumThreads(1)
    settle_cpu(config.threads)
    with Lock(out / "locks" / "material"):
        make = PaperMaterial if config.space == PAPER else Edge
        return make(store, out, config.material, AUGMENT)


def _work(material: Material, out: Path, config: SearchConfig, session: _Session) -> None:
    """Trial after trial, until none is left or the time is over."""
    end = None if session.seconds is None else time.monotonic() + session.seconds
    work = Trials(
        material, config.halving, Stopwatch(session.reference_ms, config.rounds), out / "trials",
        late=lambda: end is not None and time.monotonic() >= end, limits=config.limits, pretrained=config.pretrained,
    )  # fmt: skip
    studies = _opened(out, config)
    while not work.late() and (claim := studies.claim()) is not None:
        with claim:
            if not work.work_off(claim):
                return


def _together(faces: Path, out: Path, config: SearchConfig, session: _Session) -> None:
    """The same by several processes."""
    context = get_context("spawn")  # a fork would inherit OpenMP's locks, and hang
    work = [context.Process(target=_process, args=(faces, out, config, session)) for _ in range(config.processes)]
    for process in work:
        process.start()
    for process in work:
        process.join()
    failed = [str(process.exitcode) for process in work if process.exitcode]
    if failed:
        raise InputUnreadable(
            f"{len(failed)} of {len(work)} processes of the search ended with {', '.join(failed)}; what they said "
            "stands above. Go on with --resume."
        )


def _process(faces: Path, out: Path, config: SearchConfig, session: _Session) -> None:
    """One of several."""
    _work(_prepared(FaceStore(faces), out, config), out, config, session)


def _reported(store: FaceStore, out: Path, config: SearchConfig, ledger: Ledger) -> dict[str, Any]:
    studies = _opened(out, config)
    trials = {bracket: studies.trials(name) for name, bracket in studies.brackets.items()}
    names, maximise = list(config.spaces), config.halving.maximise
    report.written(trials, config.halving, out / "trials.csv")
    importances = {name: report.importances(trials, name, maximise=maximise) for name in names}
    what = SCORE[config.space]
    save(plots.history(trials, names, what, maximise=maximise), out / "history.png")
    save(plots.pareto(trials, names, what, maximise=maximise), out / "pareto.png")
    save(plots.importance_bars(importances), out / "importances.png")
    metrics: dict[str, Any] = {
        "verb": "search", "command": _command(config), "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{processor()}, {config.processes} process(es) of {config.threads} thread(s)",
        "reference_ms": _reference_ms(ledger, config),
        "space": config.space, "score": what, "rungs": list(config.halving.rungs), "brackets": report.counts(trials),
        "importances": importances, "designs": {name: space.count for name, space in config.spaces.items()},
        "difference": {name: report.difference(trials, name, maximise=maximise) for name in names},
        "agreement": {name: report.agreement(trials, name, config.halving) for name in names},
        "proxies": {name: report.known_before(trials, name, config.halving, maximise=maximise) for name in names},
        "left": sum(report.state_of(t) == "under way" for of in trials.values() for t in of),
    }  # fmt: skip
    if any(report.finished(trials, name) for name in names):
        metrics |= report.chosen(trials, names, config.spaces, maximise=maximise, limits=config.limits)
        (out / "winner.json").write_text(metrics["design"] + "\n", encoding="utf-8")
        if config.space == PAPER and not metrics["left"]:
            metrics["final"] = ledger.value("final", lambda: _final(store, out, config, metrics["design"]))
    ledger.write(metrics)
    return metrics


def _final(store: FaceStore, out: Path, config: SearchConfig, text: str) -> dict[str, float]:
    """The paper's winner, trained anew for twenty epochs: loss, accuracy on the 20 %, and AUC on unseen recordings."""
    design = read_design(text)
    material = _prepared(store, out, config)
    course = material.course(design, PAPER_EPOCHS)
    torch.manual_seed(course.seed)
    net = build_design(design, pretrained=config.pretrained)
    trainee = Trainee(net, course, out / "final", material.epoch)
    reached = trainee.follow(material.batches(design), PAPER_EPOCHS * material.epoch)
    if reached.diverged:
        raise UsageError(f"the winner diverged when it was trained for {PAPER_EPOCHS} epochs: {reached.diverged}.")
    measured = material.measure(trainee.best, design)
    return {"loss": round(measured.score, 4), **{name: round(value, 4) for name, value in measured.beside.items()}}


def _command(config: SearchConfig) -> str:
    sizes = f"--couples {config.material.couples} --each {config.material.each}"
    return f"streamguard lab search --space {config.space} --trials {config.trials} --epochs {config.epochs} {sizes}"


def _tell(metrics: Mapping[str, Any], out: Path) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for name, of in metrics["brackets"].items():
        told = ", ".join(f"{value:g} {word}" for word, value in of.items())
        console.print(f"{name}: {told}")
    for study, of in metrics["difference"].items():
        if "mean" in of:
            span = f" ({of['low']:+.4f} to {of['high']:+.4f})" if "low" in of else " (one seed gives no interval)"
            console.print(f"{study}: TPE less random search {of['mean']:+.4f}{span}")
    if "winner" in metrics:
        best = metrics["winner"]
        console.print(f"winner: {best['name']}, {metrics['score']} {best['score']:.4f}, {best['ms']:.2f} ms a face")
        console.print(f"design: {out / 'winner.json'}")
    if metrics["left"]:
        console.print(f"{metrics['left']} trials are under way or were left; go on with --resume")
