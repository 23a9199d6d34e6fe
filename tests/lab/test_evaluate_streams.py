"""The whole chain on streams: what it finds, when, and what it flags without reason."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.inference.engines import load_engine
from streamguard.lab.dataset import Dataset
from streamguard.lab.evaluate_streams import (
    Watched,
    Watcher,
    an_hour,
    passage_found,
    real_recordings,
    recorded,
    share,
    simulate,
    summary,
)  # fmt: skip
from streamguard.lab.ledger import Ledger
from streamguard.lab.simulated import StreamSettings
from tests.lab.conftest import make_engine
from tests.lab.footage import person
from tests.media import write_video

pytestmark = pytest.mark.lab
SETTINGS = StreamSettings(length=8.0, earliest=2.0, spread=0.5, passage=3.0, taken=1.0, shortest=0.5)
HEAD = "path,label,source,generator,group,split,face_x,face_y,face_w,face_h\n"


def dark(rgb):
    """The whole picture at a fifth of its light: the detector still finds the face, the made engine calls it fake."""
    return (rgb // 5).astype(np.uint8)


def large(number, frame):
    return cv2.resize(person(number, frame), (320, 320))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four talking people, and two clips of which one is fake and dark."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("talking", "clips/real", "clips/fake"):
        (root / folder).mkdir(parents=True)
    rows = []
    for number, who in enumerate("abcd"):
        write_video(root / f"talking/{who}.mp4", [large(2 * number, n % 3) for n in range(25)], fps=25)
        rows.append(f"talking/{who}.mp4,real,talking,none,{who},sample,,,,\n")
    for label, change in (("real", lambda rgb: rgb), ("fake", dark)):
        write_video(root / f"clips/{label}/x.mp4", [change(large(9, n % 3)) for n in range(125)], fps=25)
        rows.append(f"clips/{label}/x.mp4,{label},dfdc,none,{label}x,sample,,,,\n")
    (root / "manifest.csv").write_text(HEAD + "".join(rows))
    return Dataset(root)


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return load_engine(make_engine(tmp_path_factory.mktemp("engines") / "dark", gain=6.0))


@pytest.fixture(scope="module")
def found(data, engine, tmp_path_factory):
    """(run folder, summary) of the simulated streams of one family."""
    out = tmp_path_factory.mktemp("runs")
    ledger = Ledger(out / "streams", {})
    return ledger, simulate(ledger, data, engine, ("dark",), lambda family, seed: dark, SETTINGS)


def test_a_passage_is_found_and_timed(found):
    _, made = found
    (family,) = made["families"]
    assert family["family"] == "dark"
    assert family["soon"]["count"] == family["soon"]["of"] == 3  # two people measure, one calibrates
    assert 0 < family["median_delay"] < SETTINGS.passage
    assert family["mean_iou"] > 0.4
    assert made["real_streams"]["count"] == 0
    assert made["false_alarms"]["count"] == 0
    assert made["false_alarms"]["seconds"] == 3 * 8 + 3 * 5


def test_nothing_of_the_people_stays_and_nothing_is_watched_twice(found, data, engine, monkeypatch):
    ledger, made = found
    assert not list(ledger.out.glob("*.mp4"))
    monkeypatch.setattr(Watcher, "watch", None)
    again = simulate(Ledger(ledger.out, {}, resume=True), data, engine, ("dark",), lambda *_: dark, SETTINGS)
    assert again == json.loads(json.dumps(made))


def test_a_recording_is_left_out_that_is_too_short(data, engine, tmp_path):
    settings = StreamSettings(length=8.0, shortest=5.0)
    made = simulate(Ledger(tmp_path / "run", {}), data, engine, (), lambda *_: dark, settings)
    assert made["real_streams"]["of"] == 0
    line = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])
    assert line["value"]["left_out"] == "too short"


def test_real_recordings_are_counted_by_their_length(data, engine, tmp_path):
    told = real_recordings(Ledger(tmp_path / "run", {}), data, engine)
    assert told["short"] == 2  # the measuring half's are of one second
    assert told["real"]["both"]["flagged"] == share(0, 1)
    assert told["not_clear"] == []
    (fake,) = told["fake"]
    assert (fake["name"], fake["state"]) == ("x.mp4", "flagged")
    assert fake["seconds"] == pytest.approx(4.96, abs=0.05)


def test_segments_are_held_against_the_passage():
    watched = Watched([(1.0, 2.0, 1.5), (9.5, 15.0, 12.0), (16.0, 21.0, 17.5), (30.0, 31.0, 30.5)])
    found = passage_found(watched, 10.0, 20.0)
    assert found["delay"] == 2.0
    assert found["alarms"] == 2
    assert found["iou"] == pytest.approx((5 + 4) / 11.5, abs=0.02)
    assert passage_found(Watched([(8.0, 15.0, 9.0)]), 10.0, 20.0) == {"delay": None, "iou": 0.0, "alarms": 1}


def test_alarms_an_hour_have_exact_bounds():
    assert an_hour(0, 1800) == {"count": 0, "seconds": 1800, "value": 0.0, "low": 0.0, "high": 7.38}
    assert an_hour(2, 3600)["value"] == 2.0
    assert share(0, 0) == {"count": 0, "of": 0, "low": 0.0, "high": 1.0}


def test_what_was_not_found_has_no_delay():
    row = {"family": "x", "state": "clear", "delay": None, "iou": 0.0, "alarms": 0}
    of = summary([row], SETTINGS)["all"]
    assert of["median_delay"] == "none found"
    assert of["soon"]["count"] == 0


def test_only_what_is_not_clear_is_named():
    base = {"set": "clips", "label": "real", "seconds": 9.0, "reason": None, "segments": 0, "error": None}
    rows = [{**base, "name": name, "state": state} for name, state in
            (("a", "clear"), ("b", "flagged"), ("c", "inconclusive"))]  # fmt: skip
    told = recorded(rows)
    assert [row["name"] for row in told["not_clear"]] == ["b", "c"]
    assert told["real"]["clips"]["inconclusive"]["count"] == 1
