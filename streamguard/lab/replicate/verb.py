"""``streamguard lab replicate``: the paper's table measured again, by its protocol and by ours.

    streamguard lab replicate --out runs/replicate                       # 600 pictures, 20 epochs
    streamguard lab replicate --out runs/replicate-full --full           # all pictures: hours
    streamguard lab replicate --out runs/replicate-celeb --celeb runs/celeb/faces.h5 --parts cases
    streamguard lab replicate --out runs/replicate --resume              # after a break

``--parts``: ``cases`` (the paper's two, each by both protocols, and the framing-only probe), ``films`` (the leak of
frames of one video), ``arms`` (the related work). The run folder holds config.json, log.jsonl, metrics.json, and
curves of accuracy and loss as the paper's figures 4 and 5 show them. An epoch that was finished is not trained again.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
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
from streamguard.inference.engines import load_engine
from streamguard.lab.data import FaceStore, build_store
from streamguard.lab.data_plots import save
from streamguard.lab.dataset import Dataset
from streamguard.lab.extraction import Searcher
from streamguard.lab.faces import DETECTOR
from streamguard.lab.ledger import Ledger
from streamguard.lab.model import settle_cpu
from streamguard.lab.pictures import Pictures
from streamguard.lab.replicate import films, pictures
from streamguard.lab.replicate.arms import ArmsConfig, moving_arms, still_arms
from streamguard.lab.replicate.pictures import Case, Search
from streamguard.lab.replicate.plots import curves
from streamguard.lab.replicate.protocol import PROTOCOLS, TOLD, cut, divided, figures, shared
from streamguard.lab.replicate.training import Recipe, follow
from streamguard.lab.subjects import REFERENCE, Subject, engine_subjects

BASE: Final = "deepfake-steady"
PARTS: Final = ("cases", "films", "arms")
ALL_ARMS: Final = ArmsConfig()
THE_PAPERS: Final = Recipe()


@dataclass(frozen=True, slots=True)
class ReplicateConfig:
    """``count``: pictures a label, None for all. ``recipe``: of every net. ``films``: made videos."""

    count: int | None = 300
    recipe: Recipe = THE_PAPERS
    films: int = 150
    arms: ArmsConfig = ALL_ARMS
    celeb: Path | None = None
    parts: tuple[str, ...] = PARTS
    seed: int = 1
    threads: int = 1

    @property
    def title(self) -> str:
        """The sizes that a table states."""
        many = "all pictures" if self.count is None else f"{2 * self.count} pictures"
        return f"{many}, {self.recipe.size} px, {self.recipe.epochs} epochs"


@dataclass(frozen=True, slots=True, eq=False)
class Tools:
    """What finds faces, and what is compared with: the shipped engines, unless a test brings its own."""

    search: Search
    base: Subject


_DEFAULT: Final = ReplicateConfig()


def replicate(  # noqa: PLR0913 - each is an option of the command line
    out: Annotated[Path, typer.Option(help="Run folder, made if absent.")],
    count: Annotated[int, typer.Option("--pictures", min=20, help="Of a case, half of them real.")] = 600,
    epochs: Annotated[int, typer.Option(min=1, help="Of every net.")] = _DEFAULT.recipe.epochs,
    size: Annotated[int, typer.Option(min=32, help="Side of the nets' input, px.")] = _DEFAULT.recipe.size,
    full: Annotated[bool, typer.Option(help="All pictures, whatever --pictures says: the full recipe.")] = False,
    celeb: Annotated[Path | None, typer.Option(help="Face file of `lab faces` on Celeb-DF v2: one more row.")] = None,
    parts: Annotated[str, typer.Option(help="cases, films, arms; with commas between.")] = ",".join(PARTS),
    steps: Annotated[int, typer.Option(min=1, help="Of the nets of the related work.")] = ALL_ARMS.steps,
    each: Annotated[int, typer.Option(min=4, help="Held-out faces that the related work is measured on.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the pictures, the cuts and the nets.")] = 1,
    faces: Annotated[Path | None, typer.Option(help="faces.h5; by default beside --out, made if absent.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
) -> None:
    """Measure the paper's table again, by its protocol and by one without its leaks."""
    chosen = tuple(word.strip() for word in parts.split(",") if word.strip())
    unknown = [word for word in chosen if word not in PARTS]
    if unknown or not chosen:
        raise UsageError(f"--parts '{parts}': choose of {', '.join(PARTS)}.")
    config = ReplicateConfig(
        None if full else count // 2, Recipe(size, epochs), films=150 if full else max(24, min(150, count // 4)),
        arms=ArmsConfig(500 if full else min(200, count // 3), each, steps=steps, seed=seed), celeb=celeb, parts=chosen,
        seed=seed, threads=threads,
    )  # fmt: skip
    store = build_store(Dataset.from_environment(), faces or out.parent / "faces.h5")
    subject = engine_subjects(load_engine(BASE), "openvino", (REFERENCE,))[0]
    tools = Tools(Searcher(load_engine(DETECTOR)), _named(subject))
    _tell(replicated(store, out, config, tools, resume=resume))


def _named(subject: Subject) -> Subject:
    return Subject(BASE, subject.crop, subject.score, subject.scale, subject.threshold)


def replicated(
    store: FaceStore, out: Path, config: ReplicateConfig, tools: Tools, *, resume: bool = False
) -> dict[str, Any]:
    """Measure what is not measured yet; returns what metrics.json holds.

    Raises:
        UsageError: the folder holds another run, or a case has pictures of one label only.
        InputMissing: the face file that ``celeb`` names does not exist.
    """
    cv2.setNumThreads(1)
    settle_cpu(config.threads)
    ledger = Ledger(out, {
        "verb": "replicate", "count": config.count, "size": config.recipe.size, "epochs": config.recipe.epochs,
        "films": config.films, "steps": config.arms.steps, "each": config.arms.each, "seed": config.seed,
        "celeb": str(config.celeb) if config.celeb else None,
    }, resume=resume)  # fmt: skip
    metrics = ledger.metrics() | {
        "verb": "replicate", "command": _command(config), "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "machine": f"{platform.machine()} CPU, {config.threads} thread(s)", "title": config.title, "told": TOLD,
    }  # fmt: skip
    if "cases" in config.parts:
        metrics["cases"] = _cases(ledger, store, config, tools)
        _plot(metrics["cases"], out)
    if "films" in config.parts:
        metrics["films"] = _films(ledger, store, config)
    if "arms" in config.parts:
        metrics["arms"] = [*still_arms(ledger, store, tools.base, config.arms),
                           *moving_arms(ledger, store, config.arms)]  # fmt: skip
    ledger.write(metrics)
    return metrics


def _command(config: ReplicateConfig) -> str:
    many = "--full" if config.count is None else f"--pictures {2 * config.count}"
    sizes = f"--epochs {config.recipe.epochs} --size {config.recipe.size} --steps {config.arms.steps}"
    celeb = " --celeb FACES" if config.celeb else ""
    return f"streamguard lab replicate --out RUN {many} {sizes}{celeb} --parts {','.join(config.parts)}"


def _cases(ledger: Ledger, store: FaceStore, config: ReplicateConfig, tools: Tools) -> list[dict[str, Any]]:
    count, size, seed = config.count, config.recipe.size, config.seed
    found = [
        ("case 1", "OpenForensics, whole", "efficient",
         partial(pictures.whole, store, "openforensics", count, size, seed)),
        ("case 2", "OpenForensics, faces", "vanilla",
         partial(pictures.found, store, "openforensics", count, size, seed, tools.search)),
        ("case 2", "DFDC pairs, faces", "vanilla",
         partial(pictures.found, store, "dfdc", count, size, seed, tools.search)),
    ]  # fmt: skip
    if config.celeb is not None:
        found.append(
            ("case 2", "Celeb-DF v2, faces", "vanilla", partial(pictures.filed, config.celeb, count, size, seed))
        )
    rows = []
    for case, name, net, make in found:
        stored = ledger.arrays(f"pictures/{name}", lambda make=make: make().arrays())  # type: ignore[misc]
        rows += _by_protocols(ledger, case, name, net, Case.held(stored), config)
    return rows


def _by_protocols(
    ledger: Ledger, case: str, name: str, net: str, of: Case, config: ReplicateConfig
) -> list[dict[str, Any]]:
    rows = []
    for protocol in PROTOCOLS:
        halves = cut(of.of, protocol, config.seed, augment=case == "case 2")
        row: dict[str, Any] = {
            "case": case, "pictures": name, "protocol": protocol, "net": net, "missed": list(of.missed),
            "trained on": len(halves.train.label), "tested on": len(halves.test.label),
            "test pictures with kin in training": round(shared(halves), 4),
        }  # fmt: skip
        row |= follow(ledger, f"{name}/{protocol}", net, halves, config.recipe)
        rows.append(row)
        if case == "case 1":
            rows.append(_framed(ledger, row, of, config))
    return rows


def _framed(ledger: Ledger, beside: dict[str, Any], of: Case, config: ReplicateConfig) -> dict[str, Any]:
    """The framing-only probe on the same cut."""
    train, test = divided(of.of.group, beside["protocol"], np.random.default_rng(config.seed))
    scores = pictures.framing_scores(of.framing[train], of.of.label[train], of.framing[test])
    label, group = of.of.label[test], of.of.group[test]
    measured = ledger.value(f"framing/{beside['protocol']}", lambda: figures(scores, label, group))
    return {**beside, "net": "framing only", "figures": measured, "curves": {}}


def _films(ledger: Ledger, store: FaceStore, config: ReplicateConfig) -> list[dict[str, Any]]:
    size = config.recipe.size // 2
    made = ledger.arrays("films", partial(films.films, store, config.films, size, config.seed))
    of = Pictures(**made)
    recipe = Recipe(size, config.recipe.epochs, config.recipe.batch, config.recipe.pretrained)
    rows = []
    for protocol, words in (("paper", "by frame"), ("ours", "by film")):
        halves = cut(of, protocol, config.seed, augment=False)  # type: ignore[arg-type]
        row = {"cut": words, "films": config.films, "trained on": len(halves.train.label),
               "tested on": len(halves.test.label)}  # fmt: skip
        rows.append(row | follow(ledger, f"films/{protocol}", "vanilla", halves, recipe))
    return rows


def _plot(rows: list[dict[str, Any]], out: Path) -> None:
    names = list(dict.fromkeys(row["pictures"] for row in rows))
    for name in names:
        lines = {row["protocol"]: row["curves"] for row in rows if row["pictures"] == name and row["curves"]}
        save(curves(lines, name), out / f"curves-{name.split(',')[0].split(' ')[0].lower()}-{_case_of(rows, name)}.png")


def _case_of(rows: list[dict[str, Any]], name: str) -> str:
    return next(row["case"].replace(" ", "") for row in rows if row["pictures"] == name)


def _tell(metrics: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    table = Table("case", "pictures", "protocol", "net", "accuracy", "AUC", title=metrics["title"])
    for row in metrics.get("cases", []):
        of = row["figures"]
        table.add_row(
            row["case"], row["pictures"], row["protocol"], row["net"], _spread(of["accuracy"]), _spread(of["AUC"])
        )
    for row in metrics.get("films", []):
        of = row["figures"]
        table.add_row("films", f"{row['films']}, coin labels", row["cut"], "vanilla", _spread(of["accuracy"]),
                      _spread(of["AUC"]))  # fmt: skip
    console.print(table)
    for row in metrics.get("arms", []):
        shown = row.get("unseen") or row["held out"]
        console.print(f"{row['arm']} ({row['looks at']}): AUC {_spread(shown)}{_adds(row)}")


def _adds(row: dict[str, Any]) -> str:
    if "adds" not in row:
        return ""
    of = row["adds"]
    return f"; adds {of['value']:+.3f} ({of['low']:+.3f} to {of['high']:+.3f}) on the unseen"


def _spread(of: dict[str, float]) -> str:
    return f"{of['value']:.3f} ({of['low']:.3f}-{of['high']:.3f})"
