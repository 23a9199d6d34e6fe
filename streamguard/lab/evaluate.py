"""``streamguard lab evaluate``: what an engine or a run can do on faces and streams that it never saw.

    streamguard lab evaluate --engine engines/deepfake-steady --out runs/evaluate
    streamguard lab evaluate --engine engines/deepfake-steady --out runs/streams --parts streams
    streamguard lab evaluate --engine engines/deepfake-steady --out runs/final --final --because "release 0.2"

The run folder holds config.json, log.jsonl (a line a finished piece: ``--resume`` goes on after the last), ``arrays/``
(scores), metrics.json and plots. Other parts may be added to it later. Development figures come from the part
``search``. The test (the manifest's ``val``) is opened by ``--final`` alone, and each opening is logged beside the
engine's card first (:mod:`streamguard.lab.openings`).

Parts: ``faces`` (each source and forgery family, plain and through the chain, each variant of the engine),
``corruptions``, ``baselines``, ``proxies`` (false alarms by measurable traits of the picture), ``streams``.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from streamguard.errors import UsageError
from streamguard.inference.engines import Engine, load_engine
from streamguard.lab import evaluate_plots as plots
from streamguard.lab import openings
from streamguard.lab.data import STILLS, build_store, final_part
from streamguard.lab.data_plots import save
from streamguard.lab.dataset import Dataset
from streamguard.lab.evaluate_faces import Bench, figures, losses, scaled, scored
from streamguard.lab.families import FAMILIES
from streamguard.lab.heldout import DRESSES, Drawn
from streamguard.lab.ledger import Ledger
from streamguard.lab.model import settle_cpu
from streamguard.lab.proxies import alarms_by_proxy
from streamguard.lab.robustness import corrupted
from streamguard.lab.subjects import Subject, engine_subjects, run_subject

PARTS: Final[tuple[str, ...]] = ("faces", "corruptions", "baselines", "proxies", "streams")
ON_FACES: Final = PARTS[:4]
_EVERY: Final = 10**9
_CORRUPTED: Final = 100  # faces of a source and label that are corrupted; there are 75 corruptions


@dataclass(frozen=True, slots=True)
class Asked:
    """What is evaluated and how. ``each``: faces of a source and label, and pairs of a family."""

    engine: Path | None = None
    run: Path | None = None
    parts: tuple[str, ...] = ON_FACES
    faces: Path | None = None
    each: int = 300
    backend: str = "openvino"
    steps: int = 300
    pool: int = 300
    threads: int = 1


_DEFAULT: Final = Asked()


def evaluate(  # noqa: PLR0913 - each is an option of the command line
    out: Annotated[Path, typer.Option(help="Run folder, made if absent.")],
    engine: Annotated[Path | None, typer.Option(help="Engine folder, or the name of a shipped engine.")] = None,
    run: Annotated[Path | None, typer.Option(help="Run folder of `lab train`, in place of an engine.")] = None,
    parts: Annotated[str, typer.Option(help=f"Of {','.join(PARTS)}; a list with commas.")] = ",".join(ON_FACES),
    streams: Annotated[bool, typer.Option(help="As --parts streams.")] = False,
    faces: Annotated[Path | None, typer.Option(help="faces.h5; by default beside --out, made if absent.")] = None,
    each: Annotated[int, typer.Option(min=4, help="Faces of a source and label, pairs of a family.")] = _DEFAULT.each,
    backend: Annotated[str, typer.Option(help="What runs the engine: its variants are evaluated.")] = _DEFAULT.backend,
    steps: Annotated[int, typer.Option(min=1, help="Training steps of the small nets to compare with.")] = 300,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of nets in torch.")] = 1,
    final: Annotated[bool, typer.Option(help="Open the test. Logged beside the engine's card.")] = False,
    because: Annotated[str, typer.Option(help="Why the test is opened.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
) -> None:
    """Measure an engine on held-out faces and streams. Data by $STREAMGUARD_DATA."""
    chosen = (
        ("streams",) if streams else tuple(dict.fromkeys(word.strip() for word in parts.split(",") if word.strip()))
    )
    asked = Asked(engine, run, chosen, faces, each, backend, steps, threads=threads)
    data = Dataset.from_environment()
    if final:
        metrics = examine_finally(data, out, asked, because, resume=resume)
    else:
        metrics = examine(data, out, asked, resume=resume)
    _tell(metrics)


def examine(data: Dataset, out: Path, asked: Asked, *, resume: bool = False) -> dict[str, Any]:
    """The development evaluation; returns what metrics.json holds.

    Raises:
        UsageError: neither or both of engine and run, an unknown part, or a part that needs an engine.
    """
    cv2.setNumThreads(1)
    settle_cpu(asked.threads)
    subjects, about, engine = _subjects(asked)
    unknown = [part for part in asked.parts if part not in PARTS]
    if unknown or not asked.parts:
        raise UsageError(f"--parts: '{', '.join(unknown)}' is unknown. Known: {', '.join(PARTS)}.")
    if engine is None and {"streams", "proxies"} & set(asked.parts):
        raise UsageError("streams and proxies speak of thresholds, which a run has none of. Export it; use --engine.")
    drawn = Drawn("search", asked.each)
    ledger = Ledger(out, _config(asked, about, drawn), resume=resume)
    before = ledger.metrics()
    kept = {part: before[part] for part in PARTS if part in before and part not in asked.parts}
    commands = {part: before["commands"][part] for part in kept} | dict.fromkeys(asked.parts, _command(asked))
    metrics: dict[str, Any] = {**about, **_facts(drawn), "commands": commands, **kept}
    if set(asked.parts) & set(ON_FACES):
        bench = Bench(ledger, build_store(data, asked.faces or out.parent / "faces.h5"), drawn)
        for part in ON_FACES:
            if part in asked.parts:
                metrics[part] = _MEASURES[part](bench, data, subjects, asked)
        _plot(bench, subjects, metrics)
    if "streams" in asked.parts and engine is not None:
        metrics["streams"] = _streams(ledger, data, engine, asked)
    ledger.write(metrics)
    return metrics


def examine_finally(data: Dataset, out: Path, asked: Asked, because: str, *, resume: bool = False) -> dict[str, Any]:
    """The test: every face of ``val``, plain and through the chain, each variant. The opening is logged first.

    Raises:
        UsageError: no engine, no reason, or no card to log in.
    """
    cv2.setNumThreads(1)
    if asked.engine is None or asked.run is not None:
        raise UsageError("--final is for an engine: --engine FOLDER. A run that is not exported has no card to log in.")
    subjects, about, engine = _subjects(asked)
    assert engine is not None
    if not because.strip():
        raise UsageError("--final opens the test. Say why: --because TEXT.")
    asked, drawn = replace(asked, parts=("faces",)), Drawn("test", _EVERY)
    config = _config(asked, about, drawn) | {"because": because, "manifest_sha256": _tested(data)}
    ledger = Ledger(out, config, resume=resume)
    number = ledger.value("opening", lambda: openings.opened(engine, because))
    store = build_store(data, out / "test.h5", STILLS, parts=final_part)
    bench = Bench(ledger, store, drawn, STILLS)
    metrics = {
        **about, **_facts(drawn), "commands": {"faces": _command(asked, final=True)}, "because": because,
        "opening": number, "manifest_sha256": config["manifest_sha256"], "faces": _faces(bench, data, subjects, asked),
    }  # fmt: skip
    _plot(bench, subjects, metrics)
    ledger.write(metrics)
    reference = subjects[0].name
    told = {r["set"]: r["subjects"][reference]["auc"] for r in metrics["faces"]["rows"] if r["dress"] == "plain"}
    ledger.value("logged", lambda: openings.measured(engine, number, told))
    return metrics


def _subjects(asked: Asked) -> tuple[list[Subject], dict[str, Any], Engine | None]:
    """What is evaluated, the reference in front, and what it is."""
    if (asked.engine is None) == (asked.run is None):
        raise UsageError("say what to evaluate: --engine FOLDER or --run FOLDER, one of them.")
    if asked.run is not None:
        subject = run_subject(asked.run, "fp32")
        digest = hashlib.sha256((asked.run / "last.pt").read_bytes()).hexdigest()
        return [subject], {"name": asked.run.name, "version": "a run", "sha256": digest}, None
    assert asked.engine is not None
    engine = load_engine(asked.engine)
    about = {"name": engine.name, "version": engine.version, "sha256": engine.sha256}
    return engine_subjects(engine, asked.backend), about, engine


def _config(asked: Asked, about: dict[str, Any], drawn: Drawn) -> dict[str, Any]:
    """What a run folder belongs to. The parts are not in it: more of them may follow."""
    return {"verb": "evaluate", **about, "part": drawn.part, "each": drawn.each, "seed": drawn.seed,
            "backend": asked.backend, "steps": asked.steps, "pool": asked.pool, "families": list(FAMILIES)}  # fmt: skip


def _facts(drawn: Drawn) -> dict[str, Any]:
    """What a table says of itself."""
    return {"verb": "evaluate", "part": drawn.part, "each": drawn.each, "date": f"{datetime.now(UTC):%Y-%m-%d}",
            "machine": f"{platform.machine()} CPU"}  # fmt: skip


def _command(asked: Asked, *, final: bool = False) -> str:
    what = f"--engine engines/{asked.engine.name}" if asked.engine else "--run RUN"
    how = "--final --because TEXT" if final else f"--each {asked.each} --parts {','.join(asked.parts)}"
    if "baselines" in asked.parts:
        how += f" --steps {asked.steps}"
    return f"streamguard lab evaluate {what} --out OUT {how}"


def _tested(data: Dataset) -> str:
    """SHA-256 of the manifest's rows of the test."""
    lines = sorted(f"{e.path} {e.label} {e.group}" for e in data.manifest if final_part(e) is not None)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _faces(bench: Bench, data: Dataset, subjects: Sequence[Subject], asked: Asked) -> dict[str, Any]:
    rows = figures(bench, "faces", subjects)
    return {"rows": rows, "losses": losses(rows, subjects[0].name), "subjects": [s.name for s in subjects]}


