"""The tape: what it keeps of video and sound, where a passage begins, and what ends it."""

from __future__ import annotations

import itertools

import av
import pytest

from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.container import FileSource
from streamguard.ingest.tape import Tape
from streamguard.media import MediaFormat
from tests.media import patterns, write_video


@pytest.fixture
def film(tmp_path):
    return write_video(tmp_path / "a.mp4", patterns(100), gop=25, audio=True)


def taped(path, change=lambda packet: None, seconds=60.0):
    """A tape of all packets of a file, each ``change``\\ d on the way."""
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        tape = Tape(MediaFormat(video, audio), seconds, 2**24)
        for packet in container.demux(video, audio):
            if packet.size:
                change(packet)
                (tape.keep_video if packet.stream_index == video.index else tape.keep_audio)(packet)
    return tape


def test_sound_goes_back_as_far_as_the_pictures(film):
    packets = taped(film).passage(2.3)
    pictures, sounds = [p for p in packets if p.video], [p for p in packets if not p.video]
    assert pictures[0].keyframe
    assert pictures[0].seconds == pytest.approx(2.0)
    assert [p.number for p in pictures] == list(range(51, 101))
    assert 2.0 <= sounds[0].seconds < 2.1
    assert sounds[-1].seconds == pytest.approx(4.0, abs=0.1)


def test_both_are_forgotten(film):
    tape = taped(film, seconds=1.0)
    packets = tape.passage(0.0)
    assert min(p.seconds for p in packets) == pytest.approx(2.0, abs=0.1)
    assert tape.held_bytes == sum(p.data.size for p in packets if p.video)


def test_a_tape_outlives_its_connection(film):
    with FileSource(film, options=SourceOptions(keep_seconds=60.0)).open(1) as connection:
        frames = list(connection)
        tape = connection.recording
    assert (tape.format.video_codec, tape.format.audio_codec) == ("h264", "aac")
    assert tape.format.video.codec_context.width == 320
    assert {frame.ticks for frame in frames} == {p.pts for p in tape.passage(0.0) if p.video}


def test_timestamps_that_start_again_begin_a_new_tape(film):
    def restart(packet):
        if packet.stream.type == "video" and float(packet.dts * packet.time_base) >= 3.0:
            packet.pts -= round(3 / packet.time_base)
            packet.dts -= round(3 / packet.time_base)

    pictures = [p for p in taped(film, restart).passage(0.0) if p.video]
    assert [p.number for p in pictures] == list(range(76, 101))


def test_a_packet_without_a_time_ends_what_was_kept(film):
    def forget(packet):
        if packet.stream.type == "video" and packet.pts is not None and float(packet.pts * packet.time_base) == 2.4:
            packet.pts = None

    assert [p.number for p in taped(film, forget).passage(0.0) if p.video] == list(range(76, 101))


def test_two_packets_of_one_time_are_set_apart(film):
    def double(packet):
        if packet.stream.type == "video" and float(packet.dts * packet.time_base) == 2.4:
            packet.dts -= round(0.04 / packet.time_base)

    times = [p.dts for p in taped(film, double).passage(0.0) if p.video]
    assert len(times) == 100
    assert all(after > before for before, after in itertools.pairwise(times))
