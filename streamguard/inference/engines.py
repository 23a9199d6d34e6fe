"""Engines: ``engines/<name>/`` = model files, manifest.json, CARD.md, LICENSE.

The manifest states what a model was trained on to see (size, colour order, resampler, margin, mean and
standard deviation) and what its output means. What this code does not know refuses to start: a model fed
with other pixels than it was trained on gives numbers that look right.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from streamguard.errors import EngineDamaged, EngineForeign, EngineMissing
from streamguard.pixels import RESAMPLER

_HERE: Final = Path(__file__).resolve().parents[1]
_FOLDERS: Final = (_HERE / "engines", _HERE.parent / "engines")
_PREPROCESSING: Final[dict[str, dict[str, frozenset[Any] | None]]] = {
    "letterbox": {"resampler": frozenset({RESAMPLER}), "pad": None},
    "face-square": {"resampler": frozenset({RESAMPLER}), "margin": None, "border": frozenset({"reflect101"})},
}
_OUTPUTS: Final = {"detect": "yolov8", "classify": "logit"}


@dataclass(frozen=True, slots=True)
class InputSpec:
    """The picture a model takes: ``(value / scale - mean) / std`` per channel, RGB, planar."""

    name: str
    width: int
    height: int
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    """One model file of an engine."""

    name: str
    file: Path
    sha256: str


@dataclass(frozen=True, slots=True)
class Engine:
    """A model with its manifest, checked."""

    name: str
    version: str
    task: str
    folder: Path
    input: InputSpec
    variants: Mapping[str, Variant]
    manifest: Mapping[str, Any]

    @property
    def sha256(self) -> str:
        """Of the reference model, fp32: the engine's identity."""
        return self.variants["fp32"].sha256

    def model(self, variant: str) -> bytes:
        """The ONNX file that carries ``variant``, its SHA-256 checked.

        Raises:
            EngineMissing: the file is absent. EngineDamaged: its content is not what the manifest states.
        """
        chosen = self.variants[carrier(variant)]
        if not chosen.file.is_file():
            raise EngineMissing(
                f"engine '{self.name}': '{chosen.file}' is absent. Reinstall StreamGuard or the engine."
            )
        content = chosen.file.read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != chosen.sha256:
            raise EngineDamaged(
                f"engine '{self.name}': '{chosen.file}' has SHA-256 {found[:16]}..., the manifest states "
                f"{chosen.sha256[:16]}.... Reinstall StreamGuard or the engine."
            )
        return content


def carrier(variant: str) -> str:
    """The variant whose file, calibration and thresholds carry ``variant``: bf16 and fp16 derive from fp32."""
    return "fp32" if variant in ("bf16", "fp16") else variant


def engine_folders() -> Iterator[Path]:
    """Folders of the engines that ship with this installation (wheel or source tree), by name."""
    root = next((folder for folder in _FOLDERS if folder.is_dir()), None)
    if root is not None:
        yield from sorted(path.parent for path in root.glob("*/manifest.json"))


def load_engine(name: str | Path) -> Engine:
    """The engine of that name, or in that folder.

    Raises:
        EngineMissing: no such engine. EngineDamaged: its manifest is not readable JSON.
        EngineForeign: its manifest asks for what this code does not do.
    """
    folder = Path(name)
    if not (folder / "manifest.json").is_file():
        known = {path.name: path for path in engine_folders()}
        if str(name) not in known:
            raise EngineMissing(
                f"engine '{name}' is neither shipped ({', '.join(known) or 'none is'}) "
                "nor a folder with a manifest.json."
            )
        folder = known[str(name)]
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise EngineDamaged(f"engine '{name}': '{folder / 'manifest.json'}' can't be read: {error}.") from error
    try:
        return _engine(folder, manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise EngineForeign(f"engine '{name}': the manifest lacks or misstates {error}.") from error


def _engine(folder: Path, manifest: Mapping[str, Any]) -> Engine:
    name = str(manifest["name"])
    task = str(manifest["task"])
    if manifest["output"]["kind"] != _OUTPUTS.get(task):
        raise _foreign(name, f"output '{manifest['output']['kind']}' of task '{task}'", str(_OUTPUTS))
    _check_preprocessing(name, manifest["preprocessing"])
    variants = {
        key: Variant(key, folder / str(entry["file"]), str(entry["sha256"]))
        for key, entry in manifest["variants"].items()
    }
    if "fp32" not in variants:
        raise _foreign(name, "no fp32 variant", "fp32, the reference, in every engine")
    return Engine(name, str(manifest["version"]), task, folder, _input(name, manifest["input"]), variants, manifest)


def _input(name: str, spec: Mapping[str, Any]) -> InputSpec:
    for key, known in (("channels", "rgb"), ("layout", "nchw")):
        if spec[key] != known:
            raise _foreign(name, f"input {key} '{spec[key]}'", known)
    mean, std = (tuple(float(v) for v in spec[key]) for key in ("mean", "std"))
    scale = float(spec["scale"])
    if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std, scale))) or min(*std, scale) <= 0:
        raise _foreign(name, f"input scale {scale}, mean {mean}, std {std}", "finite numbers, scale and std above 0")
    return InputSpec(str(spec["name"]), int(spec["width"]), int(spec["height"]), scale, mean, std)


def _check_preprocessing(name: str, spec: Mapping[str, Any]) -> None:
    known = _PREPROCESSING.get(spec["kind"])
    if known is None:
        raise _foreign(name, f"preprocessing '{spec['kind']}'", ", ".join(_PREPROCESSING))
    for key in spec.keys() - {"kind"}:
        if key not in known:
            raise _foreign(name, f"preprocessing key '{key}'", ", ".join(known))
    for key, values in known.items():
        if values is not None and spec[key] not in values:
            raise _foreign(name, f"preprocessing {key} '{spec[key]}'", ", ".join(map(str, values)))
        if values is None and not (isinstance(spec[key], (int, float)) and math.isfinite(spec[key])):
            raise _foreign(name, f"preprocessing {key} '{spec[key]}'", "a number")


def _foreign(name: str, found: str, expected: str) -> EngineForeign:
    return EngineForeign(
        f"engine '{name}' asks for {found}; this StreamGuard knows {expected}. Use a matching release."
    )
