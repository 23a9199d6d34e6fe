"""The keeper over real disks: what it writes, what it deletes, and what it does when the disk says no."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest

from streamguard.delivery.dossier import MANIFEST, dossiers, read_manifest
from streamguard.delivery.evidence import Clocks, EvidenceSettings
from streamguard.errors import UsageError
from streamguard.frames import State
from tests.clock import Clock
from tests.exhibits import BOX, Kept, exhibits_of, pictures
from tests.media import patterns, write_video


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """Seven seconds, a keyframe a second."""
    return write_video(tmp_path_factory.mktemp("film") / "a.mp4", patterns(175), gop=25, audio=True)


def test_a_folder_of_evidence(film, tmp_path):
    with Kept(tmp_path) as kept:
        given = kept.show(film)
    assert given == [{"folder": "door/run.segment-2"}] * 2
    folder = tmp_path / given[0]["folder"]
    manifest = read_manifest(folder)
    assert sorted(manifest["files"]) == ["clip.mp4", "crop.png", "scores.json", "still.jpg"]
    assert manifest["segment"] == {"id": "run.segment-2", "stream": "door"}
    assert manifest["signed_by"] is None
    assert kept.count("written") == 1
    held = kept.metrics.registry.get_sample_value("streamguard_evidence_bytes")
    assert held == sum(path.stat().st_size for path in folder.iterdir())


def test_scores_name_the_pictures_of_the_clip(film, tmp_path):
    with Kept(tmp_path) as kept:
        kept.show(film)
    folder = tmp_path / "door" / "run.segment-2"
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["segment"]["state"] == State.FLAGGED.value
    assert scores["segment"]["pts"] == {"start": 2.0, "end": 4.0}
    assert scores["segment"]["started_at"] == "1970-01-12T13:46:42.000Z"
    base = scores["clip"]["time_base"][0] / scores["clip"]["time_base"][1]
    clip, original = pictures(folder / "clip.mp4"), pictures(film)
    assert len(scores["scores"]) == 21
    for score in scores["scores"]:
        assert score["clip_pts"] * base == pytest.approx(score["pts"] - 1.0, abs=1e-6)
        assert clip[score["clip_pts"]] == original[round(score["pts"] * 12800)]
        assert score["box"] == list(BOX)
    assert [pts for pts, _ in scores["earlier"]] == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])


def test_still_and_crop_are_of_the_highest_score(film, tmp_path):
    with Kept(tmp_path) as kept:
        kept.show(film)
    folder = tmp_path / "door" / "run.segment-2"
    still, crop = cv2.imread(str(folder / "still.jpg")), cv2.imread(str(folder / "crop.png"))
    (exhibit,) = exhibits_of(film)
    assert still.shape == (240, 320, 3)
    assert crop.shape == (64, 64, 3)
    assert np.array_equal(cv2.cvtColor(crop, cv2.COLOR_BGR2RGB), exhibit.still.crop)
    assert json.loads((folder / "scores.json").read_text())["still"] == {"pts": 3.0}


def test_a_stream_can_have_any_name(film, tmp_path):
    with Kept(tmp_path / "evidence") as kept:
        (first, _) = kept.show(film, stream="../../etc/passwd")
    folder = (tmp_path / "evidence" / first["folder"]).resolve()
    assert folder.parent.parent == tmp_path / "evidence"
    assert read_manifest(folder)["segment"]["stream"] == "../../etc/passwd"
    assert [path.name for path in tmp_path.iterdir()] == ["evidence"]


def test_evidence_goes_by_age(film, tmp_path):
    wall = Clock()
    with Kept(tmp_path, Clocks(wall, time.monotonic), max_age_days=1.0) as kept:
        kept.show(film, start=2.0)
        until(lambda: kept.count("written") == 1)
        wall.now += 86401
        kept.show(film, start=2.5)
        until(lambda: kept.count("written") == 2)
    assert [folder.name for folder in dossiers(tmp_path)] == ["run.segment-2.5"]


def test_evidence_goes_by_size_and_a_new_start_knows_what_is_there(film, tmp_path):
    with Kept(tmp_path) as kept:
        kept.show(film, stream="a")
    size = sum(path.stat().st_size for path in (tmp_path / "a" / "run.segment-2").iterdir())
    # The estimate of what is to come holds a megabyte for pictures.
    with Kept(tmp_path, max_bytes=2 * size + 2**20) as kept:
        for stream in ("b", "c"):
            kept.show(film, stream=stream)
    assert sorted(folder.parent.name for folder in dossiers(tmp_path)) == ["b", "c"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]


def test_what_is_larger_than_all_that_may_be_kept_is_not_written(film, tmp_path):
    with Kept(tmp_path, max_bytes=1000) as kept:
        kept.show(film)
    assert kept.count("too large") == 1
    assert list(dossiers(tmp_path)) == []


def test_a_disk_error_pauses_evidence_and_passes(film, tmp_path):
    steady = Clock()
    (tmp_path / "door").write_text("a file where a folder should be")
    with Kept(tmp_path, Clocks(time.time, steady)) as kept:
        assert kept.show(film)[0] is not None, "nobody knows yet"
        until(lambda: kept.count("disk error") == 1)
        assert kept.metrics.registry.get_sample_value("streamguard_evidence_paused") == 1
        assert kept.show(film) == [], "events name no folder that will not come"
        assert kept.count("disk error") == 2
        (tmp_path / "door").unlink()
        steady.now += 31
        kept.keeper._writer.tidy()  # as the thread does every ten seconds
        assert kept.metrics.registry.get_sample_value("streamguard_evidence_paused") == 0
        assert len(kept.show(film)) == 2
    assert kept.count("written") == 1


@contextmanager
def small_disk(folder, options):
    """A tmpfs of its own; the test skips where that takes rights that it has not."""
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"a tmpfs can't be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_stops_evidence_and_nothing_else(film, tmp_path):
    with small_disk(tmp_path / "disk", "size=4m") as disk:
        filler = disk / "filler"
        filler.write_bytes(bytes(3 * 2**20))
        with Kept(disk / "evidence") as kept:
            kept.show(film)
            until(lambda: kept.count("disk full") == 1)
            assert list((disk / "evidence").glob("*/*")) == []
            filler.unlink()
            kept.keeper._writer.tidy()
            assert len(kept.show(film)) == 2, "there is room again"
        assert kept.count("written") == 1
        for folder in dossiers(disk / "evidence"):
            read_manifest(folder)


def test_a_disk_that_fills_while_it_is_written_leaves_no_half_folder(film, tmp_path):
    # Room in bytes, but not for names: it is found out on the way.
    with small_disk(tmp_path / "disk", "size=64m,nr_inodes=8") as disk:
        with Kept(disk / "evidence") as kept:
            kept.show(film)
            until(lambda: kept.count("written") + kept.count("disk full") == 1)
            kept.show(film, start=2.5)
            until(lambda: kept.count("written") + kept.count("disk full") == 2)
        assert kept.count("disk full") >= 1
        for folder in dossiers(disk / "evidence"):
            read_manifest(folder)
        assert not list((disk / "evidence").glob("*/.*"))


def test_a_reserve_is_left_to_events(film, tmp_path):
    with Kept(tmp_path, reserve_bytes=2**60) as kept:
        until(lambda: kept.keeper._writer.paused == "disk full")
        assert kept.show(film) == []
    assert kept.count("disk full") == 1


def test_more_than_the_disk_can_take_is_given_up_by_name(film, tmp_path, monkeypatch):
    held = threading.Event()
    with Kept(tmp_path, bound=1) as kept:
        write = kept.keeper._writer.keep
        monkeypatch.setattr(kept.keeper._writer, "keep", lambda exhibit: (held.wait(60), write(exhibit))[1])
        for start in (1.0, 1.5, 2.0):
            kept.show(film, start=start)
            until(lambda start=start: start > 1.0 or kept.keeper._waiting.empty())
        held.set()
    assert (kept.count("written"), kept.count("overflow")) == (2, 1)
    assert sorted(folder.name for folder in dossiers(tmp_path)) == ["run.segment-1", "run.segment-1.5"]


def test_a_folder_that_can_not_be_used_is_refused_at_the_start(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"evidence folder '.*file' can't be used"):
        Kept(tmp_path / "file")


@pytest.mark.parametrize(
    ("key", "value"),
    [("pre", -1.0), ("post", 61.0), ("longest", 0.0), ("max_age_days", 0.0), ("max_bytes", -1), ("folder", "")],
)
def test_settings_out_of_range_are_refused(key, value):
    with pytest.raises(ValueError, match=key):
        EvidenceSettings(**{key: value})


WRITER = """
import sys
from pathlib import Path
from tests.exhibits import Kept, exhibits_of
from dataclasses import replace

