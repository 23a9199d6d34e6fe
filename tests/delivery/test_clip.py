"""Clips: the same packets in another file, picture by picture the same, sound where it was."""

from __future__ import annotations

import io
import itertools
import math

import av
import numpy as np
import pytest

from streamguard.delivery.clip import container_of, passage, read_clip, write_clip
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.container import FileSource
from tests.exhibits import pictures
from tests.media import patterns, tag_rotation, write_video

B_FRAMES = {"bf": "3", "x264-params": "b-adapt=0:scenecut=0"}
OPEN_GOP = {"bf": "3", "x264-params": "open-gop=1:b-adapt=0:scenecut=0"}


def recorded(path):
    """The recording of a film that was read to its end."""
    with FileSource(path, options=SourceOptions(keep_seconds=600.0)).open(1) as connection:
        for _ in connection:
            pass
        return connection.recording


def cut(path, start, end):
    """A clip of a film: its bytes, and what was found in them."""
    recording = recorded(path)
    offset = min(p.seconds for p in recording.passage(0.0) if p.video)
    packets = passage(recording.passage(start + offset), end + offset)
    content = write_clip(recording.format, packets)
    return content, read_clip(content, recording.format, packets)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {}),
        ("a.mp4", {"encoder": B_FRAMES}),
        ("a.mp4", {"encoder": OPEN_GOP}),
        ("a.ts", {"encoder": B_FRAMES, "audio": True}),
        ("a.mkv", {"encoder": B_FRAMES, "audio": True, "fps": 32}),
        ("a.mkv", {"codec": "mjpeg", "encoder": {"strict": "-1"}}),
        ("a.webm", {"codec": "libvpx", "encoder": {"cpu-used": "8", "deadline": "realtime"}}),
    ],
    ids=["h264", "b-frames", "open-gop", "ts-aac", "mkv-aac", "mjpeg", "vp8"],
)
def test_every_picture_of_a_clip_is_the_original_one(tmp_path, name, options):
    film = write_video(tmp_path / name, patterns(80), gop=20, **options)
    content, clip = cut(film, 1.1, 2.0)
    original, found = pictures(film), pictures(content)
    assert len(found) == len(clip.ticks) >= 23
    assert {source: found[ticks] for source, ticks in clip.ticks.items()} == {s: original[s] for s in clip.ticks}
    seconds = sorted(ticks * float(clip.time_base) for ticks in clip.ticks.values())
    assert seconds[0] == pytest.approx(0.0, abs=0.04)
    assert max(b - a for a, b in itertools.pairwise(seconds)) < 0.05, "no picture is missing between two others"
    assert seconds[-1] - seconds[0] >= 2.0 - 1.1


def test_open_groups_are_what_the_test_above_takes_them_for(tmp_path):
    film = write_video(tmp_path / "a.mp4", patterns(80), gop=20, encoder=OPEN_GOP)
    packets = [p for p in recorded(film).passage(1.1) if p.video]
    leading = [p for p in packets[1:] if p.pts < packets[0].pts]
    assert packets[0].keyframe
    assert leading
    kept = passage(packets, packets[-1].seconds)
    assert not set(leading) & set(kept)


def test_the_container_is_chosen_by_the_codecs(tmp_path):
    files = {
        "a.mp4": ({"audio": True}, "mp4"),
        "a.avi": ({"codec": "mjpeg", "encoder": {"strict": "-1"}}, "mov"),
        "a.webm": ({"codec": "libvpx"}, "matroska"),
    }
    for name, (options, container) in files.items():
        media = recorded(write_video(tmp_path / name, patterns(5), **options)).format
        assert container_of(media).name == container


@pytest.mark.parametrize(
    ("picture", "sound", "file"),
    [
        ("h264", None, "clip.mp4"),
        ("hevc", "opus", "clip.mp4"),
        ("h264", "pcm_alaw", "clip.mov"),
        ("mjpeg", "pcm_mulaw", "clip.mov"),
        ("mjpeg", None, "clip.mov"),
        ("vp8", "vorbis", "clip.mkv"),
        ("mpeg2video", "mp2", "clip.mkv"),
        ("h264", "adpcm_g726", "clip.mp4"),
    ],
)
def test_picture_and_sound_of_cameras_and_broadcasts(picture, sound, file):
    class Media:
        video_codec, audio_codec = picture, sound

    assert container_of(Media).file == file


