"""The heap of a process that runs for years: what is large goes back to the system when it is freed.

glibc maps each large piece by itself at first, and gives it back when it is freed. Once it has freed one it takes
pieces of that size from its arenas instead (``mallopt(3)``, ``M_MMAP_THRESHOLD``). A decoder's pictures are of that
size, and each connection's thread may have an arena of its own: after every reconnection some megabytes stayed behind
in pieces that fit nothing (benchmarks/soak.py).
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

LARGE: Final = 128 * 1024
"""Bytes: glibc's own threshold, as long as it stays where it was."""

_M_MMAP_THRESHOLD: Final = -3


def keep_large_pieces_apart() -> bool:
    """Hold the threshold where it is. Call it early in a process that is StreamGuard's own.

    False, and nothing changes, where the C library is not glibc, or ``MALLOC_MMAP_THRESHOLD_`` says something else.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE))
