"""config check and schema."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from streamguard.renames import Rename


def test_right(streamguard, tmp_path):
    (tmp_path / "c.yaml").write_text("streams: [{name: a, uri: 'demo:'}, {name: b, uri: b.mp4}]\n")
    result = streamguard("config", "check", "c.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "c.yaml: right, 2 streams\n", "")


def test_right_with_sinks(streamguard, tmp_path):
    (tmp_path / "c.yaml").write_text("streams: [{name: a, uri: b.mp4}]\nsinks: [{name: a, type: jsonl, path: a}]\n")
    result = streamguard("config", "check", "c.yaml")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "c.yaml: right, 1 stream, 1 sink\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nod: a\n", "error: c.yaml:1: 'nod' is not known; did you mean 'node'?\n"),
        ("node: 5\n", "error: c.yaml:1: 'node' is 5: expected a valid string.\n"),
        (
            "streams: [{name: a, uri: x}, {name: a, uri: y}]\n",
            "error: c.yaml:1: 'streams[0]' and 'streams[1]' are both named 'a'; give one of them another name.\n",
        ),
        ("streams: [{name: a, uri: 'ftp://bob:pw@x/'}]\n", "error: 'ftp://***@x/': unknown scheme 'ftp://'"),
        ("classifier: {engine: nope}\n", "error: engine 'nope' is neither shipped"),
        ("sinks: [{name: a, type: jsonl, path: nowhere/a}]\n", "sink 'a': there is no folder"),
        ("operating_point: nope\n", "has no operating point 'nope'"),
    ],
)
def test_wrong(streamguard, tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    result = streamguard("config", "check", "c.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_schema(streamguard):
    result = streamguard("config", "schema")
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    Draft202012Validator.check_schema(schema)
    assert "streams" in schema["properties"]


def test_keys_of_an_earlier_release(streamguard, tmp_path, monkeypatch):
    table = (Rename("sampling.every", "sampling.detect_every", "0.2.0"), Rename("bell", None, "0.2.0", "Ring it."))
    monkeypatch.setattr("streamguard.config.RENAMES", table)
    (tmp_path / "c.yaml").write_text("bell: loud\nsampling:\n  every: 7\n")
    result = streamguard("config", "check", "c.yaml")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.replace("\n", " ").split("c.yaml")[1:] == [
        ":3: 'sampling.every' is 'sampling.detect_every' since 0.2.0; it is read as that. Rename it. ",
        ":1: 'bell' is gone since 0.2.0, and is not read. Ring it. ",
        ": right, 0 streams, 2 keys of an earlier release ",
    ]
