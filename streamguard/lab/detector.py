"""``streamguard lab detector``: the face detector, from pictures to an engine folder.

    streamguard lab detector --out runs/detector --threads 1
    streamguard lab detector --out runs/detector --resume --engine engines/face-yolov8n

One run folder holds it all: ``config.yaml`` (recipe, seed, versions), ``dataset/`` (made from
``$STREAMGUARD_DATA``; real people, research terms: never to be copied out), ``training/`` (ultralytics' own),
``model.onnx``, ``model.int8.onnx`` and ``metrics.json``. Each step is skipped when ``--resume`` finds it done.
"""

from __future__ import annotations

import json
import logging
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
import yaml
from rich.console import Console

from streamguard.errors import UsageError
from streamguard.frames import Box
from streamguard.inference.processor import int8_is_exact, processor
from streamguard.lab.dataset import Dataset
from streamguard.lab.detector_data import Labelled, write_dataset
from streamguard.lab.detector_training import Recipe, isolate, recorded, train
from streamguard.pixels import RESAMPLER

log = logging.getLogger(__name__)

DEFAULTS = Recipe()
CALIBRATION = 120
"""Pictures for the int8 ranges."""

TOOLS = ("ultralytics", "torch", "onnx", "onnxruntime", "openvino", "numpy")
PACKAGES = {"ultralytics": "ultralytics-opencv-headless"}


def detector(
    out: Annotated[Path, typer.Option(help="Run folder; made if absent.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the pictures.")] = DEFAULTS.epochs,
    pictures: Annotated[int, typer.Option(min=16, help="Training pictures, composites included.")] = DEFAULTS.pictures,
    size: Annotated[
        int, typer.Option(min=64, help="Training size of the last passes, px; a multiple of 32.")
    ] = DEFAULTS.size,
    held_out: Annotated[int, typer.Option(min=1, help="Pictures held out for the measures.")] = DEFAULTS.held_out,
    seed: Annotated[int, typer.Option(help="Seed of the split, the composites and the training.")] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = DEFAULTS.threads,
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
    engine: Annotated[Path | None, typer.Option(help="Write the engine folder here when done.")] = None,
) -> None:
    """Train the YOLOv8n face detector from scratch, export and measure it. Data by $STREAMGUARD_DATA."""
    if size % 32:
        raise UsageError(f"--size {size} is not a multiple of 32, the net's largest stride.")
    if not int8_is_exact():
        raise UsageError(
            f"this processor ({processor()}) has no VNNI, so the detector's int8 file can't be measured on it as "
            "it is. Train on one that has it."
        )
    small = min(DEFAULTS.small_size, size)
    recipe = Recipe(epochs, pictures, size, small, held_out=held_out, seed=seed, threads=threads)
    console = Console(stderr=True)
    data = Dataset.from_environment()
    out.mkdir(parents=True, exist_ok=True)
    isolate(out / "ultralytics")
    begin(out, recipe, resume)
    console.log(f"run folder: {out}")
    described = prepare(data, out, recipe)
    console.log(f"pictures: {described}")
    weights = train(recipe, out / "dataset" / "data.yaml", out / "training", resume)
    finish(data, out, recipe, weights, engine, console)


