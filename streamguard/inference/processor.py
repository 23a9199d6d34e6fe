"""The processor at hand: its name, and what it has for low precision."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

_INFO: Final = Path("/proc/cpuinfo")
_FEATURES: Final = {"VNNI": ("avx512_vnni", "avx_vnni"), "bf16": ("avx512_bf16", "amx_bf16"), "AMX": ("amx_tile",)}


def processor(info: Path = _INFO) -> str:
    """Its name, as it is sold."""
    return _field(info, "model name") or platform.processor() or platform.machine()


def low_precision(info: Path = _INFO) -> tuple[str, ...]:
    """Which of VNNI (int8), bf16 and AMX (both) it has; nothing where that can't be told."""
    flags = set(_field(info, "flags").split())
    return tuple(name for name, any_of in _FEATURES.items() if flags & set(any_of))


def int8_is_exact(info: Path = _INFO, machine: str | None = None) -> bool:
    """Whether the sums of int8 convolutions hold what they should.

    On x86 without VNNI oneDNN adds products of 8 bits pair by pair in 16, which overflow (oneDNN, "Nuances of int8
    computations"): a detector whose best face scores 0.83 gives it 0.23 (docs/performance.md). False also where an x86
    doesn't say what it has. Others, such as ARM, have wide sums.
    """
    x86 = (machine or platform.machine()).lower() in ("x86_64", "amd64", "i686", "x86")
    return not x86 or "VNNI" in low_precision(info)


def _field(info: Path, name: str) -> str:
    """The first processor's entry; empty if there is none."""
    if not info.is_file():
        return ""
    for line in info.read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