def _corruptions(bench: Bench, data: Dataset, subjects: Sequence[Subject], asked: Asked) -> dict[str, Any]:
    fewer = Bench(bench.ledger, bench.store, Drawn(bench.drawn.part, min(_CORRUPTED, asked.each)), bench.sets)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("corruptions", total=76)
        return corrupted(fewer, subjects, lambda: progress.advance(task))


def _baselines(bench: Bench, data: Dataset, subjects: Sequence[Subject], asked: Asked) -> dict[str, Any]:
    from streamguard.lab import baselines as of  # torch and scikit-learn, for this part alone
    from streamguard.lab.pool import PoolConfig, build_pool

    crop = subjects[0].crop
    config = PoolConfig(margin=crop.margin, each=asked.pool)
    out = bench.ledger.out
    pool = build_pool(bench.store, out / "pool", config)
    net = of.NetConfig(steps=asked.steps, threads=asked.threads)
    made = [of.constant(config.crop), of.quality(pool, config), of.forensic(pool, config), of.mesonet(data.root)]
    made += [
        of.trained_net(name, pool, config, net, out / "nets" / architecture) for name, architecture in of.NETS.items()
    ]
    return {"rows": figures(bench, "baselines", made), "subjects": [s.name for s in made],
            "steps": asked.steps, "couples": len(pool.pictures)}  # fmt: skip


