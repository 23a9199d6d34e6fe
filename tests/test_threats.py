"""docs/security.md: each threat names tests, and they are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
ROWS = [line for line in PAGE.partition("## Threats and tests")[2].partition("\n## ")[0].splitlines() if "`" in line]
THERE = {path.stem for path in ROOT.glob("tests/**/test_*.py")} | {
    name
    for path in ROOT.glob("tests/**/test_*.py")
    for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
}


@pytest.mark.parametrize("row", [row for row in ROWS if row.startswith("|")], ids=lambda row: row[2:40].strip())
def test_each_row_names_tests_that_there_are(row: str) -> None:
    tests = row.rstrip("| ").rpartition(" | ")[2]
    named = re.findall(r"\btest_\w+", tests)
    assert named, "a threat without a test"
    assert [name for name in named if name not in THERE] == []
    assert [path for path in re.findall(r"`(tests/[\w/.]+)`", tests) if not (ROOT / path).exists()] == []
