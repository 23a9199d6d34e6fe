"""Pictures for the face detector: the split, made composites, and the folder that ultralytics reads.

The supplied pictures show one face of about 95 px in 256 px. What the detector sees in service is a
320 px letterbox of a whole video frame, where a face may be 6 px wide or fill the picture. Composites
close that gap: *collages* (a grid of shrunk pictures), *scatters* (shrunk heads and pictures pasted on
another picture or on a face-free background) and *close-ups* (a crop about one face).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from streamguard.errors import UsageError
from streamguard.frames import U8, Box
from streamguard.lab.dataset import Dataset, Entry

SOURCES = ("openforensics", "stylegan")
"""The sources that carry face boxes of all faces in the picture (``boxes.csv``)."""

CANVASES = ((320, 180), (320, 180), (320, 240), (320, 320), (180, 320))
"""Width, height of composites: 16:9 twice, since most video is."""

SMALLEST, LARGEST = 6.0, 72.0
"""Face widths in scatters, px at the network's input: 6 px is 24 px in a 720p frame."""

NEAR = 3
"""Difference hashes (64 bits) this close are taken for the same photo."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A picture, (H, W, 3) uint8 RGB, with the boxes of all its faces in its pixels."""

    picture: U8
    boxes: tuple[Box, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width, height."""
        return int(self.picture.shape[1]), int(self.picture.shape[0])


@dataclass(frozen=True, slots=True)
class Split:
    """Entries to train on and entries held out: no group, and no near-duplicate, on both sides."""

    train: tuple[Entry, ...]
    held_out: tuple[Entry, ...]
    near_duplicates: int


Composer = Callable[[np.random.Generator, Sequence[Labelled]], Labelled]


def labelled(data: Dataset, entry: Entry) -> Labelled:
    """Read one picture with its boxes, clipped to the picture."""
    picture = data.read(entry)
    h, w = picture.shape[:2]
    return Labelled(picture, clip((box for box, _ in data.boxes.get(entry.path, ())), w, h))


def clip(boxes: Iterable[Box], width: float, height: float, keep: float = 0.5) -> tuple[Box, ...]:
    """Boxes cut to the picture; those with less than ``keep`` of their area inside it are dropped."""
    kept = []
    for box in boxes:
        inside = Box(max(0.0, box.x1), max(0.0, box.y1), min(width, box.x2), min(height, box.y2))
        if inside.width > 1 and inside.height > 1 and inside.area >= keep * box.area:
            kept.append(inside)
    return tuple(kept)


def split(data: Dataset, held_out: int, seed: int) -> Split:
    """Cut the ``train`` entries with boxes by group: whole groups are held out until there are ``held_out`` pictures.

    Pictures that are near-duplicates of a held-out one leave the training side. The split ``val`` is
    the final test and is never read here.

    Raises:
        UsageError: fewer pictures than ``held_out`` leaves something to train on.
    """
    entries = [e for e in data.manifest if e.source in SOURCES and e.split == "train" and e.path in data.boxes]
    if len(entries) <= held_out:
        raise UsageError(f"{held_out} pictures can't be held out of {len(entries)}. Hold out fewer.")
    groups = sorted({e.group for e in entries})
    np.random.default_rng(seed).shuffle(groups)
    size: dict[str, int] = {}
    for e in entries:
        size[e.group] = size.get(e.group, 0) + 1
    away: set[str] = set()
    count = 0
    for group in groups:
        if count >= held_out:
            break
        away.add(group)
        count += size[group]
    out = [e for e in entries if e.group in away]
    stay = [e for e in entries if e.group not in away]
    hashes = np.array([difference_hash(data.read(e)) for e in out], np.uint64)
    apart = [e for e in stay if np.bitwise_count(hashes ^ difference_hash(data.read(e))).min() > NEAR]
    return Split(tuple(apart), tuple(out), len(stay) - len(apart))


def difference_hash(picture: U8) -> np.uint64:
    """64-bit difference hash: is each of 8x8 grey cells brighter than its left neighbour."""
    grey = cv2.resize(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    bits: npt.NDArray[np.bool_] = grey[:, 1:] > grey[:, :-1]
    return np.packbits(bits).view(np.uint64)[0]


def resized(item: Labelled, width: int, height: int) -> Labelled:
    """``item`` at another size; shrinking averages areas (as serving does), enlarging interpolates."""
    w, h = item.size
    how = cv2.INTER_AREA if width < w or height < h else cv2.INTER_LINEAR
    picture = np.asarray(cv2.resize(item.picture, (width, height), interpolation=how), np.uint8)
    sx, sy = width / w, height / h
    return Labelled(picture, tuple(Box(b.x1 * sx, b.y1 * sy, b.x2 * sx, b.y2 * sy) for b in item.boxes))


def cropped(item: Labelled, x: int, y: int, width: int, height: int) -> Labelled:
    """The part of ``item`` at (x, y) of the given size, which must lie inside it."""
    boxes = (Box(b.x1 - x, b.y1 - y, b.x2 - x, b.y2 - y) for b in item.boxes)
    return Labelled(item.picture[y : y + height, x : x + width], clip(boxes, width, height))


def collage(items: Sequence[Labelled], width: int, height: int, tile: int) -> Labelled:
    """A grid of square tiles of ``tile`` px, filled row by row from ``items`` (used round robin).

    What is left at the right and bottom edge stays grey (114, the letterbox's colour).
    """
    canvas = np.full((height, width, 3), 114, np.uint8)
    boxes: list[Box] = []
    columns, rows = max(1, width // tile), max(1, height // tile)
    for i in range(columns * rows):
        x, y = (i % columns) * tile, (i // columns) * tile
        small = resized(items[i % len(items)], min(tile, width), min(tile, height))
        canvas[y : y + small.size[1], x : x + small.size[0]] = small.picture
        boxes += [Box(b.x1 + x, b.y1 + y, b.x2 + x, b.y2 + y) for b in small.boxes]
    return Labelled(canvas, tuple(boxes))


def face_free(item: Labelled) -> U8 | None:
    """The largest strip beside all faces of ``item``, a quarter face away from them; None if under 48 px."""
    w, h = item.size
    if not item.boxes:
        return item.picture
    margin = max(b.width for b in item.boxes) / 4
    left = int(min(b.x1 for b in item.boxes) - margin)
    right = int(max(b.x2 for b in item.boxes) + margin)
    top = int(min(b.y1 for b in item.boxes) - margin)
    bottom = int(max(b.y2 for b in item.boxes) + margin)
    strips = [
        item.picture[:, : max(0, left)],
        item.picture[:, min(w, right) :],
        item.picture[: max(0, top)],
        item.picture[min(h, bottom) :],
    ]
    best = max(strips, key=lambda s: s.shape[0] * s.shape[1])
    return best if min(best.shape[:2]) >= 48 else None


def covering(rng: np.random.Generator, item: Labelled, width: int, height: int) -> Labelled:
    """``item`` scaled to cover a canvas, cut at a random place."""
    w, h = item.size
    scale = max(width / w, height / h)
    large = resized(item, max(width, round(w * scale)), max(height, round(h * scale)))
    x = int(rng.integers(0, large.size[0] - width + 1))
    y = int(rng.integers(0, large.size[1] - height + 1))
    return cropped(large, x, y, width, height)


def head(item: Labelled, box: Box, margin: float) -> Labelled:
    """The part of ``item`` round one face, ``margin`` face sizes to each side as far as the picture goes."""
    w, h = item.size
    x1, y1 = max(0, int(box.x1 - margin * box.width)), max(0, int(box.y1 - margin * box.height))
    x2, y2 = min(w, int(box.x2 + margin * box.width) + 1), min(h, int(box.y2 + margin * box.height) + 1)
    return cropped(item, x1, y1, x2 - x1, y2 - y1)


def paste(base: Labelled, item: Labelled, x: int, y: int, feather: bool) -> Labelled:
    """``item`` laid on ``base`` at (x, y), inside it. Feathered: through a soft ellipse, without a hard border."""
    w, h = item.size
    canvas = base.picture.copy()
    if feather:
        mask = np.zeros((h, w), np.float32)
        cv2.ellipse(mask, ((w / 2, h / 2), (w * 0.92, h * 0.92), 0.0), 1.0, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), max(0.6, 0.04 * w))[..., None]
        under = canvas[y : y + h, x : x + w].astype(np.float32)
        canvas[y : y + h, x : x + w] = (mask * item.picture + (1 - mask) * under + 0.5).astype(np.uint8)
    else:
        canvas[y : y + h, x : x + w] = item.picture
    return Labelled(canvas, base.boxes + tuple(Box(b.x1 + x, b.y1 + y, b.x2 + x, b.y2 + y) for b in item.boxes))


def scatter(rng: np.random.Generator, base: Labelled, items: Sequence[Labelled]) -> Labelled:
    """Shrunk heads (feathered) or whole pictures (hard-edged) at free places of ``base``, no face covered.

    Face widths are drawn log-uniformly in SMALLEST..LARGEST px; what finds no place in 12 tries is left out.
    """
    taken = list(base.boxes)
    width, height = base.size
    for item in items:
        if not item.boxes:
            continue
        main = max(item.boxes, key=lambda b: b.area)
        whole = rng.random() < 0.3
        part = item if whole else head(item, main, float(rng.uniform(0.35, 0.9)))
        target = float(np.exp(rng.uniform(np.log(SMALLEST), np.log(LARGEST))))
        scale = target / main.width
        w, h = round(part.size[0] * scale), round(part.size[1] * scale)
        if min(w, h) < 4 or w > width or h > height:
            continue
        small = resized(part, w, h)
        for _ in range(12):
            x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            place = Box(x, y, x + w, y + h)
            if all(place.iou(other) == 0 for other in taken):
                base = paste(base, small, x, y, feather=not whole)
                taken.append(place)
                break
    return base


def close_up(rng: np.random.Generator, item: Labelled, width: int, height: int) -> Labelled:
    """A crop in which the main face takes 55 to 105 % of the shorter side."""
    if not item.boxes:
        return covering(rng, item, width, height)
    main = max(item.boxes, key=lambda b: b.area)
    w, h = item.size
    long = max(main.width, main.height) / float(rng.uniform(0.55, 1.05))
    scale = long / min(width, height)
    cw, ch = min(w, round(width * scale)), min(h, round(height * scale))
    cx, cy = main.centre
    shift = rng.uniform(-0.1, 0.1, 2) * (main.width, main.height)
    x = int(np.clip(cx + shift[0] - cw / 2, 0, w - cw))
    y = int(np.clip(cy + shift[1] - ch / 2, 0, h - ch))
    part = cropped(item, x, y, cw, ch)
    fit = min(width / cw, height / ch)
    return resized(part, max(1, round(cw * fit)), max(1, round(ch * fit)))


def composite(rng: np.random.Generator, draw: Callable[[], Labelled]) -> Labelled:
    """One made picture: 40 % scatter, 35 % collage, 18 % close-up, 7 % face-free. ``draw`` gives any picture."""
    width, height = CANVASES[int(rng.integers(len(CANVASES)))]
    kind = rng.random()
    if kind < 0.35:
        tile = int(np.exp(rng.uniform(np.log(28), np.log(170))))
        cells = max(1, width // tile) * max(1, height // tile)
        # 24 different pictures are enough for one collage: more would be decoded for 28 px each.
        return collage([draw() for _ in range(min(cells, 24))], width, height, tile)
    if kind < 0.53:
        return close_up(rng, draw(), width, height)
    ground = draw()
    free = face_free(ground)
    if free is None or (kind < 0.93 and rng.random() < 0.4):
        base = covering(rng, ground, width, height)
    else:
        base = covering(rng, Labelled(free, ()), width, height)
    if kind >= 0.93:
        return base
    return scatter(rng, base, [draw() for _ in range(int(rng.integers(1, 9)))])


def degraded(rng: np.random.Generator, item: Labelled) -> Labelled:
    """What cameras and codecs do: sometimes blur, noise or no colour. Boxes stay."""
    picture = item.picture
    if rng.random() < 0.15:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), float(rng.uniform(0.4, 1.4))), np.uint8)
    if rng.random() < 0.15:
        noisy = picture + rng.normal(0, rng.uniform(2, 12), picture.shape)
        picture = np.clip(noisy, 0, 255).astype(np.uint8)
    if rng.random() < 0.05:
        grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
        picture = np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)
    return Labelled(picture, item.boxes)


def label_lines(item: Labelled) -> str:
    """The label file of one picture: ``0 cx cy w h`` a line, as shares of the picture's width and height."""
    w, h = item.size
    lines = [
        f"0 {(b.x1 + b.x2) / 2 / w:.6f} {(b.y1 + b.y2) / 2 / h:.6f} {b.width / w:.6f} {b.height / h:.6f}"
        for b in clip(item.boxes, w, h)
    ]
    return "".join(line + "\n" for line in lines)


def write_item(folder: Path, part: str, name: str, item: Labelled, quality: int) -> None:
    """``images/<part>/<name>.jpg`` and ``labels/<part>/<name>.txt`` under ``folder``."""
    image, label = folder / "images" / part / f"{name}.jpg", folder / "labels" / part / f"{name}.txt"
    image.parent.mkdir(parents=True, exist_ok=True)
    label.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(item.picture, cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(image), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    label.write_text(label_lines(item), encoding="utf-8")


def write_dataset(data: Dataset, folder: Path, pictures: int, held_out: int, seed: int) -> dict[str, int]:
    """Write the training folder: ``train``, ``held_out`` and ``small`` (composites of held-out pictures).

    ``pictures`` is the size of ``train``; 36 % of it are composites. Deterministic for a seed.

    Returns:
        Counts: pictures and faces a part, near-duplicates dropped.
    """
    rng = np.random.default_rng(seed)
    cut = split(data, held_out, seed)
    made = round(0.36 * pictures)
    plain = [cut.train[i] for i in rng.permutation(len(cut.train))[: pictures - made]]
    counts = {"near_duplicates_dropped": cut.near_duplicates}
    jobs: list[tuple[str, Sequence[Entry], int]] = [("train", cut.train, made), ("small", cut.held_out, held_out)]
    for part, entries in (("train", plain), ("held_out", cut.held_out)):
        faces = 0
        for i, entry in enumerate(entries):
            item = labelled(data, entry)
            faces += len(item.boxes)
            noisy = degraded(rng, item) if part == "train" else item
            write_item(folder, part, f"plain{i:05d}", noisy, int(rng.integers(60, 97)) if part == "train" else 97)
        counts |= {f"{part}_pictures": len(entries), f"{part}_faces": faces}
    for part, pool, count in jobs:
        faces = 0
        for i in range(count):
            item = degraded(rng, composite(rng, lambda p=pool: labelled(data, p[int(rng.integers(len(p)))])))  # type: ignore[misc]
            faces += len(item.boxes)
            write_item(folder, part, f"made{i:05d}", item, int(rng.integers(50, 97)))
        counts[f"{part}_pictures"] = counts.get(f"{part}_pictures", 0) + count
        counts[f"{part}_faces"] = counts.get(f"{part}_faces", 0) + faces
    return counts
