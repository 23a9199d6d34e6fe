"""Files: what comes out of sound ones, and what is said of the others."""

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
import pytest

from streamguard.errors import InputMissing, InputUnreadable, NoVideo, PictureSize
from streamguard.frames import Picture
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.container import FileSource, media_files
from streamguard.ingest.decoding import upright
from streamguard.pixels import rgb_of
from tests.media import cut, pattern, patterns, read_stamp, tag_rotation, write_sound, write_still, write_video

FASTSTART = {"movflags": "faststart"}


def read(path, **options):
    """Info and frames; and the error, if it ends in one."""
    frames = []
    with FileSource(path, options=SourceOptions(**options)).open(1) as connection:
        try:
            for frame in connection:
                frames.append(frame)
        except InputUnreadable as error:
            return connection.info, frames, str(error)
    return connection.info, frames, None


def refusal(path, kind):
    with pytest.raises(kind) as refused:
        FileSource(path).open(1)
    assert str(path) in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.ts", "libx264"), ("a.avi", "mpeg4"), ("a.webm", "libvpx")],
)
def test_a_video_gives_all_its_frames_in_order_with_time_from_zero(tmp_path, name, codec):
    info, frames, error = read(write_video(tmp_path / name, patterns(30), codec=codec))
    assert error is None
    assert [read_stamp(f.picture) for f in frames] == list(range(30))
    assert [f.index for f in frames] == list(range(30))
    assert [f.pts for f in frames] == pytest.approx([i / 25 for i in range(30)], abs=0.002)
    assert not any(f.damaged for f in frames)
    assert (info.width, info.height, info.still, info.audio) == (320, 240, False, False)
    assert info.fps == pytest.approx(25)
    assert info.duration == pytest.approx(1.2, abs=0.05)


def test_frames_carry_stream_session_and_a_file_clock(tmp_path):
    path = write_video(tmp_path / "a.mp4", patterns(3))
    with FileSource(path, name="door").open(7) as connection:
        frames = list(connection)
    assert {(f.stream, f.session, f.clock) for f in frames} == {("door", 7, "file")}
    assert [f.captured_at - frames[0].captured_at for f in frames] == pytest.approx([f.pts for f in frames], abs=1e-5)
    assert connection.clock_offset is None


def test_a_source_can_be_opened_again(tmp_path):
    source = FileSource(write_video(tmp_path / "a.mp4", patterns(3)))
    for session in (1, 2):
        with source.open(session) as connection:
            assert [f.session for f in connection] == [session] * 3


def test_frames_outlive_their_connection(tmp_path):
    _, frames, _ = read(write_video(tmp_path / "a.mp4", patterns(12)))
    assert [read_stamp(f.picture) for f in frames] == list(range(12))
    assert not frames[0].picture.y.flags.writeable


def test_sound_is_reported_and_does_not_disturb(tmp_path):
    info, frames, error = read(write_video(tmp_path / "a.mp4", patterns(30), audio=True))
    assert (info.audio, len(frames), error) == (True, 30, None)


def test_a_track_of_data_beside_the_picture_does_not_disturb(tmp_path):
    """Cameras write the time of day as one; at the end of a file each stream's decoder is drained, and it has none."""
    path = tmp_path / "timecode.mov"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"preset": "ultrafast", "threads": "1"})
        video.width, video.height, video.pix_fmt = 128, 128, "yuv420p"
        video.metadata["timecode"] = "10:00:00:00"
        for rgb in patterns(12, 128, 128):
            out.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        out.mux(video.encode(None))
    with av.open(str(path)) as written:
        assert [stream.type for stream in written.streams] == ["video", "data"]
    _, frames, error = read(path)
    assert (len(frames), error) == (12, None)


def test_a_name_that_is_no_text_does_not_disturb(tmp_path):
    path = write_video(tmp_path / "named.mp4", patterns(5, 128, 128))
    data = path.read_bytes()
    assert data.count(b"VideoHandler") == 1
    path.write_bytes(data.replace(b"VideoHandler", b"\xb1ideoHandler"))
    _, frames, error = read(path)
    assert (len(frames), error) == (5, None)


