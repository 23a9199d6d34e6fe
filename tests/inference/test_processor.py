"""What a processor is called, and what it has."""

import pytest

from streamguard.inference.processor import int8_is_exact, low_precision, processor

XEON = """processor\t: 0
model name\t: A Processor @ 2.00GHz
flags\t\t: fpu avx512f avx512_vnni avx512_bf16 amx_tile

processor\t: 1
model name\t: Another
flags\t\t: fpu
"""


@pytest.fixture
def info(tmp_path):
    def written(text):
        path = tmp_path / "cpuinfo"
        path.write_text(text)
        return path

    return written


def test_the_first_processor_counts(info):
    assert processor(info(XEON)) == "A Processor @ 2.00GHz"
    assert low_precision(info(XEON)) == ("VNNI", "bf16", "AMX")


@pytest.mark.parametrize(("flags", "has"), [("fpu avx2", ()), ("avx2 avx_vnni", ("VNNI",)), ("amx_bf16", ("bf16",))])
def test_what_it_has_for_low_precision(info, flags, has):
    assert low_precision(info(f"model name : x\nflags : {flags}\n")) == has


def test_a_system_that_does_not_say(tmp_path):
    assert low_precision(tmp_path / "none") == ()
    assert processor(tmp_path / "none")


@pytest.mark.parametrize(
    ("machine", "flags", "exact"),
    [
        ("x86_64", "fpu avx2", False),
        ("x86_64", "fpu avx512f avx512bw", False),
        ("AMD64", "", False),
        ("x86_64", "avx2 avx_vnni", True),
        ("x86_64", "avx512f avx512_vnni", True),
        ("aarch64", "asimd", True),
    ],
)
def test_where_int8_is_exact(info, machine, flags, exact):
    assert int8_is_exact(info(f"model name : x\nflags : {flags}\n"), machine) is exact


def test_an_x86_that_does_not_say_is_not_trusted_with_int8(tmp_path):
    assert not int8_is_exact(tmp_path / "none", "x86_64")
    assert int8_is_exact(tmp_path / "none", "aarch64")
