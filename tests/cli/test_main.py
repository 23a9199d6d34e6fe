"""The command itself: help, version, wrong use, and a start that imports nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

from streamguard import __version__

HEAVY = ("av", "cv2", "numpy", "openvino", "onnxruntime", "pydantic", "aiohttp", "torch")


def test_version(streamguard):
    result = streamguard("--version")
    assert (result.exit_code, result.stdout) == (0, f"streamguard {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("watch",),
        ("scan",),
        ("demo",),
        ("engines",),
        ("engines", "list"),
        ("engines", "verify"),
        ("bench",),
        ("config",),
        ("config", "check"),
        ("config", "schema"),
        ("lab",),
    ],
)
def test_every_verb_has_help(streamguard, arguments):
    result = streamguard(*arguments, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("--nonsense",),
        ("watch", "--nonsense"),
        ("watch", "demo:", "--duration", "soon"),
        ("watch", "demo:", "--duration", "-1"),
        ("watch", "demo:", "--duration", "inf"),
        ("demo", "--duration", "nan"),
        ("scan",),
        ("scan", "--nonsense"),
        ("demo", "--seed", "one"),
        ("demo", "extra"),
        ("engines", "nonsense"),
        ("config", "check"),
        ("--log-format", "xml", "engines", "list"),
    ],
)
def test_wrong_use_is_2(streamguard, arguments):
    result = streamguard(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage:" in result.stderr


def test_an_error_is_one_line_without_secrets(streamguard):
    result = streamguard("watch", "ftp://bob:hunter2@host/x.mp4")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: 'ftp://***@host/x.mp4': unknown scheme")
    assert result.stderr.count("\n") == 1


def test_the_start_imports_nothing_heavy():
    code = f"import sys; import streamguard.cli; print([name for name in {HEAVY} if name in sys.modules])"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
