"""An audit that fails on what leaks, names it, and passes what does not."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

import h5py
import typer

from streamguard.errors import UsageError
from streamguard.frames import Box
from streamguard.lab import cli
from streamguard.lab.audit import EVERYTHING, LIMIT, Settings, audit, judge, leaves_chain
from streamguard.lab.facefile import FaceFile
from streamguard.lab.split import PARTS
from streamguard.lab.split import split as cut
from tests.lab.footage import Made, face_file, person

pytestmark = pytest.mark.lab

PEOPLE = 30


def alike(rgb):
    return rgb


def soft(rgb):
    """As a small face enlarged: what a network would learn instead of forgery."""
    return cv2.GaussianBlur(rgb, (0, 0), 4)


def made(path, change=alike, *, source="made", people=PEOPLE):
    """Two real and two fake faces a person; ``change`` is what the fakes' quality went through."""
    videos = []
    for n in range(people):
        for label, frames, through in (("real", (0, 2), alike), ("fake", (1, 3), change)):
            pictures = tuple(through(person(n, frame)) for frame in frames)
            original, generator = ("", "none") if label == "real" else (f"{source}-r{n}", "gan")
            videos.append(
                Made(f"{source}-{label[0]}{n}", label, (f"{source}-p{n}",), original, source, generator, pictures)
            )
    return face_file(path, videos)


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    return made(tmp_path_factory.mktemp("honest") / "faces.h5")


@pytest.fixture
def split_of(tmp_path):
    def make(file, **more):
        out = tmp_path / "split.json"
        cut(file.path, out, seed=1, balance=True, swaps="join", **more)
        return out

    return make


def failures(file, split, **settings):
    with pytest.raises(typer.Exit) as ended:
        audit(file.path, split, **{"size": 64, "margin": 0.0, "each": 100, "seed": 1, **settings})
    assert ended.value.exit_code == 1
    return json.loads((split.parent / "split.audit/metrics.json").read_text())["failures"]


def edit(split, change):
    found = json.loads(split.read_text())
    change(found)
    split.write_text(json.dumps(found))


def test_an_honest_file_passes(honest, split_of, capsys):
    split = split_of(honest)
    assert cli.run(["audit", str(honest.path), str(split), "--size", "64"]) == 0
    shown = capsys.readouterr().out
    assert "neighbours across parts: 0" in shown
    assert "passed" in shown
    run = split.parent / "split.audit"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["failures"] == []
    probe = metrics["probe"]["made"]
    assert (probe["real"], probe["fake"]) == (48, 48)  # a fifth is the test, which stays closed
    assert probe["chain"] <= LIMIT
    assert probe["interval"][0] <= probe["chain"] <= probe["interval"][1]
    assert json.loads((run / "config.json").read_text())["limit"] == LIMIT
    assert (run / "probe.png").is_file()
    assert (run / "log.txt").read_text() == "passed\n"


def test_a_soft_source_fails_and_is_named(tmp_path, split_of, capsys):
    file = made(tmp_path / "faces.h5", soft)
    (failure,) = failures(file, split_of(file))
    assert failure.startswith("made: quality tells real from fake after the training chain, AUC ")
    assert "Equalise this source or drop it." in failure
    probe = json.loads((tmp_path / "split.audit/metrics.json").read_text())["probe"]["made"]
    assert probe["raw"] > 0.95
    assert LIMIT < probe["chain"] <= 1
    assert "failed: made" in capsys.readouterr().out


def test_each_source_is_judged_and_one_label_is_no_source(tmp_path, split_of):
    videos = []
    for source, labels in (("a", ("real", "fake")), ("b", ("real", "fake")), ("reals", ("real",))):
        for n in range(30):
            for label in labels:
                picture = soft(person(n)) if (source, label) == ("b", "fake") else person(n, len(label))
                videos.append(
                    Made(f"{source}{label}{n}", label, (f"{source}{n}",), "", source, "none", (picture,))
                )  # fmt: skip
    file = face_file(tmp_path / "faces.h5", videos)
    found = failures(file, split_of(file), each=20)
    assert any(failure.startswith("b: quality") for failure in found)
    probe = json.loads((tmp_path / "split.audit/metrics.json").read_text())["probe"]
    assert set(probe) == {"a", "b", "reals", EVERYTHING}
    assert probe["a"]["raw"] < 0.8 < probe["b"]["raw"]
    assert probe["reals"]["fake"] == 0
    assert probe["reals"]["chain"] is None
    assert probe[EVERYTHING]["real"] == probe["a"]["real"] + probe["b"]["real"]


