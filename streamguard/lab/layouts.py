"""How data sets of real and forged video lie on a disk: each layout read into the same list of clips.

``celeb-df-v2``: ``Celeb-real/id0_0001.mp4``, ``YouTube-real/00001.mp4``, ``Celeb-synthesis/id0_id1_0001.mp4``
(person 1's face in recording ``id0_0001``), ``List_of_testing_videos.txt``.
``ffpp``: FaceForensics++, ``original_sequences/youtube/c23/videos/000.mp4`` and
``manipulated_sequences/Deepfakes/c23/videos/000_003.mp4`` (003's face in recording 000); ``splits/*.json`` if present.
``dfdc``: ``metadata.json`` beside the videos, in the folder itself or in its folders, with label and original.
``plain``: ``real/`` and ``fake/``; a folder in them names a person; a fake of a real video's name was made of it.
``supplied``: ``manifest.csv`` beside tar archives, see :class:`~streamguard.lab.dataset.Dataset`. Its split ``val`` is
the final test and its ``clips/`` measure the finished product: neither is read here.

A data set that names no people (DFDC, plain without folders) is tied together by recording alone.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from streamguard.errors import InputMissing, UsageError
from streamguard.ingest.container import media_files
from streamguard.lab.dataset import Dataset, Entry

Label = Literal["real", "fake"]
UNKNOWN: Final = "unknown"
NONE: Final = "none"
_MANIFEST: Final = frozenset(
    {"path", "label", "source", "generator", "group", "split", "face_x", "face_y", "face_w", "face_h"}
)
_COMPRESSIONS: Final = ("raw", "c0", "c23", "c40")
_FFPP_NAME: Final = re.compile(r"\d{3}(_\d{3})?|\d\d(_\d\d)?__.+")


@dataclass(frozen=True, slots=True)
class Clip:
    """One video or picture of a data set.

    ``key`` is its path below the data set. ``identities``: whose face is in it or went into it, as far as named.
    ``original``: the key of the recording it shows or was made of (its own if it is one). ``hint``: the split its
    authors put it in, "" if none. ``entry``: its row in the supplied manifest.
    """

    key: str
    label: Label
    source: str
    generator: str
    identities: tuple[str, ...]
    original: str
    hint: str
    path: Path
    entry: Entry | None = None


def read_layout(root: Path, layout: str = "auto") -> tuple[str, list[Clip]]:
    """The layout's name and its clips in the order of their keys.

    Raises:
        InputMissing: no such folder.
        UsageError: an unknown or wrong layout, a foreign manifest, no fakes, no real videos, or one identity only.
    """
    if not root.is_dir():
        raise InputMissing(f"data set '{root}' is not a folder. Name the folder that holds its videos.")
    if layout != "auto" and layout not in LAYOUTS:
        raise UsageError(f"layout '{layout}' is not known. Use one of: auto, {', '.join(LAYOUTS)}.")
    name = next((n for n, (fits, _) in LAYOUTS.items() if fits(root)), None) if layout == "auto" else layout
    if name is None:
        raise UsageError(f"'{root}' has none of the known layouts ({_expected()}).")
    fits, read = LAYOUTS[name]
    if not fits(root):
        raise UsageError(f"'{root}' is not laid out as {name}: expected {_EXPECTED[name]}. Name its --layout, or auto.")
    clips = sorted(read(root), key=lambda clip: clip.key)
    _check(root, name, clips)
    return name, clips


def persons(clip: Clip) -> tuple[str, ...]:
    """Who is in a clip; the recording stands for people without a name."""
    return clip.identities or (f"recording:{clip.original}",)


def _check(root: Path, name: str, clips: list[Clip]) -> None:
    for label, words in (("fake", "no fakes"), ("real", "no real videos")):
        if not any(clip.label == label for clip in clips):
            raise UsageError(
                f"'{root}' ({name}) holds {words}: {len(clips)} clips, all of one label. Nothing can be learnt."
            )
    people = {person for clip in clips for person in persons(clip)}
    if len(people) < 2:
        raise UsageError(
            f"'{root}' ({name}) shows one identity only ('{people.pop()}'): no split can keep people apart. Add others."
        )


def _videos(root: Path, folder: str) -> Iterator[Path]:
    try:
        yield from media_files(root / folder)
    except InputMissing:  # a folder of the layout that was not downloaded
        return


def _key(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix()


_CELEB: Final = ("Celeb-real", "YouTube-real", "Celeb-synthesis")


def _celeb_df(root: Path) -> Iterator[Clip]:
    listed = root / "List_of_testing_videos.txt"
    test: set[str] = set()
    if listed.is_file():
        lines = listed.read_text(encoding="utf-8").split("\n")
        test = {line.split()[1] for line in lines if len(line.split()) == 2}
    for folder in _CELEB:
        for path in _videos(root, folder):
            key = _key(root, path)
            people = tuple(f"celeb/{person}" for person in re.findall(r"id\d+", path.stem))
            fake = folder == "Celeb-synthesis"
            if len(people) != {"Celeb-real": 1, "YouTube-real": 0, "Celeb-synthesis": 2}[folder]:
                raise UsageError(f"'{path}' is not named as in Celeb-DF v2 (id0_0001.mp4, id0_id1_0001.mp4).")
            original = key
            if fake:
                target, _, number = path.stem.split("_", 2)
                original = f"Celeb-real/{target}_{number}{path.suffix}"
            hint = "test" if key in test else "train" if test else ""
            generator = "celeb-df-v2" if fake else NONE
            yield Clip(key, "fake" if fake else "real", "celeb-df-v2", generator, people, original, hint, path)


def _ffpp(root: Path) -> Iterator[Clip]:
    hints = _ffpp_hints(root)
    for top, label in (("original_sequences", "real"), ("manipulated_sequences", "fake")):
        for path in _videos(root, top):
            key = _key(root, path)
            parts = key.split("/")
            if len(parts) != 5 or parts[2] not in _COMPRESSIONS or parts[3] != "videos":
                continue  # masks lie beside the videos
            if not _FFPP_NAME.fullmatch(path.stem):
                raise UsageError(
                    f"'{path}' is not named as in FaceForensics++ (000.mp4, 000_003.mp4, 01_02__scene.mp4)."
                )
            _, method, compression, _, name = parts
            stem = name.rsplit(".", 1)[0]
            if "__" in stem:  # DeepFakeDetection: 01_02__scene__code, actors: 01__scene
                actors, scene = stem.split("__")[:2]
                people, original = tuple(actors.split("_")), f"actors/{actors.split('_')[0]}__{scene}"
                hint = ""
            else:
                people, original = tuple(stem.split("_")), f"youtube/{stem.split('_')[0]}"
                hint = hints.get(people[0], "")
            owners = "actor" if "__" in stem else "youtube"
            identities = tuple(f"ffpp/{owners}{person}" for person in people)
            source, generator = f"ffpp/{compression}", method if label == "fake" else NONE
            yield Clip(key, "fake" if label == "fake" else "real", source, generator, identities, original, hint, path)


def _ffpp_hints(root: Path) -> dict[str, str]:
    """Sequence number -> train, val or test, by the authors' lists of pairs."""
    hints: dict[str, str] = {}
    for name in ("train", "val", "test"):
        for path in (root / f"{name}.json", root / "splits" / f"{name}.json"):
            if path.is_file():
                pairs = _json(path)
                if not isinstance(pairs, list):
                    raise UsageError(f"'{path}' is a foreign list: expected pairs of FaceForensics++ numbers.")
                hints |= {str(number): name for pair in pairs for number in pair}
    return hints


