"""scan: one verdict a file, whatever the files are."""

from __future__ import annotations

import contextlib
import json
import os
import pty

import numpy as np
import pytest

from streamguard.ingest.demo import photograph
from tests.media import cut, patterns, write_sound, write_still, write_video

KEYS = [
    "path",
    "kind",
    "state",
    "reason",
    "score",
    "operating_point",
    "threshold",
    "faces",
    "tracks",
    "segments",
    "error",
]


def lines(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_picture_with_a_face_and_one_without(streamguard, tmp_path):
    write_still(tmp_path / "face.png", photograph())
    write_still(tmp_path / "none.png", np.full((200, 300, 3), 90, np.uint8))
    result = streamguard("scan", "face.png", "none.png", "--json")
    assert result.exit_code == 0
    face, none = lines(result)
    assert list(face) == list(none) == KEYS
    assert (face["path"], face["kind"], face["faces"]) == ("face.png", "image", len(face["tracks"]))
    assert face["state"] == ("flagged" if face["score"] >= face["threshold"] else "clear")
    assert max(track["score"] for track in face["tracks"] if track["score"] is not None) == face["score"]
    assert 0 < face["threshold"] < 1
    assert none == none | {"state": "inconclusive", "reason": "no face", "score": None, "faces": 0, "error": None}


def test_every_bad_file_has_its_line(streamguard, tmp_path):
    folder = tmp_path / "media"
    folder.mkdir()
    write_video(folder / "a.mp4", patterns(30))
    cut(write_video(folder / "b.mp4", patterns(60), muxer={"movflags": "frag_keyframe+empty_moov"}, gop=10), 0.6)
    (folder / "c.mp4").write_text("not a film")
    write_still(folder / "d.png", np.zeros((1, 1, 3), np.uint8))
    write_sound(tmp_path / "sound.wav")
    (tmp_path / "without").mkdir()
    (tmp_path / "empty.mp4").touch()
    result = streamguard("scan", "media", "sound.wav", "without", "missing.mp4", "empty.mp4", "--json")
    assert result.exit_code == 1
    found = lines(result)
    assert [line["path"] for line in found] == [
        "media/a.mp4",
        "media/b.mp4",
        "media/c.mp4",
        "media/d.png",
        "sound.wav",
        "without",
        "missing.mp4",
        "empty.mp4",
    ]
    assert found[0]["error"] is None
    for line in found[1:]:
        assert line["path"] in line["error"]
        assert (line["state"], line["score"]) == ("inconclusive", None)
    assert result.stderr == ""


def test_lines_for_people(streamguard, tmp_path):
    write_video(tmp_path / "film.mp4", patterns(30))
    result = streamguard("scan", "film.mp4", "missing.mp4")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "inconclusive  film.mp4  no face",
        "inconclusive  missing.mp4  unreadable",
        "              'missing.mp4' does not exist. Check the path.",
    ]
    assert result.stderr == "2 files: 1 inconclusive, 1 failed\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rtsp://a:b@c/d",), "'rtsp://***@c/d' is no path"),
        (("x.mp4", "--config", "none.yaml"), "configuration 'none.yaml' can't be read"),
    ],
)
def test_wrong_use(streamguard, arguments, message):
    result = streamguard("scan", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_a_damaged_engine_stops_it_before_the_first_file(streamguard, tmp_path, damaged_engine):
    write_video(tmp_path / "film.mp4", patterns(10))
    (tmp_path / "c.yaml").write_text(f"classifier: {{engine: '{damaged_engine}'}}\n")
    result = streamguard("scan", "film.mp4", "--config", "c.yaml", "--json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "has SHA-256" in result.stderr


def test_a_terminal_shows_progress_and_the_pipe_stays_clean(spawn, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, patterns(10))
    ours, theirs = pty.openpty()
    with spawn("scan", "a.mp4", "b.mp4", "--json", stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux tells that the other end of a terminal is closed
            while chunk := os.read(ours, 1 << 16):
                shown += chunk
        found = [json.loads(line) for line in process.stdout]
    os.close(ours)
    assert process.returncode == 0
    assert [line["path"] for line in found] == ["a.mp4", "b.mp4"]
    assert b"scanning" in shown
    assert b"2/2" in shown
