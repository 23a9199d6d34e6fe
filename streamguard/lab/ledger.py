"""A run folder of measurements: config.json, and log.jsonl with a line for each finished piece.

A run that was broken off goes on with the first piece that has no line. What is too large for a line lies in
``arrays/``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from streamguard.errors import InputUnreadable, UsageError

Arrays = dict[str, np.ndarray]
_CONFIG: Final = "config.json"
_LOG: Final = "log.jsonl"


class Ledger:
    """What has been measured so far, by name.

    Raises:
        UsageError: ``out`` holds a run and ``resume`` is off, or it was begun with another ``config``.
        InputUnreadable: its config or its log is damaged.
    """

    def __init__(self, out: Path, config: Mapping[str, Any], *, resume: bool = False) -> None:
        self.out = out
        self.config = json.loads(json.dumps(config))
        file = out / _CONFIG
        if file.is_file():
            if not resume:
                raise UsageError(f"'{out}' holds a run already. Add --resume to go on with it, or name another folder.")
            told = _read(file)
            differing = sorted(key for key in told.keys() | self.config.keys() if told.get(key) != self.config.get(key))
            if differing:
                raise UsageError(f"'{out}' was begun with other values of {', '.join(differing)}. Use another folder.")
        out.mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            file.write_text(json.dumps(self.config, indent=2) + "\n", encoding="utf-8")
        self._found = self._known()

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def value(self, name: str, measure: Callable[[], Any]) -> Any:
        """What ``measure()`` gave, now or in an earlier session: a JSON value."""
        if name not in self._found:
            started = time.monotonic()
            self._add(name, json.loads(json.dumps(measure())), started)
        return self._found[name]

    def arrays(self, name: str, measure: Callable[[], Arrays]) -> Arrays:
        """As :meth:`value`, for arrays."""
        file = self.out / "arrays" / f"{name.replace('/', '.')}.npz"
        if name not in self._found or not file.is_file():
            started = time.monotonic()
            file.parent.mkdir(exist_ok=True)
            np.savez(file, **measure())  # type: ignore[arg-type]  # names are data, not options
            self._add(name, file.name, started)
        with np.load(file) as held:
            return {key: held[key] for key in held.files}

    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds by now; nothing if it is not there."""
        file = self.out / "metrics.json"
        return _read(file) if file.is_file() else {}

    def write(self, metrics: Mapping[str, Any]) -> None:
        """``metrics.json``."""
        (self.out / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")

    def _add(self, name: str, value: Any, started: float) -> None:
        self._found[name] = value
        line = {"piece": name, "value": value, "seconds": round(time.monotonic() - started, 2)}
        with (self.out / _LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _known(self) -> dict[str, Any]:
        """The log's pieces; a last line that a killed run left half-written is cut off."""
        file = self.out / _LOG
        if not file.is_file():
            return {}
        text = file.read_text(encoding="utf-8")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            file.write_text(whole, encoding="utf-8")
        try:
            lines = [json.loads(line) for line in whole.splitlines()]
            return {line["piece"]: line["value"] for line in lines}
        except (ValueError, KeyError, TypeError) as error:
            raise InputUnreadable(f"'{file}' is damaged: {error}. Begin again in another folder.") from error


def _read(file: Path) -> dict[str, Any]:
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputUnreadable(f"'{file}' is damaged: {error}. Begin again in another folder.") from error
    if not isinstance(told, dict):
        raise InputUnreadable(f"'{file}' holds no settings. Begin again in another folder.")
    return told
