"""``lab faces`` from end to end: made videos in each layout to one HDF5 file."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py
import typer

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab import cli
from streamguard.lab.facefile import COLUMNS, FaceFile
from streamguard.lab.faces import faces
from tests.lab.footage import FPS, FRAMES, clip, person
from tests.media import write_still, write_video

pytestmark = pytest.mark.lab


def cut_faces(root, out, **settings):
    faces(root, out, **{"layout": "auto", "frames": 3, "margin": 0.4, "size": 64, **settings})
    return FaceFile(out)


@pytest.fixture(scope="module")
def encoded(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoded") / "plain"
    for number in (2, 3, 4):
        clip(root / f"real/{number}.mp4", number)
        clip(root / f"fake/{number}.mp4", number, forged=number)
    return root


@pytest.fixture
def plain(encoded, tmp_path):
    return Path(shutil.copytree(encoded, tmp_path / "plain"))


@pytest.fixture(scope="module")
def whole(encoded):
    return cut_faces(encoded, encoded.parent / "whole.h5")


def same(one: FaceFile, other: FaceFile) -> bool:
    columns = all(np.array_equal(one.column(name), other.column(name)) for name in COLUMNS)
    rows = range(len(one.column("label")))
    return columns and all(
        np.array_equal(a, b) for a, b in zip(one.pictures(rows), other.pictures(rows), strict=True)
    )  # fmt: skip


def test_plain_folders_by_the_command(plain, tmp_path, capsys):
    out = tmp_path / "run/faces.h5"
    assert cli.run(["faces", str(plain), "--out", str(out), "--frames", "3"]) == 0
    file = FaceFile(out)
    assert file.complete
    assert np.bincount(file.column("label")).tolist() == [9, 9]
    assert file.pictures([0])[0].shape == (256, 256, 3)
    assert set(file.column("original")[file.column("label") == 1]) == {f"real/{n}.mp4" for n in (2, 3, 4)}
    run = tmp_path / "run/faces.run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["faces"] == {"real": 9, "fake": 9}
    assert metrics["clips"]["fake"] == {"clips": 3, "used": 3}
    config = json.loads((run / "config.json").read_text())
    assert (config["layout"], config["margin"], config["detector"]["name"]) == ("plain", 0.4, "face-yolov8n")
    assert len((run / "log.jsonl").read_text().splitlines()) == 6
    assert (run / "sizes.png").is_file()
    assert "faces kept" in capsys.readouterr().out


def test_threads_change_nothing(plain, tmp_path, whole):
    assert same(cut_faces(plain, tmp_path / "faces.h5", threads=3), whole)


def test_a_half_written_file_goes_on(plain, tmp_path, whole):
    out = tmp_path / "broken.h5"
    shutil.copy(whole.path, out)
    broken = FaceFile(out)
    with h5py.File(out, "r+") as raw:  # as if killed while the third video's faces were being written
        raw.attrs["complete"] = False
        for name in ("done/rows", "done/outcome"):
            raw[name].resize(2, axis=0)
        for name in COLUMNS:
            raw[name].resize(int(raw["done/rows"][1]) + 1, axis=0)
    with pytest.raises(UsageError, match=r"broken\.h5' exists\. Use --resume"):
        cut_faces(plain, out)
    cut_faces(plain, out, resume=True)
    assert len((tmp_path / "broken.run/log.jsonl").read_text().splitlines()) == 4  # two were not done again
    assert same(whole, broken)
    before = out.read_bytes()
    cut_faces(plain, out, resume=True)
    assert out.read_bytes() == before  # a whole file stays as it is


def test_a_killed_run_goes_on(plain, tmp_path, whole):
    out = tmp_path / "faces.h5"
    code = "from streamguard.lab.cli import run; import sys; sys.exit(run(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "faces", str(plain), "--out", str(out), "--frames", "3", "--size", "64"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    log = tmp_path / "faces.run/log.jsonl"
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)
    while process.poll() is None and not (log.is_file() and len(log.read_text().splitlines()) >= 2):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    cut_faces(plain, out, resume=True)
    assert same(FaceFile(out), whole)


def test_a_file_of_another_configuration_is_refused(plain, tmp_path, whole):
    out = tmp_path / "faces.h5"
    shutil.copy(whole.path, out)
    with pytest.raises(UsageError, match="begun with other values of frames, margin"):
        cut_faces(plain, out, resume=True, frames=2, margin=0.2)
    clip(plain / "fake/5.mp4", 5, forged=5)
    with pytest.raises(UsageError, match="other values of clips, clips_sha256"):
        cut_faces(plain, out, resume=True)


def test_copies_are_dropped_forgeries_are_not(plain, tmp_path):
    for name in ("real/8.mp4", "real/9.mp4", "fake/8.mp4"):
        write_video(plain / name, [person(8)] * FRAMES, fps=FPS)
    marks = {mark.video: mark for mark in cut_faces(plain, tmp_path / "a.h5").done()}
    assert (marks["real/8.mp4"].kept, marks["real/8.mp4"].dropped) == (1, {"duplicate in its video": 2})
    assert (marks["real/9.mp4"].kept, marks["real/9.mp4"].dropped) == (0, {"duplicate of another video": 3})
    assert marks["fake/8.mp4"].kept == 1


def test_damaged_videos_are_named_and_the_rest_goes_on(plain, tmp_path, capsys):
    (plain / "real/3.mp4").write_bytes(b"nonsense")
    with pytest.raises(typer.Exit) as ended:
        cut_faces(plain, tmp_path / "faces.h5")
    assert ended.value.exit_code == 1
    metrics = json.loads((tmp_path / "faces.run/metrics.json").read_text())
    assert metrics["faces"] == {"real": 6, "fake": 9}
    assert metrics["clips"]["real"] == {"clips": 3, "used": 2, "unreadable": 1}
    assert len(metrics["unreadable"]) == 1
    assert "unreadable: real/3.mp4" in capsys.readouterr().err


def test_fakes_without_a_face_are_an_error(plain, tmp_path):
    for number in (2, 3, 4):
        (plain / f"fake/{number}.mp4").unlink()
    write_still(plain / "fake/wall.png", np.full((96, 96, 3), 90, np.uint8))
    with pytest.raises(InputUnreadable, match=r"gave no fake face\. Dropped: {'no face': 1}"):
        cut_faces(plain, tmp_path / "faces.h5")


def test_celeb_df(tmp_path):
    root = tmp_path / "celeb"
    clip(root / "Celeb-real/id0_0000.mp4", 2)
    clip(root / "YouTube-real/00001.mp4", 4)
    clip(root / "Celeb-synthesis/id0_id1_0000.mp4", 2, forged=2)
    file = cut_faces(root, tmp_path / "faces.h5")
    assert set(file.column("identity")) == {"celeb/id0", "", "celeb/id0|celeb/id1"}
    assert np.bincount(file.column("label")).tolist() == [6, 3]


def test_faceforensics_with_a_bystander(tmp_path):
    root = tmp_path / "ffpp"
    clip(root / "original_sequences/youtube/c23/videos/000.mp4", 2, 3)
    clip(root / "original_sequences/youtube/c23/videos/003.mp4", 4)
    clip(root / "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4", 2, 3, forged=2)
    file = cut_faces(root, tmp_path / "faces.h5")
    assert np.bincount(file.column("label")).tolist() == [9, 3]
    metrics = json.loads((tmp_path / "faces.run/metrics.json").read_text())
    assert metrics["dropped"]["fake"] == {"bystander": 3}
    assert metrics["by_source"] == {"ffpp/c23/Deepfakes": 3, "ffpp/c23/none": 9}


def test_dfdc(tmp_path):
    root = tmp_path / "dfdc"
    rows = {}
    for number in (2, 3):
        clip(root / f"r{number}.mp4", number)
        clip(root / f"f{number}.mp4", number, forged=number)
        rows |= {f"r{number}.mp4": {"label": "REAL"}, f"f{number}.mp4": {"label": "FAKE", "original": f"r{number}.mp4"}}
    rows["absent.mp4"] = {"label": "REAL", "split": "train"}
    (root / "metadata.json").write_text(json.dumps(rows))
    with pytest.raises(typer.Exit):  # one listed video was not downloaded: named, the rest goes on
        cut_faces(root, tmp_path / "faces.h5")
    file = FaceFile(tmp_path / "faces.h5")
    assert np.bincount(file.column("label")).tolist() == [6, 6]
    assert [mark.video for mark in file.done() if mark.error] == ["absent.mp4"]


def test_the_supplied_archives(tmp_path):
    root = tmp_path / "data"
    clip(root / "talking/a.mp4", 5)
    rows = [["talking/a.mp4", "real", "talking", "none", "a", "sample", "", "", "", ""]]
    for number, label in ((2, "real"), (3, "fake")):
        (root / f"dfdc/{label}").mkdir(parents=True)
        write_still(root / f"dfdc/{label}/{number}.png", person(number))
        rows.append([f"dfdc/{label}/{number}.png", label, "dfdc", "none", f"g{number}", "train", "", "", "", ""])
    rows.append(["dfdc/real/gone.png", "real", "dfdc", "none", "g9", "train", "", "", "", ""])
    with tarfile.open(root / "dfdc.tar", "w") as archive:
        archive.add(root / "dfdc", "dfdc")
    for path in (root / "dfdc").rglob("*.png"):
        path.unlink()
    with (root / "manifest.csv").open("w", newline="") as file:
        head = ["path", "label", "source", "generator", "group", "split", "face_x", "face_y", "face_w", "face_h"]
        csv.writer(file).writerows([head, *rows])
    with pytest.raises(typer.Exit):
        cut_faces(root, tmp_path / "faces.h5")
    found = FaceFile(tmp_path / "faces.h5")
    assert sorted(found.column("source")) == ["dfdc", "dfdc", "talking", "talking", "talking"]
    (gone,) = (mark.error for mark in found.done() if mark.error)
    assert "'dfdc/real/gone.png' is not in its archive" in gone
