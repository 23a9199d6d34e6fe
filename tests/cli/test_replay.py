"""`streamguard replay`: what it prints and how it exits."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.test_replay import change


@pytest.fixture
def folder(demo_evidence, tmp_path):
    return shutil.copytree(demo_evidence, tmp_path / "segment")


def test_the_same_again(streamguard, demo_evidence):
    result = streamguard("replay", demo_evidence)
    count = len(json.loads((demo_evidence / "scores.json").read_text())["scores"])
    assert result.exit_code == 0
    assert f"{count} of {count} scores within 0.001" in result.stdout
    assert "state flagged, as recorded" in result.stdout


def test_a_difference_is_shown(streamguard, folder):
    def lower(document):
        document["scores"][3]["logit"] -= 0.5
        document["scores"][4]["clip_pts"] = 1
        document["operating_point"]["threshold"] = 20.0

    change(folder, lower)
    result = streamguard("replay", folder)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["pts", "recorded", "found", "difference", "pixels"]
    assert lines[1].split()[3:] == ["+0.5000", "same"]
    assert "no such frame" in lines[2]
    assert "2 of" in lines[3]
    assert "State clear, recorded was flagged." in lines[4]


def test_what_is_wrong_with_a_folder_is_named(streamguard, folder):
    (folder / "scores.json").write_text("{}")
    result = streamguard("replay", folder)
    assert result.exit_code == 1
    assert "'scores.json' has 2 bytes" in result.stderr
    shutil.rmtree(folder)
    assert streamguard("replay", folder).exit_code == 1


def test_an_engine_that_is_not_at_hand_is_wrong_use(streamguard, folder):
    change(folder, lambda document: document["engines"][1].update({"name": "unheard-of"}))
    result = streamguard("replay", folder)
    assert result.exit_code == 2
    assert "'unheard-of'" in result.stderr
