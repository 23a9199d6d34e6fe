"""Simulated streams: planned once, forged from a moment on, and nothing else changed."""

from __future__ import annotations

import av
import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.errors import PictureSize
from streamguard.lab.dataset import Dataset
from streamguard.lab.simulated import CRFS, StreamSettings, frames_of, plans, recordings, to_and_fro, write
from tests.lab.footage import person
from tests.media import write_video

pytestmark = pytest.mark.lab
SHORT = StreamSettings(length=2.0, earliest=0.5, spread=0.5, passage=0.6, taken=1.0, shortest=0.5)
HEAD = "path,label,source,generator,group,split,face_x,face_y,face_w,face_h\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four people, one of them twice."""
    root = tmp_path_factory.mktemp("data")
    (root / "talking").mkdir()
    rows = []
    for name, who in (("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("d2", "d")):
        write_video(root / f"talking/{name}.mp4", [person(ord(who), frame) for frame in range(30)], fps=25)
        rows.append(f"talking/{name}.mp4,real,talking,none,{who},sample,,,,\n")
    (root / "manifest.csv").write_text(HEAD + "".join(rows))
    return Dataset(root)


def test_every_person_lends_one_recording(data):
    found = recordings(data, ("calibration", "measure"))
    assert len(found) == 3  # two measure, one calibrates, one trains
    assert [part for part, _ in found].count("measure") == 2
    assert all(entry.path != "talking/d2.mp4" for _, entry in found)


def test_plans_are_the_same_each_time(data):
    people = recordings(data, ("measure",))
    made = plans(people, ("x", "y"), SHORT)
    assert made == plans(people, ("x", "y"), SHORT)
    assert [plan.family for plan in made] == [None, "x", "y"] * 2
    assert all((plan.start is None) == (plan.family is None) for plan in made)
    assert all(0.5 <= plan.start <= 1.0 for plan in made if plan.start is not None)
    assert all(plan.crf in CRFS for plan in made)
    many = plans(people, ("x", "y", "z"), SHORT)
    assert [plan.family for plan in many] == [None, "x", "y", None, "z", "x"]
    assert made != plans(people, ("x", "y"), StreamSettings(seed=2))


def test_to_and_fro_never_jumps():
    assert to_and_fro(4, 9) == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert to_and_fro(1, 3) == [0, 0, 0]


def test_recordings_are_cut_and_limited(data):
    path = data.root / "talking/a.mp4"
    frames = frames_of(path, SHORT)
    assert len(frames) == 25
    assert frames[0].shape == (192, 192, 3)
    small = frames_of(path, StreamSettings(longest_side=101))
    assert small[0].shape == (100, 100, 3)
    assert len(small) == 30


def darkness(path):
    """Seconds of the frames that are nearly black."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0) if frame.to_ndarray(format="gray").mean() < 40]


def test_the_passage_is_forged_and_nothing_else(data, tmp_path):
    plan = plans(recordings(data, ("measure",)), ("black",), SHORT)[1]
    frames = frames_of(data.root / plan.entry.path, SHORT)
    forged = write(tmp_path / "a.mp4", frames, plan, SHORT, lambda rgb: np.zeros_like(rgb))
    dark = darkness(tmp_path / "a.mp4")
    assert 0 < forged <= len(frames)
    assert min(dark) == pytest.approx(plan.start, abs=0.05)
    assert max(dark) == pytest.approx(plan.start + SHORT.passage, abs=0.05)
    assert len(dark) == pytest.approx(SHORT.passage * 25, abs=1)
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 50


def test_a_stream_without_a_forgery_is_not_called_one(data, tmp_path):
    real, plan = plans(recordings(data, ("measure",)), ("x",), SHORT)[:2]
    frames = frames_of(data.root / plan.entry.path, SHORT)
    assert write(tmp_path / "a.mp4", frames, real, SHORT, None) == 0
    with pytest.raises(PictureSize, match=f"no frame of '{plan.name}' shows a face that can be forged as 'x'"):
        write(tmp_path / "b.mp4", frames, plan, SHORT, lambda rgb: rgb)