def test_a_neighbour_across_parts_fails(tmp_path, split_of):
    videos = [
        Made(f"{label}{n}", label, (f"p{n}",), "", "made", "none", (person(n),))
        for n in range(40)
        for label in ("real", "fake")
    ]
    file = face_file(tmp_path / "faces.h5", videos)
    split = split_of(file)
    parts = json.loads(split.read_text())["videos"]
    fitted, tested = (next(v for v in parts if parts[v] == part) for part in ("fit", "test"))
    rows = [list(file.column("video")).index(name) for name in (fitted, tested)]
    with h5py.File(file.path, "r+") as raw:  # the same scene twice, which the split was not told
        raw["phash"][rows[0]] = raw["phash"][rows[1]] ^ np.uint64(0b111)
    edit(split, lambda found: found.update(faces_sha256=FaceFile(file.path).sha256()))
    found = failures(file, split, each=20)
    (neighbours,) = (failure for failure in found if "neighbours" in failure)
    assert neighbours.startswith("neighbours across ")
    assert f"{fitted} frame 0 (fit)" in neighbours
    assert f"{tested} frame 0 (test)" in neighbours
    assert neighbours.endswith("3 bits apart")


def test_a_person_in_two_parts_fails(honest, split_of):
    split = split_of(honest)

    def move(found):
        video = next(v for v, part in found["videos"].items() if part == "test" and "-f" in v)
        found["videos"][video] = "fit"

    edit(split, move)
    found = failures(honest, split, each=20)
    assert [failure.split(":")[0] for failure in found] == ["clip", "person"]  # its recording, and who is in it
    assert all(failure.endswith("is in the parts fit, test") for failure in found)


def test_a_family_outside_its_part_fails(honest, split_of):
    split = split_of(honest)
    edit(split, lambda found: found.update(families={"gan": "test"}))
    found = [failure for failure in failures(honest, split, each=20) if failure.startswith("family gan")]
    assert len(found) == len(PARTS) - 1
    assert "family gan: 32 faces in part fit, declared otherwise" in found


def test_too_few_faces_are_not_called_clean(tmp_path, split_of):
    file = made(tmp_path / "faces.h5", people=10)
    assert failures(file, split_of(file)) == [
        "no source has 20 faces of each label outside the test: nothing could be probed"
    ]


def test_a_split_of_another_file_is_refused(honest, tmp_path, split_of):
    other = made(tmp_path / "faces.h5", people=20)
    with pytest.raises(UsageError, match=r"split\.json' is of another face file"):
        audit(honest.path, split_of(other))


def test_the_probe_is_measured_on_people_it_was_not_fitted_on():
    """A feature that tells people apart and nothing else gives no lead."""
    rng = np.random.default_rng(2)
    groups = [str(n) for n in range(40) for _ in range(10)]
    labels = np.repeat(rng.permutation(np.arange(40) % 2), 10).astype(np.uint8)
    features = np.repeat(rng.standard_normal((40, 30)).astype(np.float32), 10, axis=0)
    value, span = judge(features, labels, groups, seed=1)
    assert value is not None
    assert span is not None
    assert value < LIMIT
    told, _ = judge(np.column_stack((features, labels)).astype(np.float32), labels, groups, seed=1)
    assert told is not None
    assert told > 0.95
    assert judge(features[:20], labels[:20], groups[:20], seed=1) == (None, None)


def test_what_leaves_the_chain_is_repeatable(honest):
    picture, box = honest.pictures([0])[0], honest.column("face")[0]
    made_twice = [leaves_chain(picture, Box(*map(float, box)), 7, Settings(size=64)) for _ in range(2)]
    assert made_twice[0].shape == (64, 64, 3)
    assert (made_twice[0] == made_twice[1]).all()
    assert (made_twice[0] != leaves_chain(picture, Box(*map(float, box)), 8, Settings(size=64))).any()