def _dfdc_lists(root: Path) -> list[Path]:
    return [path for path in (root / "metadata.json", *sorted(root.glob("*/metadata.json"))) if path.is_file()]


def _dfdc(root: Path) -> Iterator[Clip]:
    for path in _dfdc_lists(root):
        rows = _json(path)
        if not isinstance(rows, dict) or not all(_is_dfdc(row) for row in rows.values()):
            raise UsageError(f"'{path}' is a foreign metadata.json: expected DFDC's label (REAL, FAKE) for each video.")
        for name, row in rows.items():
            key = _key(root, path.parent / name)
            fake = row["label"] == "FAKE"
            made_of = row.get("original")
            original = _key(root, path.parent / made_of) if fake and made_of else key
            generator = "dfdc" if fake else NONE
            hint = str(row.get("split", ""))
            yield Clip(key, "fake" if fake else "real", "dfdc", generator, (), original, hint, path.parent / name)


def _is_dfdc(row: Any) -> bool:
    return isinstance(row, dict) and row.get("label") in ("REAL", "FAKE")


def _plain(root: Path) -> Iterator[Clip]:
    labels: tuple[Label, ...] = ("real", "fake")
    reals = {path.relative_to(root / "real").with_suffix("").as_posix(): path for path in _videos(root, "real")}
    for label in labels:
        for path in _videos(root, label):
            below = path.relative_to(root / label)
            identities = (f"plain/{below.parts[0]}",) if len(below.parts) > 1 else ()
            made_of = reals.get(below.with_suffix("").as_posix(), path)
            generator = UNKNOWN if label == "fake" else NONE
            yield Clip(_key(root, path), label, "plain", generator, identities, _key(root, made_of), "", path)


