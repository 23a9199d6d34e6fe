"""``streamguard lab split``: which faces are trained on, compared on, calibrated on, and tested on.

    streamguard lab split runs/celeb/faces.h5 --out runs/celeb/split.json --families-test FaceSwap

What hangs together stays together: faces that share a person, a video or the recording they were made of, and faces
whose perceptual hashes differ in at most :data:`~streamguard.lab.phash.NEIGHBOUR` bits, form one component
(union-find), and a component has one part. A swap shows two people, which makes both one component: it can't straddle
two parts. Where everybody was swapped with everybody (Celeb-DF), nearly all becomes one component; ``--swaps drop``
lets real footage alone tie people together, and then drops each fake whose people fell apart, or that resembles a face
of another part.

The part of a component follows from a hash of its name and the seed, so that it is the same on every machine;
``--balance`` places the largest first, each where most is missing. Generator families are split too: fakes of a family
declared for ``search`` or ``test`` are kept in that part and dropped from all others.
"""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab.data import share_of
from streamguard.lab.facefile import FaceFile
from streamguard.lab.phash import NEIGHBOUR, U64, neighbours

FORMAT: Final = "streamguard-split-1"
PARTS: Final = ("fit", "search", "calibration", "test")
SHARES: Final = {"fit": 0.55, "search": 0.15, "calibration": 0.10, "test": 0.20}
Swaps = Literal["join", "drop"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a split is drawn. ``families``: generator -> the part its fakes are kept for."""

    seed: int = 1
    balance: bool = False
    swaps: Swaps = "join"
    families: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Facts:
    """What a split looks at, one entry a face."""

    video: Sequence[str]
    identities: Sequence[tuple[str, ...]]
    original: Sequence[str]
    source: Sequence[str]
    generator: Sequence[str]
    fake: np.ndarray
    hashes: U64

    @classmethod
    def of(cls, file: FaceFile) -> Facts:
        """Of all faces of a file."""
        people = [tuple(filter(None, text.split("|"))) for text in file.column("identity")]
        text = {name: list(map(str, file.column(name))) for name in ("video", "original", "source", "generator")}
        return cls(**text, identities=people, fake=file.column("label") > 0, hashes=file.hashes())

    def nodes(self, row: int) -> tuple[str, ...]:
        """What ties a face to others, its video first."""
        people = (f"person:{person}" for person in self.identities[row])
        return f"clip:{self.video[row]}", f"clip:{self.original[row]}", *people


class Components:
    """Union-find over names."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for the component of ``name``: the least of it in the order of text."""
        path = []
        while (parent := self._parent.setdefault(name, name)) != name:
            path.append(name)
            name = parent
        for passed in path:
            self._parent[passed] = name
        return name

    def join(self, one: str, other: str) -> None:
        """Make one component of two."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low


def split(
    faces: Annotated[Path, typer.Argument(help="Face file of `streamguard lab faces`.")],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    seed: Annotated[int, typer.Option(help="Which of the possible splits.")] = 1,
    balance: Annotated[bool, typer.Option(help="Largest components first, each where most is missing.")] = False,
    swaps: Annotated[str, typer.Option(help="join: a swap ties its people; drop: swaps that straddle go.")] = "join",
    families_search: Annotated[list[str] | None, typer.Option(help="Generator kept for search. Repeat.")] = None,
    families_test: Annotated[list[str] | None, typer.Option(help="Generator kept for test. Repeat.")] = None,
) -> None:
    """Cut a face file into fit, search, calibration and test, so that nothing related is in two of them."""
    if swaps not in ("join", "drop"):
        raise UsageError(f"--swaps {swaps} is not known. Use join or drop.")
    families = dict.fromkeys(families_search or (), "search")
    both = sorted(families.keys() & set(families_test or ()))
    if both:
        raise UsageError(f"families {', '.join(both)} are declared for search and for test. A family has one part.")
    families |= dict.fromkeys(families_test or (), "test")
    file = FaceFile(faces)
    if not file.complete:
        raise UsageError(f"'{faces}' is half-written. Finish it: `streamguard lab faces ... --resume`.")
    found = draw(Facts.of(file), Settings(seed, balance, "join" if swaps == "join" else "drop", families))
    found = {"format": FORMAT, "faces_sha256": file.sha256(), **found}
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    os.replace(part, out)
    console = Console(soft_wrap=True)
    console.print(_table(found))
    largest, count = found["largest_component"]["share"], found["components"]
    console.print(f"{count} components; the largest holds {largest:.0%} of the faces. {_WORDS[swaps]}")


_WORDS: Final = {
    "join": "Both people of a swap are of one component: no swap straddles.",
    "drop": "Swaps whose people fell apart were dropped.",
}


def draw(facts: Facts, settings: Settings) -> dict[str, Any]:
    """The split as JSON holds it; ``videos`` maps each clip to its part, null if it was dropped.

    Raises:
        UsageError: an unknown family, or a part without a real or a fake face.
    """
    unknown = sorted(settings.families.keys() - set(facts.generator))
    if unknown:
        known = sorted({g for g, fake in zip(facts.generator, facts.fake, strict=True) if fake})
        raise UsageError(f"families {', '.join(unknown)} are not in the file. It has: {', '.join(known)}.")
    near = list(neighbours(facts.hashes, NEIGHBOUR))
    components = components_of(facts, near, settings.swaps)
    names = [components.find(facts.nodes(row)[0]) for row in range(len(facts.video))]
    sizes = Counter(names)
    if settings.swaps == "drop":  # people are placed by their real faces
        sizes = Counter(name for name, fake in zip(names, facts.fake, strict=True) if not fake)
    assigned = _balanced(sizes, settings.seed) if settings.balance else _hashed(sizes, settings.seed)
    if settings.swaps == "drop":  # names seen in fakes alone: their real footage is missing
        others = {components.find(node) for row in range(len(names)) for node in facts.nodes(row)} - assigned.keys()
        assigned |= _hashed(Counter(dict.fromkeys(sorted(others), 1)), settings.seed)
    parts, dropped = _parts(facts, near, components, assigned, settings)
    counts = {part: _counts(facts, parts, names, part) for part in PARTS}
    largest = Counter(names).most_common(1)
    _check(counts, len(names), largest)
    videos = {video: part for video, part in sorted(zip(facts.video, parts, strict=True), key=lambda pair: pair[0])}
    return {
        "seed": settings.seed, "shares": SHARES, "balance": settings.balance, "swaps": settings.swaps,
        "families": dict(settings.families), "neighbour_bits": NEIGHBOUR, "components": len(set(names)),
        "largest_component": {"name": largest[0][0], "share": round(largest[0][1] / len(names), 4)},
        "counts": counts, "dropped": dict(dropped), "videos": videos,
    }  # fmt: skip


def components_of(facts: Facts, near: Sequence[tuple[int, int]], swaps: Swaps = "join") -> Components:
    """What hangs together; with ``drop``, by real faces alone."""
    components = Components()
    for row, fake in enumerate(facts.fake):
        video, *others = facts.nodes(row)
        for other in others if swaps == "join" or not fake else ():
            components.join(video, other)
    for first, second in near:
        if swaps == "join" or not (facts.fake[first] or facts.fake[second]):
            components.join(facts.nodes(first)[0], facts.nodes(second)[0])
    return components


def _hashed(sizes: Counter[str], seed: int) -> dict[str, str]:
    borders = np.cumsum([SHARES[part] for part in PARTS])[:-1]
    return {name: PARTS[int(np.searchsorted(borders, share_of(name, f"split-{seed}"), "right"))] for name in sizes}


def _balanced(sizes: Counter[str], seed: int) -> dict[str, str]:
    total, held = sizes.total(), dict.fromkeys(PARTS, 0)
    assigned = {}
    for name in sorted(sizes, key=lambda name: (-sizes[name], share_of(name, f"split-{seed}"))):
        part = max(PARTS, key=lambda part: (SHARES[part] * total - held[part]) / (SHARES[part] * total))
        assigned[name] = part
        held[part] += sizes[name]
    return assigned


def _parts(
    facts: Facts, near: Sequence[tuple[int, int]], components: Components, assigned: Mapping[str, str],
    settings: Settings,
) -> tuple[list[str | None], Counter[str]]:  # fmt: skip
    """The part of each face, and how many were dropped for which reason. Clips are dropped whole."""
    dropped: dict[str, str] = {}
    parts: list[str | None] = []
    for row, video in enumerate(facts.video):
        nodes = facts.nodes(row)
        if facts.fake[row] and settings.swaps == "drop":
            nodes = nodes[1:]  # the fake's own name ties nothing here; what it was made of does
        places = {assigned[components.find(node)] for node in nodes}
        family = settings.families.get(facts.generator[row]) if facts.fake[row] else None
        if len(places) > 1:
            dropped[video] = "swap that straddles"
        elif family is not None and family not in places:
            dropped[video] = f"family of {family}"
        parts.append(min(places))
    for one, other in near if settings.swaps == "drop" else ():
        if parts[one] != parts[other] and not {facts.video[one], facts.video[other]} & dropped.keys():
            dropped[facts.video[one if facts.fake[one] else other]] = "fake that resembles a face of another part"
    reasons = Counter(dropped[video] for video in facts.video if video in dropped)
    return [None if video in dropped else part for video, part in zip(facts.video, parts, strict=True)], reasons


def _counts(facts: Facts, parts: Sequence[str | None], names: Sequence[str], part: str) -> dict[str, int]:
    rows = [row for row, of in enumerate(parts) if of == part]
    fakes = int(sum(bool(facts.fake[row]) for row in rows))
    return {
        "real": len(rows) - fakes, "fake": fakes, "videos": len({facts.video[row] for row in rows}),
        "identities": len({person for row in rows for person in facts.identities[row]}),
        "components": len({names[row] for row in rows}),
    }  # fmt: skip


def _check(counts: Mapping[str, Mapping[str, int]], faces: int, largest: list[tuple[str, int]]) -> None:
    for part, of in counts.items():
        for label in ("real", "fake"):
            if not of[label]:
                name, size = largest[0]
                raise UsageError(
                    f"part '{part}' gets no {label} face: the largest component, '{name}', holds {size} of {faces}. "
                    "Use --balance, --swaps drop, another --seed or fewer --families, or add people."
                )


def read_split(path: Path, file: FaceFile) -> dict[str, Any]:
    """A split, checked to be of that face file.

    Raises:
        InputUnreadable: no readable JSON. UsageError: no split, or one of another file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputUnreadable(f"split '{path}' can't be read: {error}.") from error
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UsageError(f"'{path}' is no split: it lacks the mark {FORMAT}. Make it with `streamguard lab split`.")
    if found["faces_sha256"] != file.sha256():
        raise UsageError(f"split '{path}' is of another face file than '{file.path}'. Make it anew.")
    return found


def rows_of(found: Mapping[str, Any], file: FaceFile) -> dict[str, list[int]]:
    """Part -> rows of its faces."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, video in enumerate(file.column("video")):
        part = found["videos"].get(str(video))
        if part is not None:
            rows[part].append(row)
    return rows


def _table(found: Mapping[str, Any]) -> Table:
    table = Table("part", "real", "fake", "videos", "identities", "components", title="split")
    for part, counts in found["counts"].items():
        table.add_row(part, *map(str, counts.values()))
    for reason, count in sorted(found["dropped"].items()):
        table.add_row(f"dropped: {reason}", "", str(count), "", "", "")
    return table
