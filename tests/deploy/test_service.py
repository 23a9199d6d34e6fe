"""The systemd units, as far as they can be held to what they say without a systemd."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "streamguard.service"
HEAT = ROOT / "deploy" / "edge" / "streamguard-heat.service"


@pytest.fixture
def analyze():
    path = shutil.which("systemd-analyze")
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no systemd-analyze; needs Debian's systemd")
    return path


def test_systemd_understands_the_units(analyze, tmp_path):
    # The commands are not installed where the units say: another one stands in, so that the rest is judged.
    for unit in (UNIT, HEAT):
        text = re.sub(r"/opt/streamguard/bin/\w+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(text)
    (tmp_path / "streamguard.service.d").mkdir()
    shutil.copy(HEAT.with_name("edge.conf"), tmp_path / "streamguard.service.d")
    units = [str(tmp_path / unit.name) for unit in (UNIT, HEAT)]
    done = subprocess.run([analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False)
    about_them = [line for line in done.stderr.splitlines() if "streamguard" in line]
    assert (done.returncode, about_them) == (0, [])


@pytest.mark.parametrize("unit", [UNIT, HEAT], ids=lambda unit: unit.name)
def test_the_unit_is_as_closed_as_it_says(analyze, unit):
    command = [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze knows no --offline")
    assert done.returncode == 0, done.stdout[-500:]


def test_the_unit_runs_a_verb_that_there_is():
    arguments = shlex.split(re.search(r"^ExecStart=(.*)$", UNIT.read_text(), re.MULTILINE)[1])
    assert arguments[1:4] == ["--log-format", "json", "serve"]
    command = [sys.executable, "-c", "from streamguard.cli import main; main()", *arguments[1:]]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2, "RestartPreventExitStatus: a wrong configuration is not tried again"
    assert "configuration '/etc/streamguard/streamguard.yaml' can't be read" in done.stderr
