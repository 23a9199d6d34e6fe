"""``streamguard lab unseen``: what a net makes of forgeries and sources that it was never shown.

    streamguard lab unseen --out runs/unseen --minutes 10
    streamguard lab unseen --out runs/unseen --minutes 10 --resume     # after a break
    streamguard lab unseen --out runs/unseen --steps 1000 --design engines/deepfake-nas/winner.json

One net after the other is trained in this process, from the ImageNet weights, on one pool of faces
(:mod:`streamguard.lab.pool`) less what it leaves out, and measured on held-out faces of the part ``search``:

- ``all``: leaves out nothing; what the others are to be compared with. Trained with three seeds: differences smaller
  than theirs mean nothing.
- ``without GROUP``: a group of families whose traces are alike, or the fakes of a supplied source.
- ``without source SOURCE``: all of a source, its real faces too, also as the ground of forgeries.
- ``forgeries alone``: no supplied fake at all.

All pass the training chain (`forensic`), whatever augmentation a design was searched with, and no mask is taught: the
couples of supplied fakes have none. The nets are small and short of training: the differences between them are what
counts, not their height. The run folder holds config.json, log.jsonl, pool/, a run folder a net, metrics.json and
matrix.png.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from streamguard.errors import UsageError
from streamguard.lab import evaluate_plots as plots
from streamguard.lab.augment import Crop
from streamguard.lab.data import STILLS, FaceStore, build_store
from streamguard.lab.data_plots import save
from streamguard.lab.dataset import Dataset
from streamguard.lab.evaluate_faces import Bench, bounded
from streamguard.lab.families import FAMILIES, GROUPS
from streamguard.lab.heldout import DRESSES, SETS, Drawn, Dress, held
from streamguard.lab.ledger import Arrays, Ledger
from streamguard.lab.model import settle_cpu
from streamguard.lab.pool import Pool, PoolBatches, PoolConfig, build_pool
from streamguard.lab.search.spaces import Design
from streamguard.lab.statistics import auc
from streamguard.lab.subjects import run_subject
from streamguard.lab.train import TrainConfig, design_in, designed, fit, load_state, refuse_other_size

ALL: Final = "all"
AGAIN: Final = {"all again": 1, "all a third time": 2}  # name -> how much higher the seed
FORGERIES: Final = "forgeries alone"
WIDE: Final = 160  # columns that the table of all sets takes


@dataclass(frozen=True, slots=True)
class Omission:
    """One net: the ``families`` it is never shown as fakes, the sources (``grounds``) it sees nothing of, and how much
    higher its seed is than the others'."""

    name: str
    families: frozenset[str] = frozenset()
    grounds: frozenset[str] = frozenset()
    seed: int = 0


