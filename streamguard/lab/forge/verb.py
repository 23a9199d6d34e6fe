"""``streamguard lab forge``: forgeries of every family, to look at and to measure, before anything is trained on them.

    streamguard lab forge --out runs/forge --each 60
    streamguard lab forge --out runs/forge --families blends,-poisson --seed 2
    streamguard lab forge --out runs/forge --each 60 --resume          # after a break

The run folder holds config.json, log.jsonl (a line a pair), a contact sheet FAMILY.png and its figures FAMILY.json for
each family, and metrics.json, all figures together: pairs made, refusals by reason, pixels changed outside the mask
(there are none, or the run fails), milliseconds of CPU a pair, reading included, and the quality probe: how far
sharpness, blockiness and colour tell real from fake after the chain. Far above 0.5 it says that a net could learn
quality in place of forgery. A pair depends on seed, family and its number alone, so a resumed run ends as an unbroken
one.
"""

from __future__ import annotations

import json
import time
import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, cast

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamguard.errors import InputUnreadable, PictureSize, UsageError
from streamguard.frames import F32, U8
from streamguard.lab.audit import judge
from streamguard.lab.augment import Crop
from streamguard.lab.batches import GROUND
from streamguard.lab.data import FaceStore, Part, build_store
from streamguard.lab.dataset import Dataset
from streamguard.lab.forge.forger import Forged, Forger
from streamguard.lab.forge.meshfile import Meshes, build_meshes, digest_of
from streamguard.lab.forge.sheet import strip, write_sheet
from streamguard.lab.forge.table import FAMILIES, choose
from streamguard.lab.policies import DEFAULT, policy_of
from streamguard.lab.probe import quality_features

