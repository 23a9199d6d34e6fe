"""Pictures that came without their packets: encoded again, found again by their timestamps."""

import io

import av
import pytest

from streamguard.delivery.clip import passage, read_clip, write_clip
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.reencoding import Reencoder
from streamguard.pixels import picture_of
from tests.media import pattern, read_stamp


def frames(count, width=320, height=240):
    for number in range(count):
        frame = av.VideoFrame.from_ndarray(pattern(number, width, height), format="rgb24").reformat(format="yuv420p")
        frame.pts = 90_000 + number * 3000
        yield frame


def test_a_clip_of_them_shows_what_came():
    pictures = list(frames(50))
    encoder = Reencoder(pictures[0], SourceOptions(keep_seconds=10.0))
    planes = [bytes(plane) for plane in pictures[7].planes]
    for frame in pictures:
        encoder.keep(frame)
    encoder.close()
    assert [bytes(plane) for plane in pictures[7].planes] == planes, "others read them too"
    tape = encoder.tape
    packets = passage(tape.passage(0.0), 100.0)
    assert [packet.pts for packet in packets] == [90_000 + number * 3000 for number in range(50)]
    assert [packet.keyframe for packet in packets].count(True) == 2, "a clip may begin once a second"
    content = write_clip(tape.format, packets)
    clip = read_clip(content, tape.format, packets)
    assert (clip.container, clip.video) == ("mp4", "h264")
    with av.open(io.BytesIO(content)) as file:
        shown = {frame.pts: read_stamp(picture_of(frame)) for frame in file.decode(video=0)}
    assert [shown[clip.ticks[90_000 + number * 3000]] for number in range(50)] == list(range(50))


def test_what_is_old_is_forgotten():
    pictures = list(frames(120, 160, 120))
    encoder = Reencoder(pictures[0], SourceOptions(keep_seconds=1.0))
    for frame in pictures:
        encoder.keep(frame)
    kept = encoder.tape.passage(0.0)
    assert kept[0].keyframe
    assert len(kept) <= 60


@pytest.mark.parametrize("colours", [1, 5])
def test_colours_stay_what_they_are(colours):
    first = next(frames(1))
    first.colorspace = colours
    encoder = Reencoder(first, SourceOptions(keep_seconds=1.0))
    encoder.keep(first)
    decoder = av.CodecContext.create("h264", "r")
    context = encoder.tape.format.video.codec_context
    decoder.extradata = context.extradata
    (packet,) = encoder.tape.passage(0.0)
    (shown,) = [*decoder.decode(packet.data), *decoder.decode(None)]
    assert int(shown.colorspace) == colours