def test_sound_that_nothing_takes_is_left_out_and_told(tmp_path):
    film = tmp_path / "a.avi"
    with av.open(str(film), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "10", "bf": "0"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = out.add_stream("adpcm_ms", rate=16000, layout="mono")
        for index, rgb in enumerate(patterns(40)):
            out.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 640), np.int16), format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, index * 640
            out.mux(sound.encode(frame))
        out.mux(video.encode(None))
        out.mux(sound.encode(None))
    content, clip = cut(film, 0.0, 1.0)
    assert (clip.file, clip.audio, clip.left_out) == ("clip.mp4", None, "adpcm_ms")
    assert len(pictures(content)) == len(clip.ticks)


def test_the_index_of_an_mp4_stands_in_front(tmp_path):
    content, _ = cut(write_video(tmp_path / "a.mp4", patterns(80), gop=20, audio=True), 0.0, 3.0)
    assert 0 < content.index(b"moov") < content.index(b"mdat")


def test_pictures_that_need_time_to_recover_are_not_promised(tmp_path):
    refresh = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    film = write_video(tmp_path / "a.mp4", patterns(80), encoder=refresh)
    packets = recorded(film).passage(1.0)
    content, clip = cut(film, 1.0, 3.0)
    original, found = pictures(film), pictures(content)
    assert len(clip.ticks) < len(packets)
    assert {source: found[ticks] for source, ticks in clip.ticks.items()} == {s: original[s] for s in clip.ticks}


def test_a_phones_film_stays_upright(tmp_path):
    film = tag_rotation(write_video(tmp_path / "a.mp4", patterns(40), gop=10), 90)
    content, _ = cut(film, 0.0, 1.0)
    (tmp_path / "clip.mp4").write_bytes(content)
    with FileSource(film).open(1) as original, FileSource(tmp_path / "clip.mp4").open(1) as clip:
        for before, after in zip(original, clip, strict=False):
            assert (after.picture.width, after.picture.height) == (240, 320)
            assert np.array_equal(before.picture.y, after.picture.y)


def test_colours_are_tagged_as_they_were(tmp_path):
    tagged = {"x264-params": "colormatrix=bt709"}
    film = write_video(tmp_path / "a.mp4", patterns(40), gop=10, matrix="bt709", encoder=tagged)
    content, _ = cut(film, 0.0, 1.0)
    (tmp_path / "clip.mp4").write_bytes(content)
    with FileSource(tmp_path / "clip.mp4").open(1) as clip:
        assert {frame.picture.matrix for frame in clip} == {"bt709"}


def test_nothing_of_a_passage_that_holds_no_picture():
    assert passage([], 1.0) == []


def click_and_flash(path, at):
    """A black film with one white picture, and silence with one click, both at second ``at``."""
    rate, fps = 48000, 25
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "g": "25", "bf": "2"})
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = out.add_stream("aac", rate=rate, layout="mono")
        for index in range(6 * fps):
            picture = np.full((64, 64, 3), 255 if index == round(at * fps) else 0, np.uint8)
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            sound = np.zeros((1, rate // fps), np.float32)
            if index == round(at * fps):
                sound[0, :96] = 0.9 * np.sin(2 * math.pi * 4000 * np.arange(96) / rate)
            frame = av.AudioFrame.from_ndarray(sound, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = rate, index * rate // fps
            out.mux(audio.encode(frame))
        out.mux(video.encode(None))
        out.mux(audio.encode(None))
    return path


def click_after_flash(file):
    """Seconds from the flash to the click, as a player meets them."""
    with av.open(file, "r") as container:
        bright = [(float(f.to_ndarray(format="gray").mean()), f.time) for f in container.decode(video=0)]
    file.seek(0)
    loudest = (0.0, 0.0)
    with av.open(file, "r") as container:
        for frame in container.decode(audio=0):
            sound = np.abs(frame.to_ndarray()[0])
            peak = int(sound.argmax())
            loudest = max(loudest, (float(sound[peak]), frame.time + peak / frame.sample_rate))
    assert max(bright)[0] > 100
    assert loudest[0] > 0.2
    return loudest[1] - max(bright)[1]


@pytest.mark.parametrize("suffix", ["mp4", "ts", "mkv"])
def test_sound_stays_in_sync(tmp_path, suffix):
    film = click_and_flash(tmp_path / f"a.{suffix}", at=3.48)
    content, _ = cut(film, 2.6, 5.0)
    with film.open("rb") as original:
        expected = click_after_flash(original)
    assert abs(expected) < 0.03
    assert click_after_flash(io.BytesIO(content)) == pytest.approx(expected, abs=0.001)