SHOWN: Final = 24
"""Pairs on a contact sheet."""
TRIES: Final = 50
"""Faces drawn for one pair; if all are refused, something is wrong with the store."""
OPEN: Final = ("fit", "search", "calibration", "measure")
"""Parts that may be looked at; the test may not."""
_WIDE: Final = 160  # characters


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run depends on, besides the faces. ``each``: pairs of a family. ``size``: of the crop that is probed."""

    families: str = "all"
    each: int = 60
    seed: int = 1
    part: Part = "fit"
    policy: str = DEFAULT
    size: int = 176


_DEFAULT: Final = Settings()


def forge(
    out: Annotated[Path, typer.Option(help="Run folder; faces.h5, shared by all runs, lies beside it.")],
    families: Annotated[
        str, typer.Option(help="all, or names of families and groups: blends,warp or all,-blends.")
    ] = _DEFAULT.families,
    each: Annotated[int, typer.Option(min=1, help="Pairs of each family.")] = _DEFAULT.each,
    seed: Annotated[int, typer.Option(help="Seed of faces, forgeries and chain.")] = _DEFAULT.seed,
    part: Annotated[str, typer.Option(help="Whose faces: fit, search, calibration or measure.")] = _DEFAULT.part,
    policy: Annotated[str, typer.Option(help="Chain before the probe; see lab train.")] = _DEFAULT.policy,
    resume: Annotated[bool, typer.Option(help="Go on with what the run folder holds.")] = False,
) -> None:
    """Forge pairs of every family: contact sheets, times, and what quality alone gives away. Data by
    $STREAMGUARD_DATA."""
    if part not in OPEN:
        raise UsageError(f"--part '{part}' is unknown. Known: {', '.join(OPEN)}.")
    settings = Settings(families, each, seed, cast(Part, part), policy)
    choose(families)  # wrong names end it before hours of detection begin
    policy_of(policy)
    store = build_store(Dataset.from_environment(), out.parent / "faces.h5")
    metrics = run(store, build_meshes(store), out, settings, resume=resume, console=Console(stderr=True))
    Console(soft_wrap=True, width=_WIDE).print(_table(metrics), crop=False)  # a table that is cut says nothing


def run(
    store: FaceStore, meshes: Meshes, out: Path, settings: Settings, *, resume: bool, console: Console
) -> dict[str, Any]:
    """All families; returns what metrics.json holds.

    Raises:
        UsageError: a family or policy is unknown, the folder holds a run already, the part has no second identity.
        InputUnreadable: the part has no real face, or hardly one that can be forged.
    """
    cv2.setNumThreads(1)
    names = list(choose(settings.families).families)
    _begin(out, settings, digest_of(store), resume=resume)
    grounds = {source: store.find(source, settings.part, 0) for source in GROUND}
    grounds = {source: rows for source, rows in grounds.items() if rows.size}
    if not grounds:
        raise InputUnreadable(f"part '{settings.part}' of '{store.path}' holds no real face: nothing can be forged.")
    open_names = [name for name in names if not (out / f"{name}.json").is_file()]
    forger = Forger(store, meshes, settings.part, dict.fromkeys(names, 1 / len(names)), tuple(grounds))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        done = settings.each * (len(names) - len(open_names))
        task = progress.add_task("forge", total=settings.each * len(names), completed=done)
        for name in open_names:
            progress.update(task, description=name)
            found = _Family(name, settings, forger, grounds)
            for number in range(settings.each):
                line = found.add(number)
                with (out / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(line) + "\n")
                progress.advance(task)
            write_sheet(found.strips, name, out / f"{name}.png")
            _write(out / f"{name}.json", found.figures())  # last: it says that the family is done
    metrics = {
        "families": {name: json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in names},
        "faces": {source: int(rows.size) for source, rows in grounds.items()},
        "without_mesh": {source: meshes.lacking(source, rows) for source, rows in grounds.items()},
    }
    _write(out / "metrics.json", metrics)
    return metrics


class _Family:
    """The pairs of one family as they are made."""

    def __init__(self, name: str, settings: Settings, forger: Forger, grounds: Mapping[str, np.ndarray]) -> None:
        self.name, self.settings, self._forger, self._grounds = name, settings, forger, grounds
        self.strips: list[U8] = []
        self._refused: Counter[str] = Counter()
        self._times: list[float] = []
        self._features: list[F32] = []
        self._groups: list[str] = []
        self._outside = self._fallback = 0

    def add(self, number: int) -> dict[str, Any]:
        """Make pair ``number``; returns its line of the log."""
        rng = np.random.default_rng((self.settings.seed, zlib.crc32(self.name.encode()), number))
        source, index, made, spent = self._forged(rng)
        pair, box = made.pair, made.ground.box
        self._times.append(spent)
        self._fallback += not made.ground.measured
        self._outside += int((pair.real != pair.fake)[pair.mask == 0].sum())
        chain = policy_of(self.settings.policy)(int(rng.integers(2**31)))
        crop = Crop(self.settings.size)
        self._features += [quality_features(chain.apply(p, box, crop)) for p in (pair.real, pair.fake)]
        self._groups += [made.ground.group] * 2
        if len(self.strips) < SHOWN:
            self.strips.append(strip(pair, box))
        return {
            "family": self.name, "number": number, "source": source, "index": index, "group": made.ground.group,
            "partner": made.partner, "measured": made.ground.measured, "milliseconds": round(spent, 2),
            "covered": round(float(pair.mask.mean()) / 255, 4), "parameters": repr(made.family),
        }  # fmt: skip

    def _forged(self, rng: np.random.Generator) -> tuple[str, int, Forged, float]:
        sources = list(self._grounds)
        share = np.array([GROUND[source] for source in sources])
        refusal = ""
        for _ in range(TRIES):
            source = sources[int(rng.choice(len(sources), p=share / share.sum()))]
            index = int(self._grounds[source][rng.integers(self._grounds[source].size)])
            started = time.process_time()
            try:
                made = self._forger.forge(source, index, rng, self.name)
            except PictureSize as error:
                refusal = str(error)
                self._refused[source] += 1
                continue
            return source, index, made, 1000 * (time.process_time() - started)
        raise InputUnreadable(f"{TRIES} faces in a row can't be forged by '{self.name}'. The last one: {refusal}")

    def figures(self) -> dict[str, Any]:
        """What FAMILY.json holds. Raises InputUnreadable if anything outside a mask changed."""
        if self._outside:
            raise InputUnreadable(f"'{self.name}' changed {self._outside} values outside its masks. It is broken.")
        labels = np.tile(np.array([0, 1], np.uint8), len(self._times))
        probe, span = judge(np.stack(self._features), labels, self._groups, self.settings.seed)
        return {
            "group": FAMILIES[self.name].group,
            "after": FAMILIES[self.name].source,
            "made": len(self._times),
            "refused": dict(sorted(self._refused.items())),
            "without_mesh": self._fallback,
            "changed_outside_mask": self._outside,
            "milliseconds": {
                "median": round(float(np.median(self._times)), 2),
                "p95": round(float(np.quantile(self._times, 0.95)), 2),
            },
            "probe": {"auc": probe, "interval": span},
        }


def _begin(out: Path, settings: Settings, store: str, *, resume: bool) -> None:
    config = {**asdict(settings), "store": store}
    file = out / "config.json"
    if not file.is_file():
        out.mkdir(parents=True, exist_ok=True)
        _write(file, config)
        return
    if not resume:
        raise UsageError(f"'{out}' holds a run already. Add --resume, or name another folder.")
    told = json.loads(file.read_text(encoding="utf-8"))
    differing = sorted(key for key in config.keys() | told.keys() if config.get(key) != told.get(key))
    if differing:
        raise UsageError(f"'{out}' was begun with other values of {', '.join(differing)}. Use another --out.")
    _forget_the_broken(out)


def _forget_the_broken(out: Path) -> None:
    """Drop the log's lines of a family that was broken off: it is begun anew."""
    log = out / "log.jsonl"
    if log.is_file():
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        kept = [line for line in lines if (out / f"{json.loads(line)['family']}.json").is_file()]
        log.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def _table(metrics: Mapping[str, Any]) -> Table:
    table = Table("family", "group", "made", "refused", "CPU ms, median", "p95", "probe AUC", "95 % interval")
    for name, found in metrics["families"].items():
        probe, span = found["probe"]["auc"], found["probe"]["interval"]
        shown = ("not judged", "") if probe is None else (f"{probe:.3f}", f"{span[0]:.3f} - {span[1]:.3f}")
        times = [f"{found['milliseconds'][key]:.1f}" for key in ("median", "p95")]
        table.add_row(name, found["group"], str(found["made"]), str(sum(found["refused"].values())), *times, *shown)
    return table
