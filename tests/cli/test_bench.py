"""bench: the report for people. What it measures is tested with the measuring itself."""

from __future__ import annotations

from streamguard.cli import console
from streamguard.cli.bench import tell

ROW = {"streams": 4, "faces": 1.0, "every": 5, "fps": 301.3, "limit_fps": 350.1, "ratio": 0.861}
REPORT = {
    "machine": "A processor of a rather long name @ 2.00GHz, 2 cores",
    "date": "2026-11-21",
    "engines": {"face-yolov8n": "0" * 16, "deepfake-steady": "1" * 16},
    "decode_fps": 412.4,
    "detector_ms": {"int8": 3.219, "fp32": 9.04},
    "classifier_ms": {"bf16": 5.5},
    "pipeline": [ROW | {"streams": 1}, ROW],
}


def test_lines_for_people(capsys):
    tell(console.output(), REPORT)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        "A processor of a rather long name @ 2.00GHz, 2 cores, 2026-11-21",
        "decoder alone 412 frames a second on one core",
        "detector int8 3.22, fp32 9.04 ms a picture on one core",
        "classifier bf16 5.50 ms a picture on one core",
        "streams faces every fps limit_fps ratio",
        "1 1.0 5 301.3 350.1 0.861",
        "4 1.0 5 301.3 350.1 0.861",
    ]
