"""lab: verbs that load on demand. No mark: it is the runtime's tests that must prove it without the extra."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from streamguard.errors import UsageError
from streamguard.lab import cli


def test_help_lists_every_verb_and_imports_none(capsys):
    before = set(sys.modules)
    assert cli.run(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in cli.VERBS:
        assert name in shown
    assert not {name for name in set(sys.modules) - before if name.startswith("streamguard.lab.")}


def test_a_missing_extra_is_one_line(monkeypatch):
    monkeypatch.setitem(cli.VERBS, "grow", ("tests.lab.nowhere_to_be_found:grow", ""))
    with pytest.raises(UsageError, match=r"'lab grow' needs tests.*pip install 'streamguard\[lab\]'") as caught:
        cli.run(["grow"])
    assert caught.value.exit_code == 2


def test_a_missing_module_of_ours_is_a_bug_and_shown_as_one(monkeypatch):
    monkeypatch.setitem(cli.VERBS, "grow", ("streamguard.lab.nowhere:grow", ""))
    with pytest.raises(ModuleNotFoundError):
        cli.run(["grow"])


def test_arguments_reach_the_verb(monkeypatch, capsys):
    monkeypatch.setitem(cli.VERBS, "grow", ("tests.lab.test_cli:grow", "Grow."))
    assert cli.run(["grow", "--by", "3", "oak"]) == 0
    assert capsys.readouterr().out == "oak 3\n"
    assert cli.run(["grow", "--help"]) == 0
    assert "--by" in capsys.readouterr().out


def grow(what: str, by: int = 1) -> None:
    sys.stdout.write(f"{what} {by}\n")


def test_without_the_extra_the_command_says_so():
    """A real process in which torch can't be found."""
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['ultralytics'] = None\n"
        "from streamguard.cli import main; main()"
    )
    environment = {"PYTHONPATH": ":".join(sys.path)}
    command = [sys.executable, "-c", code, "lab", "train", "out"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: 'lab train' needs ")
    assert done.stderr.endswith("which is not installed: pip install 'streamguard[lab]'\n")


@pytest.mark.lab
@pytest.mark.parametrize("name", list(cli.VERBS))
def test_every_verb_loads_and_has_help(name, capsys):
    assert inspect.isfunction(cli._load(name))
    assert cli.run([name, "--help"]) == 0
    assert f"lab {name}" in capsys.readouterr().out
