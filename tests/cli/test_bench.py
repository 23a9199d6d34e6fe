"""bench: the report, for machines and for people."""

from __future__ import annotations

import json

import pytest


@pytest.mark.slow
def test_the_report_holds_what_is_promised(streamguard):
    result = streamguard("bench", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report.keys() >= {
        "machine",
        "date",
        "engines",
        "decode_fps",
        "detector_ms",
        "classifier_ms",
        "pipeline",
    }
    assert [row["streams"] for row in report["pipeline"]] == [1, 4, 8]
    for row in report["pipeline"]:
        assert row.keys() == {"streams", "faces", "every", "fps", "limit_fps", "ratio"}
        assert row["ratio"] == pytest.approx(row["fps"] / row["limit_fps"], abs=0.002)
