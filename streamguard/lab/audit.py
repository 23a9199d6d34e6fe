"""``streamguard lab audit``: does anything leak from one part into another, or from a picture's quality into its label?

    streamguard lab audit runs/celeb/faces.h5 runs/celeb/split.json

It fails (exit code 1, each failure named) on

* a person, video or recording in two parts, or a fake of a declared family outside its part;
* two faces of different parts whose perceptual hashes differ in at most :data:`~streamguard.lab.phash.NEIGHBOUR` bits;
* a probe above :data:`LIMIT`: logistic regression on compression (blockiness, energy of fine detail), sharpness, colour
  moments and the detail that a small face lacks, measured on what leaves the training chain, since that is what a net
  sees. Beside it stands the raw figure, of the pictures as stored with the face's size in its frame. A source that
  fails is to be equalised or dropped.

The probe is cross-validated: no component is in both the folds that fit it and the fold that measures it. It never
looks at the part ``test``. A source with one label only is listed: shown in training, it would be the label.

The run folder (``split.audit/`` beside the split) holds config.json, log.txt, metrics.json and probe.png.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from streamguard.frames import F32, U8, Box
from streamguard.lab.augment import Chain, Crop
from streamguard.lab.data_plots import probe_figures, save
from streamguard.lab.facefile import FaceFile
from streamguard.lab.faces import run_folder
from streamguard.lab.phash import NEIGHBOUR, neighbours
from streamguard.lab.probe import quality_features
from streamguard.lab.split import PARTS, Facts, components_of, read_split, rows_of
from streamguard.lab.statistics import auc, interval

LIMIT: Final = 0.60
LEAST: Final = 20
"""Faces of each label that a source needs to be judged."""
FOLDS: Final = 5
NAMED: Final = 10
"""Neighbours that are named; the others are counted."""
EVERYTHING: Final = "all sources"


@dataclass(frozen=True, slots=True)
class Settings:
    """``size``, ``margin``: the crop that leaves the chain. ``each``: faces of a source and label that are probed."""

    size: int = 176
    margin: float = 0.0
    each: int = 400
    seed: int = 1


_DEFAULT: Final = Settings()


def audit(
    faces: Annotated[Path, typer.Argument(help="Face file.")],
    split: Annotated[Path, typer.Argument(help="Its split.")],
    size: Annotated[int, typer.Option(min=32, help="Side of the crop that leaves the chain, px.")] = _DEFAULT.size,
    margin: Annotated[float, typer.Option(min=0, help="Its margin, as in training.")] = _DEFAULT.margin,
    each: Annotated[int, typer.Option(min=LEAST, help="Faces probed of a source and label.")] = _DEFAULT.each,
    seed: Annotated[int, typer.Option(help="Seed of the faces drawn and of the chain.")] = _DEFAULT.seed,
) -> None:
    """Fail if parts share anything, or if picture quality alone tells real from fake."""
    cv2.setNumThreads(1)
    settings = Settings(size, margin, each, seed)
    file = FaceFile(faces)
    found = read_split(split, file)
    metrics = examine(file, found, settings)
    config = {**asdict(settings), "limit": LIMIT, "neighbour_bits": NEIGHBOUR, "faces_sha256": found["faces_sha256"]}
    _write(run_folder(split, "audit"), config, metrics)
    _tell(metrics)
    if metrics["failures"]:
        raise typer.Exit(1)


def examine(file: FaceFile, found: Mapping[str, Any], settings: Settings) -> dict[str, Any]:
    """``neighbours_across_parts``, ``probe`` (see :func:`probes`) and ``failures``, a line each."""
    facts, rows = Facts.of(file), rows_of(found, file)
    part_of = {row: part for part, of in rows.items() for row in of}
    near = list(neighbours(facts.hashes, NEIGHBOUR))
    failures = straddling(facts, part_of) + strayed(facts, part_of, found["families"])
    close = [(one, other) for one, other in near if _apart(part_of, one, other)]
    failures += [_closeness(facts, part_of, file, pair) for pair in close[:NAMED]]
    if len(close) > NAMED:
        failures.append(f"{len(close) - NAMED} more neighbours across parts")
    components = components_of(facts, near, found["swaps"])
    groups = [components.find(facts.nodes(row)[0]) for row in range(len(facts.video))]
    usable = sorted(row for part in PARTS if part != "test" for row in rows[part])
    probed = probes(file, facts, groups, usable, settings)
    failures += [
        f"{name}: quality tells real from fake after the training chain, AUC {result['chain']:.3f} (limit {LIMIT}). "
        "Equalise this source or drop it."
        for name, result in probed.items()
        if result["chain"] is not None and result["chain"] > LIMIT
    ]
    if not any(result["chain"] is not None for result in probed.values()):
        failures.append(f"no source has {LEAST} faces of each label outside the test: nothing could be probed")
    return {"neighbours_across_parts": len(close), "probe": probed, "failures": failures}


def straddling(facts: Facts, part_of: Mapping[int, str]) -> list[str]:
    """Persons, videos and recordings with faces in more than one part, one line each."""
    parts: dict[str, set[str]] = defaultdict(set)
    for row, part in part_of.items():
        for node in facts.nodes(row):
            parts[node].add(part)
    return [f"{node} is in the parts {', '.join(sorted(of))}" for node, of in sorted(parts.items()) if len(of) > 1]


def strayed(facts: Facts, part_of: Mapping[int, str], families: Mapping[str, str]) -> list[str]:
    """Declared families with fakes outside their part, one line each."""
    counts: Counter[tuple[str, str]] = Counter()
    for row, part in part_of.items():
        family = facts.generator[row]
        if facts.fake[row] and families.get(family, part) != part:
            counts[family, part] += 1
    return [f"family {name}: {n} faces in part {part}, declared otherwise" for (name, part), n in counts.items()]


def _apart(part_of: Mapping[int, str], one: int, other: int) -> bool:
    parts = {part_of.get(one), part_of.get(other)} - {None}
    return len(parts) == 2


def _closeness(facts: Facts, part_of: Mapping[int, str], file: FaceFile, pair: tuple[int, int]) -> str:
    frames = file.column("frame")
    (one, first), (other, second) = (
        (part_of[row], f"{facts.video[row]} frame {frames[row]} ({part_of[row]})") for row in pair
    )
    bits = int(facts.hashes[pair[0]] ^ facts.hashes[pair[1]]).bit_count()
    return f"neighbours across {one} and {other}: {first}, {second}, {bits} bits apart"


def probes(
    file: FaceFile, facts: Facts, groups: Sequence[str], usable: Sequence[int], settings: Settings
) -> dict[str, dict[str, Any]]:
    """The probe of each source and of all together: numbers of ``real`` and ``fake`` faces, ``raw`` and ``chain`` AUC.

    ``interval`` is that of ``chain``; all three are None for a source with too few faces or people of a label.
    """
    rng = np.random.default_rng(settings.seed)
    chosen: dict[str, list[int]] = {}
    results: dict[str, dict[str, Any]] = {}
    for source in sorted({facts.source[row] for row in usable}):
        by_label = [
            [r for r in usable if facts.source[r] == source and facts.fake[r] == fake] for fake in (False, True)
        ]
        results[source] = _empty(len(by_label[0]), len(by_label[1]))
        if min(map(len, by_label)) >= LEAST:
            drawn = [rng.permutation(of)[: settings.each].tolist() for of in by_label]
            chosen[source] = sorted(row for of in drawn for row in of)
    everything = sorted(row for of in chosen.values() for row in of)
    sides = np.log([max(b[2] - b[0], b[3] - b[1], 1.0) for b in file.column("box")])
    boxes = file.column("face")
    raw: dict[int, F32] = {}
    chain: dict[int, F32] = {}
    for row in track(everything, "probe", console=Console(stderr=True), transient=True):
        picture = file.pictures([row])[0]
        raw[row] = np.append(quality_features(picture), np.float32(sides[row]))
        chain[row] = quality_features(leaves_chain(picture, Box(*map(float, boxes[row])), row, settings))
    for name, rows in (*chosen.items(), *([(EVERYTHING, everything)] if len(chosen) > 1 else [])):
        labels, of = facts.fake[rows].astype(np.uint8), [groups[row] for row in rows]
        result = _empty(int((labels == 0).sum()), int(labels.sum()))
        result["raw"], _ = judge(np.stack([raw[row] for row in rows]), labels, of, settings.seed)
        result["chain"], result["interval"] = judge(np.stack([chain[row] for row in rows]), labels, of, settings.seed)
        results[name] = result
    return results


def _empty(real: int, fake: int) -> dict[str, Any]:
    return {"real": real, "fake": fake, "raw": None, "chain": None, "interval": None}


def leaves_chain(picture: U8, box: Box, row: int, settings: Settings) -> U8:
    """What a net would be shown of a face, (size, size, 3) uint8 RGB."""
    seed = int(np.random.default_rng((settings.seed, row)).integers(2**31))
    return Chain(seed).apply(picture, box, Crop(settings.size, settings.margin))


def judge(
    features: F32, labels: npt.NDArray[np.uint8], groups: Sequence[str], seed: int
) -> tuple[float | None, tuple[float, float] | None]:
    """Cross-validated AUC of a logistic regression, with its 95 % interval over groups; None for too few groups.

    ``features`` (N, K) float32; ``labels`` (N,), 1 = fake; ``groups``: what must not be both fitted and measured.
    """
    _, member = np.unique(np.asarray(groups), return_inverse=True)
    least = min(len(set(member[labels == label].tolist())) for label in (0, 1))
    if least < 2:
        return None, None
    scores = np.full(len(labels), np.nan)
    folds = StratifiedGroupKFold(min(FOLDS, least), shuffle=True, random_state=seed)
    for fitted, measured in folds.split(features, labels, member):
        if len(set(labels[fitted].tolist())) < 2:
            continue
        # Balanced: a fold with more fakes leaves fewer to fit on, and that must not lower its scores.
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=500))
        scores[measured] = model.fit(features[fitted], labels[fitted]).decision_function(features[measured])
    known = ~np.isnan(scores)
    if len(set(labels[known].tolist())) < 2:
        return None, None
    low, high = interval(auc, scores[known], labels[known], member[known], seed)
    return round(auc(scores[known], labels[known]), 4), (round(low, 4), round(high, 4))


def _write(run: Path, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> None:
    for name, value in (("config.json", config), ("metrics.json", metrics)):
        (run / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    save(probe_figures(metrics["probe"], LIMIT), run / "probe.png")
    (run / "log.txt").write_text("".join(f"{line}\n" for line in metrics["failures"] or ["passed"]), encoding="utf-8")


def _tell(metrics: Mapping[str, Any]) -> None:
    table = Table("source", "real", "fake", "raw AUC", "AUC after the chain", "95 % interval", title="quality probe")
    for name, result in metrics["probe"].items():
        figures = [result["raw"], result["chain"]]
        shown = ["not judged" if value is None else f"{value:.3f}" for value in figures]
        span = result["interval"]
        shown.append("" if span is None else f"{span[0]:.3f} - {span[1]:.3f}")
        if not result["real"] or not result["fake"]:
            shown = ["one label only", "one label only", ""]
        table.add_row(name, str(result["real"]), str(result["fake"]), *shown)
    console = Console(soft_wrap=True, highlight=False)
    console.print(table)
    console.print(f"neighbours across parts: {metrics['neighbours_across_parts']}")
    for line in metrics["failures"]:
        console.print(f"failed: {line}", style="red", markup=False)
    if not metrics["failures"]:
        console.print("passed", style="green")
