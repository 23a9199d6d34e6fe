"""Which precision `variant: auto` takes on this machine, once it was measured (`streamguard engines build`).

Without a measurement a backend's own order decides; a start never waits for one. A choice holds for one processor,
one library version and the very model files that were measured; any other is stale, and ignored by name.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from streamguard.inference.engines import Engine, carrier
from streamguard.inference.plans import write_whole
from streamguard.inference.processor import low_precision, processor

log = logging.getLogger(__name__)

DEFAULT_FOLDER: Final = Path("~/.cache/streamguard/choices")
NOTICEABLE: Final = 0.95
"""A precision must take less than this share of the time of the backend's first choice to be taken instead of it."""


@dataclass(frozen=True, slots=True)
class ChoiceKey:
    """All that a measurement depends on. ``models``: SHA-256 of each variant's file."""

    engine: str
    backend: str
    library: str
    processor: str
    models: str

    def differences(self, other: ChoiceKey) -> str:
        """What ``other`` has that this key hasn't, for people."""
        pairs = ((field.name, getattr(other, field.name), getattr(self, field.name)) for field in fields(self))
        return ", ".join(f"{name} was {found[:48]}" for name, found, own in pairs if found != own)


def choice_key(engine: Engine, backend: str, library: str) -> ChoiceKey:
    """The key of ``engine`` on this processor; ``library`` is the backend's, with its version."""
    models = " ".join(f"{name} {variant.sha256}" for name, variant in sorted(engine.variants.items()))
    return ChoiceKey(engine.name, backend, library, processor(), models)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was measured (milliseconds a picture) and chosen, with the reason in words."""

    key: ChoiceKey
    variant: str
    milliseconds: Mapping[str, float]
    reason: str


def choose(engine: Engine, key: ChoiceKey, milliseconds: Mapping[str, float]) -> Choice:
    """The fastest precision that keeps what the engine promises; ``milliseconds`` has the backend's choice in front.

    A detector's answers are boxes: any precision may carry it. A classifier's thresholds belong to the files that they
    were calibrated with, so bf16, which no file is calibrated for, is not taken unasked.
    """
    allowed = [name for name in milliseconds if engine.task != "classify" or name == carrier(name)]
    first = allowed[0]
    fastest = min(allowed, key=lambda name: milliseconds[name])
    if milliseconds[fastest] >= NOTICEABLE * milliseconds[first]:
        return Choice(key, first, dict(milliseconds), _reason(engine, first, fastest, milliseconds))
    return Choice(key, fastest, dict(milliseconds), _reason(engine, fastest, fastest, milliseconds))


def _reason(engine: Engine, chosen: str, fastest: str, milliseconds: Mapping[str, float]) -> str:
    has = low_precision()
    lacks = [name for name in ("VNNI", "bf16") if name not in has]
    cpu = f"this processor has {' and '.join(has) or 'neither VNNI nor bf16'}"
    if has and lacks:
        cpu += f", no {' or '.join(lacks)}"
    rank = "the fastest here" if chosen == fastest else f"hardly slower than {fastest}, and the usual one"
    quicker = [name for name in milliseconds if milliseconds[name] < NOTICEABLE * milliseconds[chosen]]
    if quicker:
        rank += f" of those that are calibrated ({', '.join(quicker)}: only when named)"
    return f"{rank}; {cpu}"


class ChoiceCache:
    """A folder of choices, one a file for each engine and backend."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = folder.expanduser()

    def kept(self, key: ChoiceKey) -> str | None:
        """The variant chosen for ``key``; None if there is none, with one line of the log if there is a stale one."""
        path = self._path(key)
        if not path.is_file():
            return None
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
            found, variant = ChoiceKey(**stated["key"]), str(stated["variant"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("'%s' is ignored, it can't be read (%s). Run `streamguard engines build`.", path, error)
            return None
        if found != key:
            stale = key.differences(found)
            log.warning("'%s' is ignored, it was measured elsewhere: %s. Run `streamguard engines build`.", path, stale)
            return None
        return variant

    def keep(self, choice: Choice) -> Path | None:
        """Write it down; None, with a line of the log, where that fails."""
        path = self._path(choice.key)
        text = json.dumps(asdict(choice) | {"measured": datetime.now(UTC).isoformat(timespec="seconds")}, indent=1)
        try:
            write_whole(path, f"{text}\n".encode())
        except OSError as error:
            log.warning("'%s' can't be written (%s): nothing is kept", path, error)
            return None
        return path

    def ordered(self, offered: tuple[str, ...], key: ChoiceKey) -> tuple[str, ...]:
        """``offered`` with the kept choice in front."""
        kept = self.kept(key)
        if kept not in offered:
            return offered
        return (kept, *(variant for variant in offered if variant != kept))

    def _path(self, key: ChoiceKey) -> Path:
        return self.folder / f"{key.engine}.{key.backend}.json"
