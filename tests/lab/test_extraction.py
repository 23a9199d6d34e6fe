"""Which faces carry a clip's label, through the real decoder, detector and tracker."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("h5py")

from streamguard.frames import Box
from streamguard.inference.engines import load_engine
from streamguard.lab.dataset import Entry
from streamguard.lab.extraction import Footage, Recipe, Searcher, extract
from streamguard.lab.layouts import Clip
from tests.lab.footage import FPS, FRAMES, SIDE, clip, person, scene
from tests.media import cut, write_still, write_video

pytestmark = pytest.mark.lab

RECIPE = Recipe(frames=3)


@pytest.fixture(scope="module")
def search():
    return Searcher(load_engine("face-yolov8n"))


def described(path, label="fake", entry=None):
    return Clip(path.name, label, "made", "none", (), path.name, "", path, entry)


@pytest.fixture
def run(tmp_path, search):
    def extracted(item, *, original=None, recipe=RECIPE):
        return extract(item, Footage(tmp_path), search, recipe, lambda _: original)

    return extracted


def test_frames_are_spread_evenly_and_seeded(tmp_path, run):
    item = described(clip(tmp_path / "a.mp4", 2, frames=30), "real")
    kept, dropped, error = run(item)
    assert (len(kept), dict(dropped), error) == (3, {}, None)
    steps = np.diff([face.pts for face in kept])
    assert steps == pytest.approx([2.9 / 3] * 2, abs=1 / FPS)
    assert [face.frame for face in run(item)[0]] == [face.frame for face in kept]
    seeds = {tuple(face.frame for face in run(item, recipe=Recipe(3, seed=seed))[0]) for seed in range(2)}
    assert len(seeds) > 1


def test_a_face_lies_where_its_box_says(tmp_path, run):
    kept, _, _ = run(described(clip(tmp_path / "a.mp4", 2), "real"))
    face = kept[0]
    assert face.picture.shape == (256, 256, 3)
    assert Box(42, 24, 152, 160).iou(face.box) > 0.8
    assert max(face.face.width, face.face.height) == pytest.approx(256 / 1.8, abs=2)
    scale = 256 / (1.8 * max(face.box.width, face.box.height))
    assert face.face.width == pytest.approx(face.box.width * scale, rel=0.03)


def test_all_faces_of_a_real_video_are_real(tmp_path, run):
    kept, dropped, _ = run(described(clip(tmp_path / "a.mp4", 2, 3), "real"))
    assert len(kept) == 6
    assert not dropped


def test_a_passer_by_in_a_fake_video_is_not_called_fake(tmp_path, run):
    frames = scene(2, 3, forged=2)
    for frame in frames[FRAMES // 2 :]:
        frame[:, SIDE:] = 90
    kept, dropped, _ = run(described(write_video(tmp_path / "a.mp4", frames, fps=FPS)))
    assert len(kept) == 3
    assert all(face.box.x2 < SIDE for face in kept)
    assert dropped["bystander"] >= 1


def test_after_a_cut_the_longer_track_keeps_the_label(tmp_path, run):
    """The face goes on elsewhere in the picture: the same person or not, nothing says so."""
    wall = np.full((SIDE, SIDE, 3), 90, np.uint8)
    frames = [
        np.hstack([face, wall] if i < 12 else [wall, face]) for i, face in enumerate(scene(2, forged=2, frames=20))
    ]
    kept, dropped, _ = run(described(write_video(tmp_path / "a.mp4", frames, fps=FPS)), recipe=Recipe(6))
    assert {face.box.x1 < SIDE for face in kept} == {True}
    assert len(kept) + dropped["bystander"] == 6
    assert min(len(kept), dropped["bystander"]) >= 2


@pytest.mark.parametrize("forged", [2, 3])
def test_the_recording_says_which_of_two_is_forged(tmp_path, run, forged):
    original = described(clip(tmp_path / "real.mp4", 2, 3), "real")
    kept, dropped, _ = run(described(clip(tmp_path / "a.mp4", 2, 3, forged=forged)), original=original)
    assert len(kept) == 3
    assert all((face.box.x1 >= SIDE) == (forged == 3) for face in kept)
    assert dict(dropped) == {"bystander": 3}


def test_without_the_recording_neither_of_two_is_called_fake(tmp_path, run):
    item = described(clip(tmp_path / "a.mp4", 2, 3, forged=2))
    assert (run(item)[0], dict(run(item)[1])) == ([], {"ambiguous": 6})
    same = described(clip(tmp_path / "b.mp4", 2, 3, forged=2))  # nothing differs: this is not what it was made of
    assert dict(run(item, original=same)[1]) == {"ambiguous": 6}
    other = described(write_video(tmp_path / "c.mp4", [person(2)] * FRAMES, fps=FPS))
    assert dict(run(item, original=other)[1]) == {"ambiguous": 6}


def test_a_face_seen_once_is_no_track(tmp_path, run):
    frames = [np.full((SIDE, SIDE, 3), 90, np.uint8) for _ in range(FRAMES)]
    frames[0] = person(2)
    kept, dropped, _ = run(described(write_video(tmp_path / "a.mp4", frames, fps=FPS)), recipe=Recipe(1, step=0.3))
    assert kept == []
    assert set(dropped) <= {"no face", "unconfirmed"}


def test_small_faces_are_dropped(tmp_path, run):
    item = described(clip(tmp_path / "a.mp4", 2), "real")
    kept, dropped, _ = run(item, recipe=Recipe(2, smallest=500))
    assert (kept, dict(dropped)) == ([], {"too small": 2})


def test_a_still_needs_no_second_sighting(tmp_path, run):
    path = write_still(tmp_path / "a.png", np.hstack([person(2), person(3)]))
    for label in ("fake", "real"):  # both alike, or size would tell them apart
        kept, dropped, _ = run(described(path, label))
        assert (len(kept), dict(dropped)) == (1, {"bystander": 1})


def test_the_manifest_names_the_forged_face_of_a_picture(tmp_path, run):
    path = write_still(tmp_path / "a.png", np.hstack([person(2), person(3)]))

    def entry(x):
        return Entry("a.png", "fake", "made", "gan", "g", "train", Box(x + 40, 25, x + 150, 160))

    for x in (0, SIDE):
        (face,) = run(described(path, entry=entry(x)))[0]
        assert (face.box.x1 >= SIDE) == bool(x)
    assert run(described(path, entry=entry(SIDE // 2)))[0] == []  # a box between the two agrees with neither


def test_what_decodes_of_a_cut_file_is_used_and_the_file_named(tmp_path, run):
    path = clip(tmp_path / "a.mkv", 2, frames=40)
    kept, _, error = run(described(cut(path, 0.6), "real"), recipe=Recipe(8))
    assert 1 <= len(kept) < 8
    assert error is not None
    assert "a.mkv' is cut" in error
    path.write_bytes(b"no video")
    assert run(described(path, "real"))[0] == []
    assert "a.mkv' is no video or picture" in run(described(path, "real"))[2]
