"""Made footage of made people: one public-domain portrait, lit anew for each person and each frame."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from streamguard.frames import U8, Box
from streamguard.ingest.demo import photograph
from streamguard.lab.facefile import Done, FaceCut, FaceFile
from streamguard.lab.layouts import Clip, Label
from tests.media import write_video

SIDE = 192
FPS = 10
FRAMES = 12


def light(*seed: int, strength: float = 90.0) -> np.ndarray:
    """(SIDE, SIDE, 1) float32: broad patches of light and shade."""
    coarse = np.random.default_rng(seed).uniform(-strength, strength, (5, 5)).astype(np.float32)
    return cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)[..., None]


def person(number: int, frame: int = 0, *, forged: bool = False) -> U8:
    """(SIDE, SIDE, 3) uint8 RGB: a head and its surroundings. A forged one has another skin from eyes to chin."""
    rng = np.random.default_rng((number, 1))
    x, y = rng.integers(135, 150), rng.integers(25, 40)
    rgb = photograph()[y : y + 170, x : x + 170]
    if number % 2:
        rgb = rgb[:, ::-1]
    picture = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    if forged:
        mask = np.zeros((SIDE, SIDE), np.float32)
        cv2.ellipse(mask, (SIDE // 2, SIDE // 2 + 8), (34, 44), 0, 0, 360, 1.0, -1)
        picture += cv2.GaussianBlur(mask, (0, 0), 5)[..., None] * np.array([-30.0, 10.0, 30.0], np.float32)
    lit = picture + light(number, 2) + light(number, 3, frame, strength=75)
    return np.clip(lit, 0, 255).astype(np.uint8)


def scene(*numbers: int, forged: int | None = None, frames: int = FRAMES) -> list[U8]:
    """Frames with these people side by side; ``forged`` is the number of the one who is."""
    return [np.hstack([person(n, frame, forged=n == forged) for n in numbers]) for frame in range(frames)]


def clip(path: Path, *numbers: int, forged: int | None = None, frames: int = FRAMES) -> Path:
    """A tiny H.264 file of such a scene."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_video(path, scene(*numbers, forged=forged, frames=frames), fps=FPS)


@dataclass(frozen=True)
class Made:
    """One made video of a face file: its pictures, and a hash for each (by default one that is far from all others)."""

    video: str
    label: str
    identities: tuple[str, ...] = ()
    original: str = ""
    source: str = "made"
    generator: str = "none"
    pictures: tuple[U8, ...] = ()
    hashes: tuple[int, ...] = ()


def face_file(path: Path, videos: Sequence[Made], config: dict[str, object] | None = None) -> FaceFile:
    """A whole face file of made faces, 192 px, a black picture where a video has none."""
    rng = np.random.default_rng(0)
    file = FaceFile.create(path, config or {}, SIDE)
    for made in videos:
        pictures = made.pictures or (np.zeros((SIDE, SIDE, 3), np.uint8),)
        hashes = made.hashes or tuple(int(h) for h in rng.integers(0, 2**64 - 1, len(pictures), np.uint64))
        box = Box(42, 26, 152, 160)
        cuts = [
            FaceCut(picture, box, box, frame, frame / FPS, 1, 0.9, value)
            for frame, (picture, value) in enumerate(zip(pictures, hashes, strict=True))
        ]
        label: Label = "fake" if made.label == "fake" else "real"
        original = made.original or made.video
        item = Clip(made.video, label, made.source, made.generator, made.identities, original, "", Path(made.video))
        file.append(item, cuts, Done(made.video, label, len(cuts), {}))
    file.finish()
    return file


def list_pictures(root: Path, rows: Sequence[Sequence[object]], boxes: Sequence[Sequence[object]]) -> None:
    """The data folder's manifest.csv and boxes.csv, with these rows."""
    for name, head, content in (
        ("manifest.csv", "path,label,source,generator,group,split,face_x,face_y,face_w,face_h", rows),
        ("boxes.csv", "path,x,y,w,h,score", boxes),
    ):
        with (root / name).open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([head.split(","), *content])