@dataclass(frozen=True, slots=True)
class UnseenConfig:
    """``minutes``: of training a net; ``couples``: of a source or family in the pool; ``each``: in a figure;
    ``design``: of the nets, with a size of its own; else EfficientNet-Lite0."""

    minutes: float | None = 10.0
    steps: int = 3000
    size: int = 128
    couples: int = 300
    each: int = 200
    batch: int = 32
    seed: int = 1
    threads: int = 1
    pretrained: bool = True
    design: Design | None = None

    @property
    def net(self) -> str:
        """The design as one line of JSON, or the name of what stands in for one."""
        return self.training.architecture

    @property
    def training(self) -> TrainConfig:
        """What every net is trained by."""
        plain = TrainConfig(
            size=self.size, margin=0.0, batch=self.batch, steps=self.steps, minutes=self.minutes, seed=self.seed,
            threads=self.threads, pretrained=self.pretrained, warm_up=min(100, self.steps // 5 + 1),
        )  # fmt: skip
        if self.design is None:
            return plain
        return replace(designed(plain, self.design), policy=plain.policy, mask=0.0)


_DEFAULT: Final = UnseenConfig()


def omissions() -> list[Omission]:
    """Every net that is trained, in order."""
    again = [Omission(name, seed=more) for name, more in AGAIN.items()]
    groups = [Omission(f"without {group}", frozenset(of)) for group, of in GROUPS.items()]
    sources = [Omission(f"without source {s}", frozenset({s}), frozenset({s})) for s in STILLS]
    return [Omission(ALL), *groups, *sources, Omission(FORGERIES, frozenset(STILLS)), *again]


def unseen(  # noqa: PLR0913 - each is an option of the command line
    out: Annotated[Path, typer.Option(help="Run folder, made if absent.")],
    minutes: Annotated[float, typer.Option(min=0, help="Of training for each net.")] = 10.0,
    steps: Annotated[int | None, typer.Option(min=1, help="Of each net, in place of --minutes.")] = None,
    faces: Annotated[Path | None, typer.Option(help="faces.h5; by default beside --out, made if absent.")] = None,
    size: Annotated[
        int | None,
        typer.Option(min=64, help=f"Side of the nets' input, px; a multiple of 16, {_DEFAULT.size} by default."),
    ] = None,
    design: Annotated[
        Path | None, typer.Option(help="winner.json of `lab search`: the nets, their size and rate; else Lite0.")
    ] = None,
    couples: Annotated[int, typer.Option(min=4, help="Of a source or family in the pool.")] = _DEFAULT.couples,
    each: Annotated[int, typer.Option(min=4, help="Held-out faces of a source and label.")] = _DEFAULT.each,
    seed: Annotated[int, typer.Option(help="Seed of the pool and of the nets.")] = _DEFAULT.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = _DEFAULT.threads,
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
) -> None:
    """Leave out each forgery family and each source in turn, and measure what was left out."""
    length = UnseenConfig(minutes) if steps is None else UnseenConfig(None, steps)
    config = replace(length, size=size or _DEFAULT.size, couples=couples, each=each, seed=seed, threads=threads)
    if design is not None:
        found = design_in(design)
        refuse_other_size(size, found, design)
        config = replace(config, size=found.size, design=found)
    store = build_store(Dataset.from_environment(), faces or out.parent / "faces.h5")
    _tell(leave_out(store, out, config, resume=resume))


def leave_out(store: FaceStore, out: Path, config: UnseenConfig, *, resume: bool = False) -> dict[str, Any]:
    """Train and measure every net; returns what metrics.json holds.

    Raises:
        UsageError: the folder holds another run, or an omission leaves nothing to train on.
    """
    cv2.setNumThreads(1)
    settle_cpu(config.threads)
    ledger = Ledger(out, {
        "verb": "unseen", "minutes": config.minutes, "steps": config.steps, "size": config.size,
        "couples": config.couples, "each": config.each, "batch": config.batch, "seed": config.seed,
        "families": list(FAMILIES), "net": config.net,
    }, resume=resume)  # fmt: skip
    pool_config = PoolConfig(config.size, each=config.couples, seed=config.seed)
    pool = build_pool(store, out / "pool", pool_config)
    bench = Bench(ledger, store, Drawn("search", config.each))
    table: dict[str, dict[str, Any]] = {}
    steps: dict[str, int] = {}
    for omission in omissions():
        folder = out / "nets" / omission.name.replace(" ", "-")
        name = omission.name
        steps[name] = ledger.value(f"trained/{name}", partial(_train, pool, omission, folder, config))
        table[name] = ledger.value(f"measured/{name}", partial(_measure, bench, folder))
        Console(stderr=True, highlight=False).log(f"{name}: {steps[name]} steps")
    metrics = {
        "verb": "unseen", "command": _command(config), "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()} CPU, {config.threads} thread(s)", "size": config.size,
        "net": config.net, "couples": len(pool.pictures), "each": config.each, "steps": steps, "table": table,
        "hidden": {net.name: sorted(net.families | net.grounds) or ["nothing"] for net in omissions()},
        **summary(table),
    }  # fmt: skip
    ledger.write(metrics)
    names, columns, values, marked = grid(table)
    save(plots.matrix(names, columns, values, marked), out / "matrix.png")
    return metrics


def _command(config: UnseenConfig) -> str:
    length = f"--steps {config.steps}" if config.minutes is None else f"--minutes {config.minutes:g}"
    net = " --design winner.json" if config.design else f" --size {config.size}"
    return f"streamguard lab unseen --out RUN {length}{net} --couples {config.couples} --each {config.each}"


def _train(pool: Pool, omission: Omission, folder: Path, config: UnseenConfig) -> int:
    rows = pool.without(omission.families, omission.grounds)
    if not rows.size:
        raise UsageError(f"'{omission.name}' leaves no fake to train on. Add families or sources.")
    held_already = (folder / "last.pt").is_file()
    training = replace(config.training, seed=config.seed + omission.seed)
    fit(PoolBatches(pool, rows, config.batch, training.seed), folder, training, resume=held_already, workers=0)
    return int(load_state(folder)["step"])


def _measure(bench: Bench, folder: Path) -> dict[str, Any]:
    """``SET`` -> dress -> AUC with its interval."""
    subject = run_subject(folder)
    found: dict[str, Any] = {}
    for one in SETS:
        for dress in DRESSES:
            shown = bench.ledger.arrays(f"shown/{one}/{dress}", partial(_shown, bench, one, dress, subject.crop))
            label = shown["label"]
            if 0 < label.sum() < label.size:
                scores = subject.score(shown["pictures"])
                found.setdefault(one, {})[dress] = bounded(auc, scores, label, shown["group"])
    return found


def _shown(bench: Bench, name: str, dress: Dress, crop: Crop) -> Arrays:
    faces = held(bench.store, name, bench.drawn, dress, [crop])
    _, group = np.unique(faces.group, return_inverse=True)
    return {"pictures": faces.pictures[crop], "label": faces.label, "group": group}


def summary(table: dict[str, dict[str, Any]], dress: str = "plain") -> dict[str, Any]:
    """``families`` and ``sources`` left out: AUC, ``mean``, ``worst``; ``forgeries`` alone on each source; ``seeds``:
    how far nets that were shown the same lie apart on a set, ``mean`` and ``most``."""
    groups = {
        group: [table[f"without {group}"][name][dress]["value"] for name in of if name in table[f"without {group}"]]
        for group, of in GROUPS.items()
    }
    families = {group: round(float(np.mean(values)), 4) for group, values in groups.items() if values}
    sources = {s: of[s][dress]["value"] for s in STILLS if s in (of := table[f"without source {s}"])}
    forgeries = {s: table[FORGERIES][s][dress] for s in STILLS if s in table[FORGERIES]}
    alike = np.array([[of[dress]["value"] for of in table[net].values()] for net in (ALL, *AGAIN)])
    apart = np.ptp(alike, axis=0)
    return {
        "families": _mean_and_worst(families), "sources": _mean_and_worst(sources), "forgeries": forgeries,
        "seeds": {"mean": round(float(apart.mean()), 4), "most": round(float(apart.max()), 4)},
    }  # fmt: skip


def _mean_and_worst(values: dict[str, float]) -> dict[str, Any]:
    if not values:
        return {"auc": {}, "mean": None, "worst": None}
    worst = min(values, key=lambda name: values[name])
    return {"auc": values, "mean": round(float(np.mean(list(values.values()))), 4), "worst": worst}


def grid(table: dict[str, dict[str, Any]], dress: str = "plain") -> tuple[list[str], list[str], Any, Any]:
    """Names of nets, sets, (R, C) AUC, and (R, C) whether that net was never shown that set."""
    columns = [name for name in SETS if name in table[ALL]]
    nets = [omission for omission in omissions() if omission.name in table]
    values = np.array([[table[net.name][column][dress]["value"] for column in columns] for net in nets])
    marked = np.array([[column in net.families | net.grounds for column in columns] for net in nets])
    return [net.name for net in nets], columns, values, marked


def _tell(metrics: dict[str, Any]) -> None:
    names, columns, values, marked = grid(metrics["table"])
    table = Table("net", *columns, title="AUC on held-out faces; * = never shown to that net")
    for name, row, stars in zip(names, values, marked, strict=True):
        table.add_row(name, *(f"{value:.3f}{'*' if star else ''}" for value, star in zip(row, stars, strict=True)))
    console = Console(soft_wrap=True, highlight=False)
    Console(highlight=False, width=WIDE).print(table)  # a narrow terminal folds it, which loses nothing
    seeds = metrics["seeds"]
    console.print(f"by the seed alone: {seeds['mean']:.3f} apart in the mean of the sets, {seeds['most']:.3f} at most")
    for what in ("families", "sources"):
        of = metrics[what]
        if of["auc"]:
            console.print(f"{what} left out: mean {of['mean']:.3f}, worst {of['auc'][of['worst']]:.3f} ({of['worst']})")
