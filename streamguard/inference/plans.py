"""Plans: what TensorRT compiles a model to, built in a child process and kept in a folder.

A plan fits one library version, one kind of GPU and one model. All that is written in front of the plan; what
doesn't match what is asked for is stale and built again, by name. The plan itself identifies nothing: two
builds of one model differ. A plan is executable code, so the folder is its owner's alone.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from streamguard.errors import EngineError
from streamguard.inference.builder import (
    GRAPH_REVISION,
    MODEL,
    PLAN,
    PROFILE,
    REFUSAL,
    REQUEST,
    BuildRequest,
    Profile,
)
from streamguard.inference.engines import Engine, carrier

log = logging.getLogger(__name__)

DEFAULT_FOLDER: Final = Path("~/.cache/streamguard/plans")
_MAGIC: Final = b"streamguard plan 1\n"
_PATIENCE: Final = 1800.0
"""Seconds that a build may take: TensorRT measures every kernel, seconds to minutes."""

# A child of this kind imports nothing of the program that started it: `multiprocessing` would run a user's
# script a second time.
_CHILD: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from streamguard.inference.builder import main; sys.exit(main(sys.argv[2]))"
)


@dataclass(frozen=True, slots=True)
class PlanKey:
    """All that a plan depends on. ``gpu`` is a device's name, or empty for a plan that fits its whole kind."""

    engine: str
    variant: str
    model: str  # SHA-256 of the ONNX file
    input: str
    library: str
    version: str
    capability: str
    gpu: str
    profile: str
    graph: int
    platform: str

    @property
    def file(self) -> str:
        """The name of the plan's file: one for each engine, variant, library and capability."""
        return f"{self.engine}.{self.variant}.{self.library}.{self.capability}.plan"

    def differences(self, other: PlanKey) -> str:
        """What ``other`` has that this key hasn't, for people."""
        names = (field.name for field in fields(self))
        pairs = ((name, getattr(other, name), getattr(self, name)) for name in names)
        return ", ".join(f"{name} is {_short(found)}, not {_short(own)}" for name, found, own in pairs if found != own)


def plan_key(
    engine: Engine, variant: str, library: str, version: str, capability: str, *, gpu: str, profile: Profile
) -> PlanKey:
    """The key of ``engine`` in precision ``variant`` for a GPU."""
    spec = engine.input
    return PlanKey(
        engine=engine.name,
        variant=variant,
        model=engine.variants[carrier(variant)].sha256,
        input=f"{spec.name} {spec.width}x{spec.height} /{spec.scale:g} -{spec.mean} /{spec.std}",
        library=library,
        version=version,
        capability=capability,
        gpu=gpu,
        profile="-".join(map(str, profile)),
        graph=GRAPH_REVISION,
        platform=f"{platform.system()}-{platform.machine()}",
    )


class PlanCache:
    """A folder of plans. :meth:`get` builds what is absent or doesn't fit."""

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = folder.expanduser()

    def get(self, key: PlanKey, build: Callable[[], bytes]) -> bytes:
        """The plan of ``key``, out of the folder or from ``build``.

        Raises:
            EngineError: whatever ``build`` raises.
        """
        path = self.folder / key.file
        if not path.is_file():
            log.info("plan '%s' is not there yet: it is built now, once", path)
        else:
            plan, fault = _read(path, key)
            if plan is not None:
                return plan
            log.warning("plan '%s' is built again: %s", path, fault)
        plan = build()
        self._write(path, key, plan)
        return plan

    def discard(self, key: PlanKey, reason: str) -> None:
        """Forget a plan that turned out not to work."""
        log.warning("plan '%s' is built again: %s", self.folder / key.file, reason)
        (self.folder / key.file).unlink(missing_ok=True)

    def _write(self, path: Path, key: PlanKey, plan: bytes) -> None:
        header = json.dumps(asdict(key) | {"bytes": len(plan), "crc32": zlib.crc32(plan)}).encode()
        try:
            write_whole(path, _MAGIC + header + b"\n" + plan)
        except OSError as error:
            log.warning("plan '%s' can't be kept (%s): the next start builds it again", path, error)


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in its place, in a folder of the owner's alone: who reads meanwhile sees the old one or the new one.

    Raises:
        OSError: it can't be written.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        file.write(content)
    os.replace(file.name, path)


def _read(path: Path, key: PlanKey) -> tuple[bytes | None, str]:
    """The plan in ``path`` if it is the one of ``key``; else None and why not."""
    try:
        magic, header, plan = path.read_bytes().split(b"\n", 2)
        stated = json.loads(header)
        size, checksum = stated.pop("bytes"), stated.pop("crc32")
        found = PlanKey(**stated)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, "it is no plan of StreamGuard"
    if magic + b"\n" != _MAGIC:
        return None, "it is no plan of StreamGuard"
    if found != key:
        return None, f"it is of another kind: {key.differences(found)}"
    if len(plan) != size or zlib.crc32(plan) != checksum:
        return None, "it is damaged"
    return plan, ""


def build_plan(
    engine: Engine, variant: str, module: str, capabilities: Sequence[str], *, profile: Profile = PROFILE
) -> bytes:
    """Build ``engine`` in precision ``variant`` with ``tensorrt`` or ``tensorrt_rtx``, in a child process.

    A crash or a memory hunger of the library stays in the child.

    Raises:
        EngineError: the library is not installed, refuses the model or the device, crashes or takes half an hour.
        EngineMissing, EngineDamaged: the engine's file.
    """
    request = BuildRequest(module, engine.name, variant, engine.input, tuple(capabilities), profile)
    with tempfile.TemporaryDirectory(prefix="streamguard-plan-") as folder:
        place = Path(folder)
        (place / MODEL).write_bytes(engine.model(variant))
        (place / REQUEST).write_text(request.to_json(), encoding="utf-8")
        command = [sys.executable, "-c", _CHILD, json.dumps(sys.path), folder]
        try:
            child = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{module} did not build '{engine.name}' ({variant}) within half an hour.") from error
        if (place / REFUSAL).is_file():
            raise EngineError((place / REFUSAL).read_text(encoding="utf-8"))
        if child.returncode != 0:
            last = (child.stderr.strip().splitlines() or ["no output"])[-1]
            raise EngineError(
                f"{module} ended with code {child.returncode} while building '{engine.name}' ({variant}): {last}"
            )
        return (place / PLAN).read_bytes()


def _short(value: object) -> str:
    text = str(value) or "none"
    return f"'{text}'" if len(text) <= 24 else f"'{text[:12]}...'"