def test_sound_that_goes_on_after_the_picture_is_no_cut(tmp_path):
    path = tmp_path / "a.mkv"
    write_video(path, patterns(25), audio=True)
    with av.open(str(path)) as source, av.open(str(tmp_path / "b.mkv"), "w") as out:
        copies = {s.index: out.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            picture_ends = packet.stream.type == "video" and packet.pts is not None and packet.pts > 200
            if packet.dts is not None and not picture_ends:
                packet.stream = copies[packet.stream_index]
                out.mux(packet)
    _, frames, error = read(tmp_path / "b.mkv")
    assert error is None
    assert len(frames) == 6


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff"])
def test_a_still_is_one_frame(tmp_path, suffix):
    info, frames, error = read(write_still(tmp_path / f"a.{suffix}", pattern(5, 318, 201)))
    assert (len(frames), error) == (1, None)
    assert (info.still, info.width, info.height, info.fps, info.duration) == (True, 318, 201, None, None)
    assert (frames[0].pts, read_stamp(frames[0].picture)) == (0.0, 5)
    assert np.abs(rgb_of(frames[0].picture)[40:].astype(int) - pattern(5, 318, 201)[40:]).mean() < 3


@pytest.mark.parametrize("name", ["frame%03d.png", "star*[1].jpg", "co:lon.png", "-dash.png"])
def test_odd_names_are_taken_as_they_are(tmp_path, name):
    _, frames, _ = read(write_still(tmp_path / name, pattern(9)))
    assert [read_stamp(f.picture) for f in frames] == [9]


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_rotation_tags_are_obeyed(tmp_path, degrees):
    path = tag_rotation(write_video(tmp_path / "a.mp4", patterns(3)), degrees)
    info, frames, _ = read(path)
    assert (info.width, info.height) == ((240, 320) if degrees % 180 else (320, 240))
    lying = {0: 0, 90: 1, 180: 2, 270: 3}[degrees]  # turning it back counter-clockwise lays it down again
    picture = frames[2].picture
    assert (picture.width, picture.height) == (info.width, info.height)
    assert picture.u.shape == (info.height // 2, info.width // 2)
    assert read_stamp(upright(picture, 90 * lying)) == 2


def test_exif_orientation_is_obeyed(tmp_path):
    path = write_still(tmp_path / "a.jpg", pattern(4))
    data = path.read_bytes()
    ifd = b"MM\0*\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01\0\x06\0\0" + bytes(4)
    exif = b"Exif\0\0" + ifd
    path.write_bytes(data[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + data[2:])
    info, frames, _ = read(path)
    assert (info.width, info.height) == (240, 320)
    assert read_stamp(upright(frames[0].picture, 90)) == 4


def test_upright_turns_counter_clockwise():
    y = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = Picture(y, y[:1, :2], y[:1, :2], "bt709", True)
    assert upright(picture, 0) is picture
    turned = upright(picture, 90)
    assert turned.y.tolist() == [[2, 5], [1, 4], [0, 3]]
    assert (turned.matrix, turned.full_range) == ("bt709", True)
    assert upright(picture, -180).y.tolist() == [[5, 4, 3], [2, 1, 0]]


def test_an_mp4_cut_in_the_middle_is_read_and_then_named(tmp_path):
    path = cut(write_video(tmp_path / "a.mp4", patterns(100), muxer=FASTSTART), 0.5)
    info, frames, error = read(path)
    assert info.duration == pytest.approx(4.0)
    assert [read_stamp(f.picture) for f in frames if not f.damaged] == list(range(len(frames)))
    assert 30 < len(frames) < 70
    reached = float(error.split("stops at ")[1].split(" s")[0])
    assert reached == pytest.approx(len(frames) / 25, abs=0.05)
    assert "of 4.00 s" in error
    assert str(path) in error


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mpeg4")])
def test_other_containers_cut_in_the_middle_are_named_too(tmp_path, name, codec):
    _, frames, error = read(cut(write_video(tmp_path / name, patterns(100), codec=codec), 0.5))
    assert 10 < len(frames) < 90
    assert "is cut: it stops at" in error


def test_an_mp4_that_lost_its_index_is_refused(tmp_path):
    refusal(cut(write_video(tmp_path / "a.mp4", patterns(50)), 0.5), InputUnreadable)


def test_damage_in_the_middle_is_skipped_marked_and_named(tmp_path):
    path = write_video(tmp_path / "a.mp4", patterns(100), muxer=FASTSTART)
    with av.open(str(path)) as container:
        at = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    start, size = at[30]
    data[start : start + size] = b"\xff" * size  # a length prefix that no slice can have
    path.write_bytes(data)
    _, frames, error = read(path)
    assert "is damaged: 1 of its packets did not decode" in error
    damaged = [round(f.pts * 25) for f in frames if f.damaged]
    assert damaged == list(range(31, 50)), "until the next keyframe"
    assert len(frames) == 99


def test_a_file_whose_frames_do_not_decode_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", patterns(20), muxer=FASTSTART)
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    data[start:] = b"\xff" * (len(data) - start)
    path.write_bytes(data)
    assert "no frame of it decodes" in refusal(path, InputUnreadable)


def test_missing_empty_text_and_folder(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.mp4", InputMissing)
    (tmp_path / "empty.mp4").touch()
    assert "empty (0 bytes)" in refusal(tmp_path / "empty.mp4", InputUnreadable)
    (tmp_path / "text.mp4").write_text("These are only words.\n" * 50)
    assert "no video or picture" in refusal(tmp_path / "text.mp4", InputUnreadable)
    assert "is a folder" in refusal(tmp_path, InputUnreadable)
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "not a regular file" in refusal(tmp_path / "pipe.mp4", InputUnreadable)


def test_no_permission():
    with tempfile.TemporaryDirectory() as folder:
        path = write_video(Path(folder, "a.mp4"), patterns(2))
        Path(folder).chmod(0o755)
        path.chmod(0)
        user = os.geteuid()
        if user == 0:  # whom no mode stops
            os.seteuid(65534)
        try:
            assert "can't be opened: Permission denied" in refusal(path, InputUnreadable)
        finally:
            os.seteuid(user)


def test_audio_only(tmp_path):
    assert "holds no video" in refusal(write_sound(tmp_path / "a.wav"), NoVideo)


def test_the_cover_of_a_record_is_no_video(tmp_path):
    cover = write_still(tmp_path / "cover.png", pattern(0))
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out, av.open(str(cover)) as picture:
        sound = out.add_stream("aac", rate=8000, layout="mono")
        still = out.add_stream_from_template(picture.streams.video[0])
        still.disposition = av.stream.Disposition.attached_pic
        for packet in picture.demux(video=0):
            if packet.size:
                packet.stream = still
                out.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    refusal(tmp_path / "a.m4a", NoVideo)


def test_pictures_too_small(tmp_path):
    assert "1x1" in refusal(write_still(tmp_path / "a.png", np.zeros((1, 1, 3), np.uint8)), PictureSize)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_pictures_too_large_are_refused_without_decoding_them(tmp_path, suffix):
    """In a process of its own, with memory for the refusal and none for the picture (256 MB)."""
    path = tmp_path / f"a.{suffix}"
    write_still(path, np.zeros((16000, 16000), np.uint8))
    code = (
        "import resource, sys\n"
        "from streamguard.errors import PictureSize\n"
        "from streamguard.ingest.container import FileSource\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    FileSource(sys.argv[1]).open(1)\n"
        "except PictureSize as error:\n    print(error)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    said, grown = done.stdout.splitlines()
    assert str(path) in said
    assert "8192" in said
    assert int(grown) < 100


def test_a_playlist_does_not_reach_the_network(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    refusal(path, InputUnreadable)


def test_packets_are_kept_for_clips_when_asked(tmp_path):
    path = write_video(tmp_path / "a.mp4", patterns(100), gop=25)
    with FileSource(path, options=SourceOptions(keep_seconds=1.0)).open(1) as connection:
        frames = list(connection)
        packets = connection.recording.passage(3.2)
        assert packets[0].keyframe
        assert packets[0].seconds == pytest.approx(3.0)
        assert len(packets) == 25
        assert 0 < connection.received_bytes <= path.stat().st_size
    assert len(frames) == 100
    with FileSource(path).open(1) as connection:
        assert connection.recording is None


def test_reading_does_not_leak(tmp_path):
    source = FileSource(write_video(tmp_path / "a.mp4", patterns(5, 640, 480)))
    for _ in range(20):
        with source.open(1) as connection:
            assert len(list(connection)) == 5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(100):
        with source.open(1) as connection:
            assert len(list(connection)) == 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_media_of_a_folder(tmp_path):
    for name in ("b.mp4", "a.JPG", "notes.txt", ".hidden.mp4", "deep/er/c.mkv", ".git/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(p.relative_to(tmp_path)) for p in media_files(tmp_path)] == ["a.JPG", "b.mp4", "deep/er/c.mkv"]
    assert media_files(tmp_path / "notes.txt") == [tmp_path / "notes.txt"], "named outright, whatever its name"


def test_folders_without_media_and_missing_ones(tmp_path):
    with pytest.raises(InputMissing, match="holds no video or picture"):
        media_files(tmp_path)
    with pytest.raises(InputMissing, match="does not exist"):
        media_files(tmp_path / "none")
