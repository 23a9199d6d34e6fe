"""``streamguard lab faces``: from folders of real and forged video to one file of faces.

    streamguard lab faces /data/Celeb-DF-v2 --out runs/celeb/faces.h5
    streamguard lab faces /data/Celeb-DF-v2 --out runs/celeb/faces.h5 --resume

Beside ``faces.h5`` lies its run folder ``faces.run/``: config.json, log.jsonl (a line a video), metrics.json,
sizes.png. Which faces carry a clip's label is said in :mod:`streamguard.lab.extraction`. A face whose hash is within
:data:`~streamguard.lab.phash.DUPLICATE` bits of one kept before is dropped, if both have the same label, source and
generator: a forgery is no duplicate of the frame that it was made of.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from streamguard.errors import InputUnreadable, UsageError, redact
from streamguard.inference.engines import Engine, load_engine
from streamguard.lab.data_plots import face_sizes, save
from streamguard.lab.extraction import Footage, Recipe, Searcher, extract
from streamguard.lab.facefile import Done, FaceCut, FaceFile
from streamguard.lab.layouts import Clip, read_layout
from streamguard.lab.phash import DUPLICATE, distances

DETECTOR: Final = "face-yolov8n"
_DEFAULT: Final = Recipe()
Result = tuple[list[FaceCut], Counter[str], str | None]


def faces(
    dataset: Annotated[Path, typer.Argument(help="Folder of the data set.")],
    out: Annotated[Path, typer.Option(help="HDF5 file to write; its run folder, OUT with .run, lies beside it.")],
    layout: Annotated[str, typer.Option(help="auto, celeb-df-v2, ffpp, dfdc, plain or supplied.")] = "auto",
    frames: Annotated[int, typer.Option(min=1, help="Frames of a video, spread evenly.")] = _DEFAULT.frames,
    margin: Annotated[
        float, typer.Option(min=0, max=2, help="Room on each side, share of the face's longer side.")
    ] = _DEFAULT.margin,
    size: Annotated[int, typer.Option(min=32, max=1024, help="Side of the pictures, px.")] = _DEFAULT.size,
    seed: Annotated[int, typer.Option(help="Seed of the times at which frames are taken.")] = _DEFAULT.seed,
    threads: Annotated[int, typer.Option(min=1, help="Videos worked on at a time; the result is the same.")] = 1,
    resume: Annotated[bool, typer.Option(help="Go on with a file that was broken off.")] = False,
) -> None:
    """Cut the faces out of a data set of real and forged video. Exit code 1 if a video could not be read."""
    recipe = Recipe(frames, margin, size, seed)
    name, clips = read_layout(dataset, layout)
    engine = load_engine(DETECTOR)
    config = describe(name, clips, recipe, engine)
    file = begin(out, config, recipe.size, resume)
    run = run_folder(out, "run")
    (run / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    console = Console(stderr=True)
    if not file.complete:
        with Footage(dataset) as footage:
            work_off(file, clips, footage, engine, recipe, threads, run / "log.jsonl", console)
        file.finish()
    metrics = summary(file)
    (run / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    Console(soft_wrap=True).print(_table(metrics))
    for text in metrics["unreadable"]:
        console.print(f"unreadable: {redact(text)}", style="red", markup=False, highlight=False)
    for label in ("real", "fake"):
        if not metrics["faces"][label]:
            raise InputUnreadable(f"'{dataset}' ({name}) gave no {label} face. Dropped: {metrics['dropped'][label]}.")
    save(face_sizes(file.column("box"), file.column("label") > 0), run / "sizes.png")
    if metrics["unreadable"]:
        raise typer.Exit(1)


def run_folder(out: Path, kind: str) -> Path:
    """``faces.run`` beside ``faces.h5``, made if absent."""
    folder = out.with_name(f"{out.stem}.{kind}")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def describe(layout: str, clips: Sequence[Clip], recipe: Recipe, engine: Engine) -> dict[str, Any]:
    """What a face file depends on. Its clips stand as a digest: a file belongs to one data set."""
    digest = hashlib.sha256("\n".join(f"{clip.key} {clip.label}" for clip in clips).encode()).hexdigest()
    detector = {"name": engine.name, "version": engine.version, "sha256": engine.sha256}
    return {
        "layout": layout, "clips": len(clips), "clips_sha256": digest, **asdict(recipe), "detector": detector,
        "duplicate_bits": DUPLICATE,
    }  # fmt: skip


def begin(out: Path, config: dict[str, Any], size: int, resume: bool) -> FaceFile:
    """A new face file, or the one there is, cut back to its last whole video.

    Raises:
        UsageError: it exists and ``resume`` is off, is no face file, or was made with another configuration.
        InputUnreadable: it is damaged.
    """
    if not out.exists():
        return FaceFile.create(out, config, size)
    if not resume:
        raise UsageError(f"'{out}' exists. Use --resume to go on with it, or name another --out.")
    file = FaceFile(out)
    differing = sorted(key for key in config.keys() | file.config.keys() if config.get(key) != file.config.get(key))
    if differing:
        raise UsageError(f"'{out}' was begun with other values of {', '.join(differing)}. Use another --out.")
    if not file.complete:
        file.repair()
    return file


def work_off(
    file: FaceFile, clips: Sequence[Clip], footage: Footage, engine: Engine, recipe: Recipe, threads: int,
    log: Path, console: Console,
) -> None:  # fmt: skip
    """Add what ``file`` lacks, clip by clip in their order, whatever the number of threads."""
    cv2.setNumThreads(1)
    done = {mark.video for mark in file.done()}
    open_clips = [clip for clip in clips if clip.key not in done]
    recordings = {(clip.original, clip.source): clip for clip in clips if clip.label == "real"}
    duplicates = Duplicates(file)
    own = threading.local()

    def do(clip: Clip) -> Result:
        if not hasattr(own, "search"):
            own.search = Searcher(engine)
        return extract(clip, footage, own.search, recipe, lambda c: recordings.get((c.original, c.source)))

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("faces", total=len(clips), completed=len(done))
        for clip, (found, dropped, error) in in_order(open_clips, do, threads):
            kept = duplicates.without(clip, found, dropped)
            mark = Done(clip.key, clip.label, len(kept), dict(dropped), error)
            file.append(clip, kept, mark)
            with log.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(asdict(mark), ensure_ascii=False) + "\n")
            progress.advance(task)


def in_order(clips: Sequence[Clip], do: Any, threads: int) -> Iterator[tuple[Clip, Result]]:
    """``do`` for each clip, ``threads`` at a time; results in the clips' order, few of them waiting."""
    pool = ThreadPoolExecutor(threads, thread_name_prefix="faces")
    waiting: deque[tuple[Clip, Future[Result]]] = deque()
    try:
        for clip in clips:
            waiting.append((clip, pool.submit(do, clip)))
            if len(waiting) > threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