(exhibit,) = exhibits_of(Path(sys.argv[1]))
writer = Kept(Path(sys.argv[2])).keeper._writer
print("ready", flush=True)
number = 0
while True:
    number += 1
    assert writer.keep(replace(exhibit, name=f"{sys.argv[3]}.{number}")) == "written"
"""


@pytest.mark.slow
def test_kill_9_leaves_no_folder_that_does_not_match_its_manifest(film, tmp_path):
    rng = np.random.default_rng(1)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    evidence = tmp_path / "evidence"
    for turn in range(3):
        command = [sys.executable, "-c", WRITER, str(film), str(evidence), f"turn{turn}"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            until(lambda turn=turn: any(evidence.glob(f"*/turn{turn}.*")))
            time.sleep(rng.uniform(0.0, 0.5))
            os.kill(writer.pid, signal.SIGKILL)
            writer.wait()
        for folder in dossiers(evidence):
            read_manifest(folder)
    assert len(list(dossiers(evidence))) >= 3
    with Kept(evidence):
        pass
    assert not list(evidence.glob("*/.*")), "what was half done is swept up"
    assert all((folder / MANIFEST).is_file() for folder in evidence.glob("*/*"))


def until(condition, seconds=60.0):
    """Wait for something to be so."""
    due = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < due, "it never was"
        time.sleep(0.01)


def test_a_recording_longer_than_the_ring_has_no_hole(tmp_path):
    film = write_video(tmp_path / "long.mp4", patterns(25 * 40, 160, 120), gop=50)
    (exhibit,) = exhibits_of(film, start=2.0, end=37.0)
    numbers = [packet.number for packet in exhibit.packets if packet.video]
    assert all(b == a + 1 for a, b in itertools.pairwise(numbers))
    assert len(numbers) >= 25 * 37
    assert exhibit.cut is None