def _supplied(root: Path) -> Iterator[Clip]:
    with (root / "manifest.csv").open(newline="", encoding="utf-8") as file:
        columns = frozenset(next(csv.reader(file), []))
    if not columns >= _MANIFEST:
        raise UsageError(
            f"'{root / 'manifest.csv'}' is foreign: it lacks the columns {', '.join(sorted(_MANIFEST - columns))}."
        )
    for entry in Dataset(root).manifest:
        if entry.label not in ("real", "fake"):
            raise UsageError(f"'{root / 'manifest.csv'}' is foreign: label '{entry.label}' is neither real nor fake.")
        if entry.split == "val" or entry.path.startswith("clips/"):
            continue
        label: Label = "fake" if entry.label == "fake" else "real"
        people = (f"{entry.source}/{entry.group}",)
        path = root / entry.path
        yield Clip(entry.path, label, entry.source, entry.generator, people, entry.path, entry.split, path, entry)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"'{path}' is no readable JSON: {error}.") from error


Fits = Callable[[Path], bool]
Reader = Callable[[Path], Iterator[Clip]]

LAYOUTS: Final[dict[str, tuple[Fits, Reader]]] = {
    "supplied": (lambda root: (root / "manifest.csv").is_file(), _supplied),
    "celeb-df-v2": (lambda root: any((root / name).is_dir() for name in _CELEB), _celeb_df),
    "ffpp": (lambda root: any((root / f"{n}_sequences").is_dir() for n in ("original", "manipulated")), _ffpp),
    "dfdc": (lambda root: bool(_dfdc_lists(root)), _dfdc),
    "plain": (lambda root: (root / "real").is_dir() or (root / "fake").is_dir(), _plain),
}
"""Name: whether a folder looks like it, and how it is read. ``auto`` takes the first that fits."""

_EXPECTED: Final = {
    "supplied": "manifest.csv",
    "celeb-df-v2": "Celeb-real/, YouTube-real/, Celeb-synthesis/",
    "ffpp": "original_sequences/youtube/c23/videos/000.mp4, manipulated_sequences/METHOD/c23/videos/000_003.mp4",
    "dfdc": "metadata.json beside the videos",
    "plain": "real/ and fake/",
}


def _expected() -> str:
    return "; ".join(f"{name}: {words}" for name, words in _EXPECTED.items())
