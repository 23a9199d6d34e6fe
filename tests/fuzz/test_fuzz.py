"""A short run of every fuzzer: `make nightly` runs them at full size."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import media
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = 20
INPUTS = 99
MEMORY = 1024


@pytest.mark.slow
def test_coverage_guided(tmp_path):
    pytest.importorskip("atheris", reason="atheris has no wheel for this Python")
    command = [sys.executable, "-m", "tests.fuzz.run", "every", f"--seconds={SECONDS}", f"--keep={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "stat::number_of_executed_units" in done.stderr


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_themselves(target):
    function, seeds = TARGETS[target]
    for seed in seeds:
        function(seed)


@pytest.mark.slow
def test_mutated_media(tmp_path):
    result = media.run(INPUTS, seed=1, limit=60.0, keep=tmp_path)  # a shared machine may stand still for a while
    assert result.good(MEMORY), result
    assert sum(result.told.values()) == INPUTS
    assert set(result.told) == {"read", "named as damaged"}, "neither all sound nor all broken"
