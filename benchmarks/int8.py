"""What int8 makes of faces on this processor, beside fp32: whether its sums are exact, and what narrow weights do.

    python benchmarks/int8.py
    STREAMGUARD_DATA=/data python benchmarks/int8.py --pictures 500      # boxes on pictures, too; needs the extra lab

The detector looks at made pictures with 1, 3 and 10 faces; printed is the confidence of the surest box. *Whole* weights
are what the file holds, also where their sums overflow; *narrow* ones (`inference.openvino.narrow_weights`) are what an
x86 without VNNI gets. Milliseconds are those of the least disturbed of 30 rounds, one picture, one thread.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any, Final
from unittest.mock import patch

import numpy as np

from streamguard.bench import make_clip
from streamguard.frames import F32, U8
from streamguard.inference import openvino
from streamguard.inference.backend import run
from streamguard.inference.engines import Engine, load_engine
from streamguard.inference.openvino import OpenVinoBackend
from streamguard.inference.processor import int8_is_exact, low_precision, processor
from streamguard.ingest.source import open_source
from streamguard.lab.search.timing import least
from streamguard.pixels import letterbox

VARIANTS: Final = {"fp32": ("fp32", True), "int8, whole": ("int8", True), "int8, narrow": ("int8", False)}
"""A variant, and whether the processor is said to be exact."""


@contextmanager
def opened(engine: Engine, name: str) -> Iterator[Callable[[U8], F32]]:
    """One of :data:`VARIANTS`: a letterboxed picture, (H, W, 3) uint8 RGB, to the detector's raw output."""
    variant, exact = VARIANTS[name]
    inbox: SimpleQueue[Any] = SimpleQueue()
    with patch.object(openvino, "int8_is_exact", return_value=exact):
        backend = OpenVinoBackend(engine, variant, inbox, slots=1)
    try:
        yield lambda picture: run(backend, inbox, picture[None])[0]
    finally:
        backend.close()


def made(engine: Engine, faces: int) -> U8:
    """The first picture of the bench's clip, as the detector gets it."""
    with TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.mp4", faces=faces, seconds=1)
        with open_source(str(clip)).open(1) as connection:
            return letterbox(next(iter(connection)).picture, engine.input.width, engine.input.height)[0]


def boxes(engine: Engine, count: int) -> None:
    """How far the boxes of each int8 are from fp32's, on OpenForensics pictures of the manifest's split `train`."""
    from streamguard.lab.dataset import Dataset
    from streamguard.lab.detector_data import Labelled
    from streamguard.lab.detector_measure import difference, engine_detector

    data = Dataset.from_environment()
    entries = list(data.entries(source="openforensics", split="train"))
    chosen = [entries[i] for i in np.random.default_rng(1).permutation(len(entries))[:count]]
    items = [Labelled(data.read(entry), ()) for entry in chosen]
    confidence = float(engine.manifest["decode"]["confidence"])
    whole = engine_detector(engine, "fp32")
    for name in ("int8, whole", "int8, narrow"):
        variant, exact = VARIANTS[name]
        with patch.object(openvino, "int8_is_exact", return_value=exact):
            other = engine_detector(engine, variant)
        print(f"{name} against fp32, {count} pictures: {difference(whole, other, items, confidence)}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=0, help="of $STREAMGUARD_DATA, to compare boxes on")
    count = parser.parse_args().pictures
    engine = load_engine("face-yolov8n")
    used = "whole" if int8_is_exact() else "narrow"
    print(f"{processor()}: {', '.join(low_precision()) or 'no VNNI'}; int8 runs with {used} weights")
    print("| | 1 face | 3 | 10 | ms |\n|---|---|---|---|---|")
    pictures = [made(engine, faces) for faces in (1, 3, 10)]
    for name in VARIANTS:
        with opened(engine, name) as look:
            cells = [f"{look(picture)[4].max():.3f}" for picture in pictures]
            print(f"| {name} | {' | '.join(cells)} | {least(partial(look, pictures[0])):.1f} |")
    if count:
        boxes(engine, count)


if __name__ == "__main__":
    main()
