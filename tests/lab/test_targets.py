"""Targets stand beside their figures, met or not."""

from __future__ import annotations

import pytest

from streamguard.lab import targets

pytestmark = pytest.mark.lab


def row(name, auc, ece):
    return {"set": name, "dress": "plain", "subjects": {"fp32": {"auc": {"value": auc}, "ece": ece}}}


def test_faces_are_held_against_theirs():
    rows = [
        row("dfdc", 0.96, {"value": 0.051}),
        row("warp", 0.6, {"value": 0.3}),
        row("stylegan", 0.9, "no scale fits"),
    ]
    found = targets.of_faces({"faces": {"subjects": ["fp32"], "rows": rows, "losses": {"bf16": {"mean": 0.6}}}})
    assert found == [
        "| AUC of dfdc | 0.960 | at least 0.955 | met |",
        "| AUC of stylegan | 0.900 | at least 0.98 | **not met** |",
        "| ECE of dfdc | 0.051 | at most 0.05 | **not met** |",
        "| points of AUC lost by bf16 | 0.60 | at most 0.5 | **not met** |",
    ]


def test_streams_are_held_against_theirs():
    real = {"flagged": {"count": 1, "of": 20}, "inconclusive": {"count": 2, "of": 20}}
    found = targets.of_streams({"streams": {"simulated": {"all": {"soon": {"count": 6, "of": 10}}},
                                            "recordings": {"real": {"both": real}}}})  # fmt: skip
    assert [line.split(" | ")[-1] for line in found] == ["met |", "**not met** |", "met |"]
