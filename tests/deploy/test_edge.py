"""Edge boxes: the bundle and its installer on a box without a network, the defaults, and the heat."""

import hashlib
import os
import platform
import re
import subprocess
import sys
import sysconfig
import tarfile
from importlib import util
from pathlib import Path

import pytest

from streamguard import __version__
from streamguard.config import load_config
from tests.deploy.tools import DEPLOY, ROOT, missing, run, tool

EDGE = DEPLOY / "edge"
HERE = Path(__file__).parent
SCRIPTS = [*sorted(EDGE.glob("*.sh")), EDGE / "streamguard-tokens", *sorted(HERE.rglob("*.sh"))]


def module(path):
    source = util.spec_from_file_location(path.stem, path)
    found = util.module_from_spec(source)
    sys.modules[path.stem] = found
    source.loader.exec_module(found)
    return found


heat = module(EDGE / "heat.py")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script):
    run(tool("shellcheck", "Debian's shellcheck"), script)


def test_the_defaults_are_right_and_bounded():
    config = load_config(EDGE / "streamguard.yaml", {})
    assert config.streams == ()
    assert config.outbox.path.startswith("/var/lib/streamguard/")
    assert config.outbox.max_age == 30 * 86400
    (archive,) = config.sinks
    kept = config.outbox.max_bytes + config.evidence.max_bytes + archive.max_bytes * (archive.keep + 1)
    stated = int(re.search(r"-ge (\d+) \] \|\| say", (EDGE / "install.sh").read_text())[1]) * 2**20
    assert kept + config.evidence.reserve_bytes < stated, "the installer warns where this does not fit"


# The bundle. One takes as long as its downloads: the tests that need it share it.


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    if util.find_spec("pip") is None:
        missing("this environment has no pip to make a bundle with")
    out = tmp_path_factory.mktemp("bundle")
    run("sh", EDGE / "bundle.sh", sys.executable, out)
    (made,) = out.glob("*.tar")
    return made


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_bundle_has_what_it_names(bundle):
    name = f"streamguard-{__version__}-{platform.machine()}-py{sysconfig.get_python_version()}"
    assert bundle.name == f"{name}.tar"
    said, file = bundle.with_suffix(".tar.sha256").read_text().split()
    assert (file, said) == (bundle.name, hashlib.sha256(bundle.read_bytes()).hexdigest())
    with tarfile.open(bundle) as archive:
        held = {member.name.removeprefix(f"{name}/") for member in archive if member.isfile()}
        sums = archive.extractfile(f"{name}/SHA256SUMS").read().decode().splitlines()
    assert {line.split("  ", 1)[1] for line in sums} | {"SHA256SUMS"} == held
    assert {"install.sh", "systemd/streamguard.service", "edge/streamguard.yaml", "deploy.md", "LICENSE"} <= held
    assert f"wheels/streamguard-{__version__}-py3-none-any.whl" in held


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_it_installs_and_runs_without_a_network(bundle, tmp_path):
    """On a copy of this machine: files of the real places, a read-only root, a user without rights."""
    if subprocess.run(["sh", HERE / "box.sh", "/dev/null"], check=False, capture_output=True).returncode != 0:
        missing("this system lets nobody have namespaces of their own")
    python = os.path.realpath(sys.executable)
    results = Path("/dev/shm") / f"streamguard-{os.getpid()}"  # the box shares /dev; its other files are its own
    results.mkdir()
    try:
        run("sh", HERE / "box.sh", HERE / "offline.sh", bundle, python, results, timeout=900)
        told = {file.name: file.read_text() for file in results.iterdir()}
    finally:
        for file in results.iterdir():
            file.unlink()
        results.rmdir()
    assert "the bundle is damaged: copy it here again" in told["damaged"]
    assert f"{__version__} is installed" in told["installed"]
    assert told["version"] == f"streamguard {__version__}\n"
    assert not Path("/opt/streamguard").exists(), "this machine is as it was"


def test_the_installer_refuses_what_it_does_not_know():
    for arguments, said in ((["--rot"], "'--rot' is not known"), (["--python"], "--python needs a command")):
        done = subprocess.run(["sh", EDGE / "install.sh", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert said in done.stderr


# Heat.


@pytest.fixture
def governor():
    return heat.Governor(heat.Limits(hot=85, cool=75, shares=(1, 0.75, 0.5, 0.25), heating=20, cooling=120))


def test_a_cool_box_is_left_alone(governor):
    assert not any(governor.told(now, 84.9) for now in range(0, 1000, 10))
    assert governor.share == 1


def test_a_hot_box_does_less_a_step_at_a_time(governor):
    assert governor.told(0, 85)
    assert governor.share == 0.75
    assert not governor.told(10, 90), "a step shows late"
    assert governor.told(20, 90)
    assert governor.told(40, 90)
    assert governor.share == 0.25
    assert not governor.told(60, 99), "never nothing at all"


def test_it_does_more_once_the_box_has_been_cool_for_a_while(governor):
    governor.told(0, 90)
    governor.told(20, 90)
    assert not governor.told(30, 74)
    assert not governor.told(100, 80), "between the limits nothing changes, and the time begins anew"
    assert not any(governor.told(now, 74) for now in range(110, 230, 10))
    assert governor.told(230, 74)
    assert governor.share == 0.75
    assert governor.told(350, 74)
    assert governor.share == 1
    assert not governor.told(470, 74)


def test_the_hottest_zone_counts(tmp_path):
    assert heat.hottest(tmp_path) is None
    for number, text in enumerate(("41000\n", "86500\n", "asleep")):
        (tmp_path / f"thermal_zone{number}").mkdir()
        (tmp_path / f"thermal_zone{number}" / "temp").write_text(text)
    (tmp_path / "thermal_zone9" / "temp").mkdir(parents=True)
    assert heat.hottest(tmp_path) == 86.5


@pytest.mark.parametrize(
    ("share", "processors", "said"),
    [(1.0, 4, "CPUQuota="), (0.75, 4, "CPUQuota=300%"), (0.25, 1, "CPUQuota=25%"), (0.25, 2, "CPUQuota=50%")],
)
def test_what_systemd_is_told(share, processors, said):
    assert heat.quota(share, processors) == said


def test_systemd_is_told_and_a_refusal_is_logged(tmp_path, caplog):
    command = tmp_path / "systemctl"
    command.write_text('#!/bin/sh\necho "$@" >>told\n')
    command.chmod(0o755)
    cwd = os.getcwd()
    os.chdir(tmp_path)
    try:
        heat.apply(1.0, str(command))
    finally:
        os.chdir(cwd)
    assert (tmp_path / "told").read_text() == "set-property --runtime streamguard.service CPUQuota=\n"
    command.write_text("#!/bin/sh\necho not allowed >&2; exit 1\n")
    heat.apply(1.0, str(command))
    assert caplog.messages == ["CPUQuota= was not set: not allowed"]


def test_the_watch_ends_with_the_temperatures(caplog):
    told, given = [], iter([60.0, 90.0, None])
    heat.watch(heat.Governor(heat.Limits(shares=(1.0, 0.5))), 0.0, lambda: next(given), told.append)
    assert told == [0.5, 1.0]
    assert caplog.messages[0] == "90 degrees: StreamGuard may use 50 % of the processors"


def test_limits_that_contradict_are_refused():
    done = subprocess.run(
        [sys.executable, EDGE / "heat.py", "--hot", "60", "--cool", "60"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--cool 60 must be lower than --hot 60" in done.stderr


def test_the_bundle_is_made_by_a_command_that_there_is():
    assert "deploy/edge/bundle.sh" in (ROOT / "Makefile").read_text()
