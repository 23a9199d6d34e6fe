"""The log of openings: written first, never taken back, shown in the card."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

pytest.importorskip("torch")

from streamguard.errors import InputUnreadable, UsageError
from streamguard.inference.engines import load_engine
from streamguard.lab.openings import measured, opened, openings, with_openings
from tests.lab.conftest import make_engine

pytestmark = pytest.mark.lab
FIGURE = {"value": 0.91234, "low": 0.9, "high": 0.92}


@pytest.fixture
def engine(tmp_path):
    return load_engine(make_engine(tmp_path / "tiny"))


def test_an_opening_is_logged_and_shown(engine):
    assert opened(engine, "release\n0.2", datetime(2026, 3, 4, tzinfo=UTC)) == 1
    card = (engine.folder / "CARD.md").read_text()
    assert card.startswith("# tiny\n\nMade for a test.\n\n<!-- openings")
    assert f"| 1 | 2026-03-04 | 0.0.1 | `{engine.sha256[:16]}` | release 0.2 | broken off |" in card
    measured(engine, 1, {"dfdc": FIGURE})
    assert opened(engine, "once more") == 2
    card = (engine.folder / "CARD.md").read_text()
    assert "| release 0.2 | dfdc 0.912 (0.900-0.920) |" in card
    assert card.count("## Openings of the test") == 1
    assert card.count("| once more | broken off |") == 1
    lines = [json.loads(line) for line in (engine.folder / "openings.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["opened", "measured", "opened"]
    assert lines[0]["sha256"] == engine.sha256


def test_a_new_card_keeps_the_openings_of_older_versions(engine):
    opened(engine, "release 0.2")
    text = with_openings("# tiny 0.3\n\nOther words.\n", engine.folder)
    assert "release 0.2" in text
    assert text.startswith("# tiny 0.3\n\nOther words.\n")
    assert with_openings(text, engine.folder) == text


def test_a_card_says_that_nothing_was_opened(tmp_path):
    assert "was not opened for any version" in with_openings("# new\n", tmp_path)
    assert openings(tmp_path) == []


def test_no_reason_no_opening(engine):
    with pytest.raises(UsageError, match="--because TEXT"):
        opened(engine, "  ")
    (engine.folder / "CARD.md").unlink()
    with pytest.raises(UsageError, match=r"no CARD\.md to log an opening in"):
        opened(engine, "release")
    assert not (engine.folder / "openings.jsonl").exists()


def test_a_damaged_log_is_not_overlooked(engine):
    (engine.folder / "openings.jsonl").write_text("{\n")
    with pytest.raises(InputUnreadable, match="openings of a test are kept"):
        opened(engine, "release")
