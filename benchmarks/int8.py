"""What int8 makes of faces on this processor, beside fp32: whether its sums are exact here.

    python benchmarks/int8.py

The detector looks at made pictures with 1, 3 and 10 faces; printed is the confidence of the surest box in each
precision. Int8 is run also where StreamGuard refuses it (:func:`streamguard.inference.processor.int8_is_exact`).
"""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

from streamguard.bench import make_clip
from streamguard.frames import U8
from streamguard.inference import openvino
from streamguard.inference.backend import run
from streamguard.inference.engines import Engine, load_engine
from streamguard.inference.openvino import OpenVinoBackend
from streamguard.inference.processor import int8_is_exact, low_precision, processor
from streamguard.ingest.source import open_source
from streamguard.pixels import letterbox


def surest(engine: Engine, variant: str, picture: U8) -> float:
    """Confidence of the surest box in a letterboxed picture, (H, W, 3) uint8 RGB."""
    inbox: SimpleQueue[Any] = SimpleQueue()
    backend = OpenVinoBackend(engine, variant, inbox, slots=1)
    try:
        return float(run(backend, inbox, picture[None])[0, 4].max())
    finally:
        backend.close()


def made(engine: Engine, faces: int) -> U8:
    """The first picture of the bench's clip, as the detector gets it."""
    with TemporaryDirectory() as folder:
        clip = make_clip(Path(folder) / "clip.mp4", faces=faces, seconds=1)
        with open_source(str(clip)).open(1) as connection:
            return letterbox(next(iter(connection)).picture, engine.input.width, engine.input.height)[0]


def main() -> None:
    """Print the table."""
    exact = int8_is_exact()
    engine = load_engine("face-yolov8n")
    print(f"{processor()}: {', '.join(low_precision()) or 'no VNNI'}; int8 is {'used' if exact else 'refused'}")
    print("| faces | fp32 | int8 |\n|---|---|---|")
    for faces in (1, 3, 10):
        picture = made(engine, faces)
        with patch.object(openvino, "int8_is_exact", return_value=True):  # to see what would come of it
            cells = [f"{surest(engine, variant, picture):.3f}" for variant in ("fp32", "int8")]
        print(f"| {faces} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
