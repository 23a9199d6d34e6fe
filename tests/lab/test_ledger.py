"""A run folder that remembers what it measured."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab.ledger import Ledger

pytestmark = pytest.mark.lab


def never():
    raise AssertionError("measured twice")


def test_nothing_is_measured_twice(tmp_path):
    ledger = Ledger(tmp_path / "run", {"seed": 1})
    assert ledger.value("a", lambda: {"auc": 0.9, "interval": (0.8, 1.0)}) == {"auc": 0.9, "interval": [0.8, 1.0]}
    assert (ledger.arrays("b/c", lambda: {"x y": np.arange(3)})["x y"] == [0, 1, 2]).all()
    again = Ledger(tmp_path / "run", {"seed": 1}, resume=True)
    assert "a" in again
    assert again.value("a", never)["auc"] == 0.9
    assert (again.arrays("b/c", never)["x y"] == [0, 1, 2]).all()
    assert again.metrics() == {}
    again.write({"n": 1})
    assert again.metrics() == {"n": 1}


def test_a_line_cut_in_half_is_measured_again(tmp_path):
    ledger = Ledger(tmp_path, {})
    for name in "ab":
        ledger.value(name, lambda: 1)
    log = tmp_path / "log.jsonl"
    log.write_text(log.read_text()[:-9])
    again = Ledger(tmp_path, {}, resume=True)
    assert "a" in again
    assert again.value("b", lambda: 2) == 2
    assert [json.loads(line)["piece"] for line in log.read_text().splitlines()] == ["a", "b"]


def test_lost_arrays_are_made_again(tmp_path):
    ledger = Ledger(tmp_path, {})
    ledger.arrays("a", lambda: {"x": np.zeros(1)})
    (tmp_path / "arrays/a.npz").unlink()
    assert ledger.arrays("a", lambda: {"x": np.ones(1)})["x"] == 1


def test_a_folder_belongs_to_one_configuration(tmp_path):
    Ledger(tmp_path, {"seed": 1, "each": 3})
    with pytest.raises(UsageError, match=r"holds a run already\. Add --resume"):
        Ledger(tmp_path, {"seed": 1, "each": 3})
    with pytest.raises(UsageError, match="begun with other values of each, seed"):
        Ledger(tmp_path, {"seed": 2, "each": 4}, resume=True)


def test_damage_is_named(tmp_path):
    Ledger(tmp_path, {})
    (tmp_path / "log.jsonl").write_text("nonsense\n")
    with pytest.raises(InputUnreadable, match=r"log\.jsonl' is damaged"):
        Ledger(tmp_path, {}, resume=True)
    for text in ("{", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputUnreadable, match=r"config\.json'"):
            Ledger(tmp_path, {}, resume=True)
