"""The heap's threshold, in processes of their own: it can't be taken back."""

import os
import subprocess
import sys

import pytest

# A piece of 16 MB that was freed lifts glibc's threshold; one of 1 MB then tells where it is: mapped by itself, or not.
_CHILD = """
import ctypes
from streamguard.heap import keep_large_pieces_apart

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
        ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")]

libc = ctypes.CDLL("libc.so.6")
libc.malloc.restype, libc.free.argtypes, libc.mallinfo2.restype = ctypes.c_void_p, [ctypes.c_void_p], Info
held = keep_large_pieces_apart() if {call} else None
libc.free(libc.malloc(16 << 20))
before = libc.mallinfo2().hblks
libc.malloc(1 << 20)
print(held, libc.mallinfo2().hblks - before)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's mallopt")


def said(call, **more):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")} | more
    command = [sys.executable, "-c", _CHILD.replace("{call}", str(call))]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_a_large_piece_is_mapped_by_itself_after_another_was_freed():
    assert said(True) == ["True", "1"]


def test_without_it_glibc_takes_the_piece_from_an_arena():
    assert said(False) == ["None", "0"]


def test_what_the_environment_says_stays():
    assert said(True, MALLOC_MMAP_THRESHOLD_="33554432") == ["False", "0"]
