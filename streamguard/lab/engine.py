"""A run folder to an engine folder: export, quantise, calibrate each variant, measure, write manifest and card."""

from __future__ import annotations

import json
import logging
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer

from streamguard.errors import UsageError
from streamguard.frames import F32, U8
from streamguard.lab import export as files
from streamguard.lab.augment import Crop
from streamguard.lab.batches import Batches
from streamguard.lab.calibrate import Calibration, calibrate, maxima_of, scored
from streamguard.lab.card import card
from streamguard.lab.data import SOURCES, STILLS, FaceStore, Part
from streamguard.lab.forge import table
from streamguard.lab.minutes import minutes
from streamguard.lab.model import PRETRAINED, settle_cpu
from streamguard.lab.openings import with_openings
from streamguard.lab.origin import Lineage
from streamguard.lab.probe import probe
from streamguard.lab.scoring import EACH, Faces, Track, faces_of, tracks_of
from streamguard.lab.search.spaces import read_design
from streamguard.lab.statistics import BINS, auc, ece, interval
from streamguard.lab.train import TrainConfig, lineage, mixture_of, trained
from streamguard.pixels import RESAMPLER

LARGEST_LOSS: Final = 0.005  # AUC that int8 may lose; with more it does not ship
QUANTISED_ON: Final = 12  # batches of the fit part
TOLD_EVERY: Final = 20  # simulated minutes
MINUTES: Final = 200  # simulated ones; of 99, the least that promises 1 %, the worst one sets the threshold alone
_LOG = logging.getLogger(__name__)
_USED: Final = {
    "dfdc": "real and fake (mixed swaps), ground of forgeries",
    "openforensics": "real and fake (GAN faces blended in), ground of forgeries",
    "stylegan": "FFHQ real and StyleGAN1 fake, ground of forgeries",
    "utkface": "ground of forgeries only (half of it; the other half calibrates)",
    "talking": "ground of forgeries only: real faces in real video",
}


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """How an engine is made of a run. ``each``: pictures of a source and label that figures are taken on; ``minutes``:
    simulated ones that operating points are set on; ``keep_models``: those in the engine folder stay."""

    version: str = "0.1.0"
    threads: int = 1
    each: int = EACH
    minutes: int = MINUTES
    created: str = ""  # a date; today if empty
    machine: str = ""  # words for the card; found if empty
    keep_models: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Everything that figures are taken on."""

    search: Faces
    calibration: Faces
    tracks: Mapping[Part, Sequence[Track]]


def make_engine(
    run: Annotated[Path, typer.Option(help="Run folder of `lab train`; metrics.json is added to it.")],
    out: Annotated[Path, typer.Option(help="Engine folder, made or overwritten.")],
    version: Annotated[str, typer.Option(help="Of the engine.")] = "0.1.0",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads of the measurements.")] = 1,
    machine: Annotated[str, typer.Option(help="The machine in words, for the card.")] = "",
    each: Annotated[int, typer.Option(min=4, help="Pictures of a source and label in each figure.")] = EACH,
    simulated: Annotated[
        int, typer.Option(min=99, help="Simulated real minutes that operating points are set on.")
    ] = MINUTES,
    keep_models: Annotated[
        bool,
        typer.Option("--keep-models", help="Leave the models in --out as they are; measure and calibrate them anew."),
    ] = False,
) -> None:
    """Export a trained run as an engine folder: variants, manifest, card and licence, each figure measured."""
    config = EngineConfig(version, threads, each, simulated, machine=machine, keep_models=keep_models)
    write_engine(FaceStore(run.parent / "faces.h5"), run, out, config)


def write_engine(store: FaceStore, run: Path, out: Path, config: EngineConfig) -> dict[str, Any]:
    """As :func:`make_engine`; returns the figures.

    Raises:
        UsageError: a figure is missing, or a model that was to be kept.
    """
    settle_cpu(config.threads)
    net, training, _ = trained(run)
    crop = Crop(training.size, training.margin)
    name = out.resolve().name
    models = {"fp32": out / "model.onnx", "int8": out / "model.int8.onnx"}
    if config.keep_models:
        _refuse_missing(models.values())
    else:
        out.mkdir(parents=True, exist_ok=True)
        files.export(net, models["fp32"], training.size)
        files.quantise(models["fp32"], models["int8"], _quantised_on(store, training))
    _LOG.info("models are in '%s'; faces and tracks to measure them on are cut", out)
    held = Held(
        faces_of(store, "search", crop, each=config.each),
        faces_of(store, "calibration", crop, seed=8, each=config.each),
        {part: tracks_of(store, part, crop) for part in ("calibration", "measure")},
    )
    runners = {name: files.Runner(model, config.threads) for name, model in models.items()}
    raw = {name: runner(held.search.pictures) for name, runner in runners.items()}
    figures = _figures(held.search, raw)
    figures |= {f"ms_{n}": round(_milliseconds(r, held.search.pictures[:1]), 2) for n, r in runners.items()}
    _LOG.info("a face takes %s", ", ".join(f"{figures[f'ms_{name}']} ms ({name})" for name in runners))
    figures["int8_loss"] = round(_loss(figures["figures"]), 4)
    figures["int8_ships"] = figures["int8_loss"] <= LARGEST_LOSS
    if not figures["int8_ships"]:
        _LOG.warning("int8 loses %.2f points of AUC and does not ship", 100 * figures["int8_loss"])
        models.pop("int8").unlink()
        del runners["int8"]
    filmed = _filmed(store, runners, crop, config.minutes)
    scales = {n: calibrate(r, held.calibration, held.tracks["calibration"], filmed[n]) for n, r in runners.items()}
    created = config.created or f"{datetime.now(UTC):%Y-%m-%d}"
    way = lineage(run)
    metrics = _training_facts(net, way, store) | {
        "name": name, "version": config.version, "date": created, "size": training.size, "margin": training.margin,
        "batch": training.batch, "resampler": RESAMPLER, "bins": BINS, **_origin(training),
        "machine": config.machine or f"{platform.machine()}, {config.threads} thread(s)",
        "command": f"streamguard lab export --run runs/{run.name} --out engines/{name} --each {config.each} "
        f"--simulated {config.minutes}" + " --keep-models" * config.keep_models,
    }  # fmt: skip
    metrics |= figures | _points(held, raw, runners, scales) | _probed(store, training)
    (run / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
    facts = files.Facts(name, config.version, created, training.size, training.margin,
                        {n: (s.temperature, s.bias) for n, s in scales.items()},
                        {n: s.points for n, s in scales.items()})  # fmt: skip
    files.write_manifest(out, files.manifest(models, facts))
    way.write(out)
    (out / "CARD.md").write_text(with_openings(card(metrics), out), encoding="utf-8")
    return metrics


def _refuse_missing(models: Iterable[Path]) -> None:
    missing = [str(model) for model in models if not model.is_file()]
    if missing:
        raise UsageError(f"--keep-models: {', '.join(missing)} is not there. Leave the option out to make it.")


def _quantised_on(store: FaceStore, training: TrainConfig) -> U8:
    batches = Batches(store, replace(mixture_of(training), batch=16, seed=5, twins=0), QUANTISED_ON)
    return np.concatenate([batches[step][0] for step in range(QUANTISED_ON)])


def _filmed(
    store: FaceStore, runners: Mapping[str, files.Runner], crop: Crop, count: int
) -> dict[str, list[tuple[F32, F32]]]:
    """Times and raw logits of ``count`` simulated minutes, by variant; their pictures would fill the memory."""
    found: dict[str, list[tuple[F32, F32]]] = {name: [] for name in runners}
    for done, minute in enumerate(minutes(store, crop, count), 1):
        for name, runner in runners.items():
            found[name].append((minute.pts, runner(minute.pictures)))
        if done % TOLD_EVERY == 0 or done == count:
            _LOG.info("simulated minute %d of %d", done, count)
    return found


def _training_facts(net: Any, way: Lineage, store: FaceStore) -> dict[str, Any]:
    people = store.rows("talking")
    counts = {p: len(set(people["group"][people["part"] == p.encode()])) for p in ("fit", "calibration", "measure")}
    return {
        "parameters": round(sum(p.numel() for p in net.parameters()) / 1e6, 2),
        "steps": sum(stage.steps for stage in way.stages),
        "minutes": round(way.seconds / 60),
        "lineage": asdict(way),
        "cores": "one to two shared CPU cores",
        "people": sum(counts.values()),
        **{f"people_{part}": count for part, count in counts.items()},
        "data": _data(store, way),
    }


def _data(store: FaceStore, way: Lineage) -> list[dict[str, Any]]:
    """What each source was used as; a source whose fakes no stage was shown gave its real faces alone."""
    shown = {source for stage in way.stages for source in table.choose(stage.families).supplied}
    rows = []
    for source in SOURCES:
        closed = way.whole and source in STILLS and source not in shown
        faces = store.find(source, "fit", 0 if closed else None)
        used = "ground of forgeries only: its fakes were not shown" if closed else _USED[source]
        rows.append({"source": source, "used": used, "faces": int(faces.size)})
    return rows


def _origin(training: TrainConfig) -> dict[str, Any]:
    """``net`` and ``pretrained`` in words, and whether it was searched: what the card says of where the net comes
    from."""
    imagenet = f"ImageNet weights ({PRETRAINED})"
    if not training.architecture.startswith("{"):
        return {"net": "EfficientNet-Lite0", "pretrained": imagenet, "searched": False}
    design = read_design(training.architecture)
    started = design.space == "edge/pretrained" or design.values.get("block") == "efficient"
    net = f"A net that `lab search` found (`{design.text}`)"
    return {"net": net, "pretrained": imagenet if started else "nothing", "searched": True}


def _figures(search: Faces, raw: Mapping[str, F32]) -> dict[str, Any]:
    """AUC by kind and source of each variant that was made, by its raw logits."""
    sets = [("plain", s) for s in STILLS] + [("chain", s) for s in STILLS] + [("forged", None)]
    sets += [("forged", str(s)) for s in np.unique(search.source)]
    figures = []
    for kind, source in sets:
        rows = search.where(kind, source)
        if not rows.size:
            continue
        label, group = search.label[rows], search.group[rows]
        row: dict[str, Any] = {"name": f"{kind}, {source or 'all grounds'}", "n": int(rows.size)}
        for name, scores in raw.items():
            low, high = interval(auc, scores[rows], label, group)
            row[name] = {"value": auc(scores[rows], label), "low": low, "high": high}
        figures.append(row)
    return {"figures": figures}


def _points(
    held: Held, raw: Mapping[str, F32], runners: Mapping[str, files.Runner], scales: Mapping[str, Calibration]
) -> dict[str, Any]:
    """ECE, operating points, and false alarms on talking people, of each variant that ships."""
    found: dict[str, Any] = {"points": {name: scale.points for name, scale in scales.items()}}
    for name, scale in scales.items():
        found[f"ece_{name}"] = round(ece(scale.calibrated(raw[name]), held.search.label), 3)
    found["tracks"] = [
        _alarms(part, tracks, name, runners[name], scales[name])
        for part, tracks in held.tracks.items()
        for name in runners
    ]
    return found


def _alarms(part: str, tracks: Sequence[Track], name: str, runner: files.Runner, scale: Calibration) -> dict[str, Any]:
    found = scored(runner, scale, tracks)
    scores = np.concatenate([logits for _, logits in found])
    point = scale.points["default"]
    return {
        "people": part, "variant": name, "tracks": len(found), "scores": int(scores.size),
        "above_zero": float((scores > 0).mean()), "above_default": float((scores >= point["threshold"]).mean()),
        "flagged": maxima_of(found).flagged(point["threshold"], point["rise"]),
    }  # fmt: skip


def _milliseconds(runner: files.Runner, picture: U8, rounds: int = 30) -> float:
    for _ in range(5):
        runner(picture)
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        runner(picture)
        times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def _probed(store: FaceStore, training: TrainConfig) -> dict[str, float]:
    found = probe(store, replace(mixture_of(training), seed=training.seed + 100, twins=0))
    return {f"probe_{name}": round(value, 3) for name, value in found.items()}


def _loss(figures: Sequence[Mapping[str, Any]]) -> float:
    """Mean over all sets of the AUC that int8 loses against fp32."""
    return sum(row["fp32"]["value"] - row["int8"]["value"] for row in figures) / len(figures)
