"""The systemd unit and the container, as far as they can be held to what they say without a systemd or a registry."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from streamguard.access import ApiSettings
from streamguard.metrics import Metrics
from streamguard.server.app import Server
from tests.serving import LOCAL, WELL

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "systemd" / "streamguard.service"
CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"


@pytest.fixture
def analyze():
    path = shutil.which("systemd-analyze")
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no systemd-analyze; needs Debian's systemd")
    return path


def test_systemd_understands_the_unit(analyze, tmp_path):
    # The command is not installed where the unit says: another one stands in, so that the rest is judged.
    copy = tmp_path / "streamguard.service"
    copy.write_text(UNIT.read_text().replace("/opt/streamguard/bin/streamguard", "/bin/true"))
    done = subprocess.run([analyze, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if "streamguard" in line]
    assert (done.returncode, about_it) == (0, [])


def test_the_unit_is_as_closed_as_it_says(analyze):
    command = [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT)]
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


def instructions():
    text = re.sub(r"\\\n\s*", "", CONTAINERFILE.read_text())
    return [tuple(line.split(" ", 1)) for line in text.splitlines() if line and not line.startswith("#")]


def test_the_container_has_no_root_and_copies_what_there_is():
    users = [value for name, value in instructions() if name == "USER"]
    assert users == ["10001:10001"]
    for name, value in instructions():
        if name == "COPY" and not value.startswith("--from"):
            for source in value.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}\n" in (ROOT / ".containerignore").read_text()


def test_the_health_check_of_the_container():
    check = next(value for name, value in instructions() if name == "HEALTHCHECK")
    command = json.loads(check.partition("CMD ")[2])
    with Server(Metrics(), WELL, LOCAL, ApiSettings()) as server:
        asked = command[2].replace(":8080", f":{server.address.port}")
        assert subprocess.run([sys.executable, *command[1:2], asked], check=False).returncode == 0
    assert subprocess.run([sys.executable, *command[1:2], asked], check=False, capture_output=True).returncode != 0