class Duplicates:
    """The hashes kept so far, by label, source and generator."""

    def __init__(self, file: FaceFile) -> None:
        self._kept: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        columns = (file.column(name) for name in ("label", "source", "generator", "phash"))
        for label, source, generator, value in zip(*columns, strict=True):
            self._kept["fake" if label else "real", source, generator].append(int(value))

    def without(self, clip: Clip, found: Sequence[FaceCut], dropped: Counter[str]) -> list[FaceCut]:
        """The faces that are new; the others are counted in ``dropped``."""
        before = self._kept[clip.label, clip.source, clip.generator]
        others, own = np.array(before, np.uint64), list[int]()
        kept: list[FaceCut] = []
        for face in found:
            if _near(face.phash, np.array(own, np.uint64)):
                dropped["duplicate in its video"] += 1
            elif _near(face.phash, others):
                dropped["duplicate of another video"] += 1
            else:
                kept.append(face)
                own.append(face.phash)
        before += own
        return kept


def _near(value: int, others: np.ndarray) -> bool:
    return bool(others.size) and int(distances(value, others).min()) <= DUPLICATE


def summary(file: FaceFile) -> dict[str, Any]:
    """Counts by label: faces, clips, clips without a face, dropped faces by reason; by source and generator; errors."""
    marks = file.done()
    dropped: dict[str, Counter[str]] = {"real": Counter(), "fake": Counter()}
    counts: dict[str, Counter[str]] = {"real": Counter(), "fake": Counter()}
    for mark in marks:
        dropped[mark.label].update(mark.dropped)
        state = "unreadable" if mark.error and not mark.kept else "used" if mark.kept else "without a face"
        counts[mark.label].update({"clips": 1, state: 1, "faces": mark.kept})
    kinds = Counter(f"{s}/{g}" for s, g in zip(file.column("source"), file.column("generator"), strict=True))
    return {
        "faces": {label: counts[label].pop("faces", 0) for label in counts},
        "clips": {label: dict(of) for label, of in counts.items()},
        "dropped": {label: dict(of) for label, of in dropped.items()},
        "by_source": dict(sorted(kinds.items())),
        "unreadable": [f"{mark.video}: {mark.error}" for mark in marks if mark.error],
    }


def _table(metrics: dict[str, Any]) -> Table:
    table = Table("", "real", "fake", title="faces")
    table.add_row("faces kept", *(str(metrics["faces"][label]) for label in ("real", "fake")))
    for part, prefix in (("clips", ""), ("dropped", "dropped: ")):
        of = metrics[part]
        for name in sorted(of["real"].keys() | of["fake"].keys()):
            table.add_row(prefix + name, *(str(of[label].get(name, 0)) for label in ("real", "fake")))
    return table