def _proxies(bench: Bench, data: Dataset, subjects: Sequence[Subject], asked: Asked) -> dict[str, Any]:
    found: dict[str, Any] = bench.ledger.value(
        "proxies", lambda: alarms_by_proxy(bench.store, bench.drawn.part, subjects[0], asked.each)
    )
    return found


_MEASURES: Final[dict[str, Callable[[Bench, Dataset, Sequence[Subject], Asked], dict[str, Any]]]] = {
    "faces": _faces, "corruptions": _corruptions, "baselines": _baselines, "proxies": _proxies,
}  # fmt: skip


def _streams(ledger: Ledger, data: Dataset, engine: Engine, asked: Asked) -> dict[str, Any]:
    from streamguard.lab.evaluate_streams import real_recordings, simulate
    from streamguard.lab.families import VideoForgers
    from streamguard.lab.simulated import StreamSettings

    forger_of = VideoForgers(data, build_store(data, asked.faces or ledger.out.parent / "faces.h5"))
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("streams", total=None)
        made = simulate(ledger, data, engine, FAMILIES, forger_of, StreamSettings(),
                        lambda left: progress.update(task, description=f"streams, {left} left"))  # fmt: skip
    return {"simulated": made, "recordings": real_recordings(ledger, data, engine)}


def _plot(bench: Bench, subjects: Sequence[Subject], metrics: dict[str, Any]) -> None:
    """Every plot that the measured parts allow."""
    out = bench.ledger.out
    if "corruptions" in metrics:
        save(plots.corruption_curves(metrics["corruptions"]), out / "corruptions.png")
    if "faces" not in metrics:
        return
    (reference,) = scaled(bench, "faces", subjects[:1])
    by_dress: dict[str, dict[str, plots.Scores]] = {}
    for dress in DRESSES:
        held = {r["set"]: scored(bench, "faces", subjects, r["set"], dress)
                for r in metrics["faces"]["rows"] if r["dress"] == dress}  # fmt: skip
        by_dress[dress] = {name: (reference.calibrated(f[reference.name]), f["label"]) for name, f in held.items()}
    together = {dress: (np.concatenate([s for s, _ in of.values()]), np.concatenate([y for _, y in of.values()]))
                for dress, of in by_dress.items() if of}  # fmt: skip
    if together:
        save(plots.roc(by_dress["plain"], f"{metrics['name']}, {reference.name}, plain"), out / "roc.png")
        save(plots.reliability(together, f"{metrics['name']}, {reference.name}, all sets"), out / "reliability.png")
        save(plots.histograms(by_dress["plain"], reference.threshold), out / "scores.png")


def _tell(metrics: dict[str, Any]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for part in ("faces", "baselines"):
        if part not in metrics:
            continue
        names = metrics[part]["subjects"]
        table = Table("set", "dress", "real", "fake", *names, title=f"{part}: AUC on the part '{metrics['part']}'")
        for row in metrics[part]["rows"]:
            values = (f"{row['subjects'][name]['auc']['value']:.3f}" for name in names)
            table.add_row(row["set"], row["dress"], str(row["real"]), str(row["fake"]), *values)
        console.print(table)
    for name, found in metrics.get("corruptions", {}).get("subjects", {}).items():
        console.print(f"{name}: corruptions cost {found['mean']} points of AUC in the mean, at worst "
                      f"{found['worst']['points']} ({found['worst']['where']})")  # fmt: skip
    if "streams" in metrics:
        found = metrics["streams"]["simulated"]["all"]["soon"]
        console.print(f"simulated passages found within 10 s: {found['count']} of {found['of']}")
