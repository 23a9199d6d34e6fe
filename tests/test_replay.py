"""Replay of real evidence: the same scores to 1e-3, or a difference that is found and named."""

from __future__ import annotations

import hashlib
import json
import shutil
from fractions import Fraction

import av
import pytest

from streamguard.errors import EngineForeign, EvidenceDamaged, EvidenceMissing
from streamguard.frames import State
from streamguard.replay import TOLERANCE, replay
from tests.exhibits import Kept
from tests.media import patterns, write_video


@pytest.fixture
def folder(demo_evidence, tmp_path):
    """Evidence that a test may change."""
    return shutil.copytree(demo_evidence, tmp_path / "segment")


def change(folder, alter):
    """Change scores.json, and the manifest so that nobody would notice."""
    path = folder / "scores.json"
    document = json.loads(path.read_text())
    alter(document)
    path.write_text(json.dumps(document))
    reseal(folder)


def reseal(folder):
    """State the files as they are now."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    for name in manifest["files"]:
        content = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    path.write_text(json.dumps(manifest))


def encode_again(path):
    """The same film with worse pictures, at the same times."""
    with av.open(str(path)) as clip:
        base = clip.streams.video[0].time_base
        frames = [(frame.pts, frame.to_ndarray(format="yuv420p")) for frame in clip.decode(video=0)]
    path.unlink()
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "38", "bf": "0"})
        video.height, video.width = frames[0][1].shape[0] * 2 // 3, frames[0][1].shape[1]
        video.codec_context.time_base = Fraction(base)
        for pts, planes in frames:
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts, frame.time_base = pts, Fraction(base)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))


def test_evidence_says_the_same_again(demo_evidence):
    result = replay(demo_evidence)
    assert result.holds
    assert len(result.lines) >= 10
    assert result.largest <= TOLERANCE
    assert all(line.same_pixels for line in result.lines)
    assert (result.recorded, result.found) == (State.FLAGGED, State.FLAGGED)


def test_other_pictures_are_found(folder):
    encode_again(folder / "clip.mp4")
    reseal(folder)
    result = replay(folder)
    assert not result.holds
    assert not any(line.same_pixels for line in result.lines)
    assert any(not line.holds for line in result.lines)
    assert result.largest > TOLERANCE


def test_another_score_is_found(folder):
    def lower(document):
        document["scores"][3]["logit"] -= 0.01

    change(folder, lower)
    result = replay(folder)
    assert [index for index, line in enumerate(result.lines) if not line.holds] == [3]
    assert result.lines[3].same_pixels
    assert result.lines[3].difference == pytest.approx(0.01, abs=1e-4)


def test_another_state_is_found(folder):
    def acquit(document):
        document["operating_point"]["threshold"] = 20.0

    change(folder, acquit)
    result = replay(folder)
    assert (result.recorded, result.found) == (State.FLAGGED, State.CLEAR)
    assert all(line.holds for line in result.lines)
    assert not result.holds


def test_a_shorter_clip_is_found(folder):
    clip = folder / "clip.mp4"
    with av.open(str(clip)) as whole, av.open(str(folder / "short.mp4"), "w") as short:
        video = short.add_stream_from_template(whole.streams.video[0], opaque=True)
        for packet in list(whole.demux(video=0))[:30]:
            packet.stream = video
            short.mux(packet)
    (folder / "short.mp4").rename(clip)
    reseal(folder)
    result = replay(folder)
    assert not result.holds
    assert result.lines[0].holds
    assert result.lines[-1].found is None


def test_damage_is_named_before_anything_is_scored(folder):
    content = bytearray((folder / "clip.mp4").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "clip.mp4").write_bytes(content)
    with pytest.raises(EvidenceDamaged, match=r"'clip\.mp4' has SHA-256"):
        replay(folder)
    (folder / "clip.mp4").unlink()
    with pytest.raises(EvidenceMissing, match=r"'clip\.mp4' is absent"):
        replay(folder)


def test_another_engine_is_refused_by_name(folder):
    def of(key, value):
        return lambda document: document["engines"][1].update({key: value})

    change(folder, of("sha256", "0" * 64))
    with pytest.raises(EngineForeign, match="engine 'deepfake-steady' with SHA-256 0000"):
        replay(folder)
    change(folder, of("name", "unheard-of"))
    with pytest.raises(EngineForeign, match="'unheard-of' is neither shipped"):
        replay(folder)


def test_another_variant_is_refused_by_name(folder):
    def alter(document):
        document["engines"][1]["variant_sha256"] = "0" * 64

    change(folder, alter)
    with pytest.raises(EngineForeign, match=r"variant '.*' of engine 'deepfake-steady'"):
        replay(folder)


def test_other_crops_are_refused(folder):
    change(folder, lambda document: document["preprocessing"].update({"size": 99}))
    with pytest.raises(EngineForeign, match="takes crops of 176 pixels"):
        replay(folder)


@pytest.mark.parametrize("key", ["scores", "earlier", "segment", "engines", "calibration", "decision", "clip"])
def test_scores_that_lack_something_are_damaged(folder, key):
    change(folder, lambda document: document.pop(key))
    with pytest.raises(EvidenceDamaged, match=rf"scores\.json' lacks or misstates '{key}'"):
        replay(folder)


def test_evidence_without_a_clip_can_not_be_replayed(folder):
    change(folder, lambda document: document.update(clip=None, cut="no packets"))
    with pytest.raises(EvidenceMissing, match=r"holds no clip \(no packets\)"):
        replay(folder)


def test_a_folder_of_something_else(tmp_path):
    film = write_video(tmp_path / "a.mp4", patterns(150), gop=25)
    with Kept(tmp_path / "evidence") as kept:
        kept.show(film)
    with pytest.raises(EvidenceDamaged, match="lacks or misstates"):
        replay(tmp_path / "evidence" / "door" / "run.segment-2")