def begin(out: Path, recipe: Recipe, resume: bool) -> None:
    """Record the recipe and the versions; a run folder belongs to one recipe.

    Raises:
        UsageError: the folder holds a run and ``resume`` is off, or its recipe is another.
    """
    path = out / "config.yaml"
    if path.is_file():
        if not resume:
            raise UsageError(f"'{out}' holds a run already. Use --resume to go on with it, or another --out.")
        held: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        differing = [k for k, v in recorded(recipe).items() if k != "threads" and held["recipe"].get(k) != v]
        if differing:
            raise UsageError(f"'{out}' was begun with other values of {', '.join(differing)}. Use another --out.")
        return
    versions = {tool: version(PACKAGES.get(tool, tool)) for tool in TOOLS}
    config = {"recipe": dict(recorded(recipe)), "versions": versions, "python": platform.python_version()}
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def prepare(data: Dataset, out: Path, recipe: Recipe) -> dict[str, int]:
    """Write ``dataset/`` unless it is whole; returns the counts in ``dataset/counts.json``."""
    folder = out / "dataset"
    counted = folder / "counts.json"
    if not counted.is_file():
        counts = write_dataset(data, folder, recipe.pictures, recipe.held_out, recipe.seed)
        described = {
            "path": str(folder.resolve()), "train": "images/train", "val": "images/held_out", "names": {0: "face"}
        }  # fmt: skip
        (folder / "data.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
        counted.write_text(json.dumps(counts, indent=1) + "\n", encoding="utf-8")
    counts = json.loads(counted.read_text(encoding="utf-8"))
    return counts


def finish(data: Dataset, out: Path, recipe: Recipe, weights: Path, engine: Path | None, console: Console) -> None:
    """Export both variants, measure them, write ``metrics.json`` and, if asked for, the engine folder."""
    from streamguard.lab.detector_export import export, quantise, write_engine

    console.log("export")
    pictures = calibration_pictures(out)
    export(weights, out / "model.onnx", recipe.size)
    quantise(out / "model.onnx", out / "model.int8.onnx", pictures)
    console.log("measure")
    metrics = measure(data, out, recipe)
    (out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    console.log(metrics)
    if engine is not None:
        write_engine(out, engine)
        console.log(f"engine: {engine}")


def calibration_pictures(out: Path) -> list[Path]:
    """Training pictures for int8, spread evenly over plain ones and composites."""
    pictures = sorted((out / "dataset" / "images" / "train").glob("*.jpg"))
    return pictures[:: max(1, len(pictures) // CALIBRATION)][:CALIBRATION]


def items_of(out: Path, part: str) -> list[Labelled]:
    """The pictures of one part of ``dataset/`` with their boxes, as the label files state them."""
    items = []
    for path in sorted((out / "dataset" / "images" / part).glob("*.jpg")):
        rgb = np.asarray(cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB), np.uint8)
        h, w = rgb.shape[:2]
        lines = (out / "dataset" / "labels" / part / f"{path.stem}.txt").read_text(encoding="utf-8").splitlines()
        shares = [[float(v) for v in line.split()[1:]] for line in lines]
        boxes = (Box((x - bw / 2) * w, (y - bh / 2) * h, (x + bw / 2) * w, (y + bh / 2) * h) for x, y, bw, bh in shares)
        items.append(Labelled(rgb, tuple(boxes)))
    return items


def measure(data: Dataset, out: Path, recipe: Recipe) -> dict[str, Any]:
    """Everything the card states, through the serving letterbox and the OpenVINO backend at explicit precision."""
    from streamguard.inference.engines import load_engine
    from streamguard.lab import detector_measure as dm
    from streamguard.lab.detector_export import stage

    engine = load_engine(stage(out, recipe.size, 0.5))
    detect = {variant: dm.engine_detector(engine, variant) for variant in ("fp32", "int8")}
    parts = {"plain": items_of(out, "held_out"), "composites": items_of(out, "small")}
    hits = {
        part: {v: [dm.hits(d(i.picture), i.boxes) for i in items] for v, d in detect.items()}
        for part, items in parts.items()
    }
    confidence = dm.best_confidence([h for part in hits.values() for h in part["fp32"]])
    hand = dm.hand_boxes(data.root / "dlib_faces")
    yunet = dm.teacher(data.root / "weights" / "yunet_n_320_320.onnx", recipe.size)
    made = len(list((out / "dataset" / "images" / "train").glob("made*.jpg")))
    config: dict[str, Any] = yaml.safe_load((out / "config.yaml").read_text(encoding="utf-8"))
    return {
        "version": engine.version, "size": recipe.size, "confidence": confidence, "resampler": RESAMPLER,
        "calibration": len(calibration_pictures(out)), "seed": recipe.seed, "command": command(recipe),
        "date": datetime.now(UTC).date().isoformat(), "machine": f"{platform.machine()} CPU",
        "runtime": "OpenVINO, fp32 accumulation", "training_minutes": training_minutes(out),
        "dataset": prepare(data, out, recipe) | {"train_composites": made},
        "recipe": config["recipe"], "versions": config["versions"], "remark": config.get("remark", "as configured"),
        "precision": {p: {v: dm.precision_summary(h) for v, h in part.items()} for p, part in hits.items()},
        "operating": {p: {v: dm.at_confidence(h, confidence) for v, h in part.items()} for p, part in hits.items()},
        "recall_by_width": {
            v: dm.recall_by_width(d, parts["composites"], recipe.size, confidence) for v, d in detect.items()
        },
        "hand_boxes": {
            "pictures": len(hand),
            **{v: dm.hand_recall(d, hand, confidence) for v, d in detect.items()},
            "yunet": dm.hand_recall(yunet, hand, 0.6),
        },
        "int8_against_fp32": dm.difference(detect["fp32"], detect["int8"], parts["plain"], confidence),
    }  # fmt: skip


def command(recipe: Recipe) -> str:
    """The command line that repeats a run."""
    return (
        f"streamguard lab detector --out RUN --epochs {recipe.epochs} --pictures {recipe.pictures} "
        f"--size {recipe.size} --held-out {recipe.held_out} --seed {recipe.seed} --threads {recipe.threads}"
    )


def training_minutes(out: Path) -> float:
    """Wall time of all passes, over every resume, minutes."""
    seconds: list[float] = json.loads((out / "training" / "seconds.json").read_text(encoding="utf-8"))
    return round(sum(seconds) / 60, 1)
