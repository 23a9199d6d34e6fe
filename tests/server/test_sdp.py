"""Offers: what is taken, what is refused with which status, and what is added to an answer."""

import pytest

from streamguard.access import BitrateSettings
from streamguard.server.problems import Problem
from streamguard.server.sdp import check_sender, check_viewer, read_fragment, read_offer, with_bitrates

COMMON = """a=ice-ufrag:abcd
a=ice-pwd:0123456789abcdef012345
a=fingerprint:sha-256 AA:BB
a=setup:actpass
"""
HEAD = "v=0\no=- 1 2 IN IP4 127.0.0.1\ns=-\nt=0 0\na=group:BUNDLE 0\n"


def video(direction="sendonly", more="", codecs=("96 VP8/90000",), mid=0):
    rtpmaps = "".join(f"a=rtpmap:{codec}\n" for codec in codecs)
    return (
        f"m=video 9 UDP/TLS/RTP/SAVPF 96 97\nc=IN IP4 0.0.0.0\n{COMMON}a=mid:{mid}\na={direction}\na=rtcp-mux\n"
        f"{rtpmaps}{more}"
    )


def audio(mid=1):
    return f"m=audio 9 UDP/TLS/RTP/SAVPF 111\n{COMMON}a=mid:{mid}\na=sendonly\na=rtcp-mux\na=rtpmap:111 opus/48000/2\n"


def offer(*sections, head=HEAD):
    return read_offer((head + "".join(sections)).replace("\n", "\r\n").encode())


def refused(call, *arguments):
    with pytest.raises(Problem) as caught:
        call(*arguments)
    return caught.value.status, caught.value.name


def test_a_camera_with_sound_is_taken():
    found = offer(video(), audio())
    check_sender(found)
    assert [section.kind for section in found.sections] == ["video", "audio"]
    assert (found.ufrag, found.pwd) == ("abcd", "0123456789abcdef012345")
    assert found.text.endswith("a=rtpmap:111 opus/48000/2\r\n")


def test_credentials_of_the_session_hold_for_its_media():
    bare = video().replace(COMMON, "")
    found = offer(bare, head=HEAD + COMMON)
    assert found.ufrag == "abcd"
    check_sender(found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" \n",
        b"hello",
        b"{}",
        b"\xff\xfe",
        b"v=1\r\n",
        HEAD.encode(),
        (HEAD + "m=video\n").encode(),
        (HEAD + "m=text 9 RTP/AVP 96\n").encode(),
        (HEAD + video() * 5).encode(),
        (HEAD + video(more="a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n" * 41)).encode(),
        *((HEAD + video().replace(line, "")).encode() for line in COMMON.splitlines(keepends=True)),
        (HEAD + video().replace("a=mid:0\n", "")).encode(),
        (HEAD + video().replace("a=rtcp-mux\n", "")).encode(),
    ],
)
def test_what_is_no_description(body):
    assert refused(read_offer, body) == (400, "sdp")


@pytest.mark.parametrize(
    ("sections", "name"),
    [
        ((audio(),), "no-video"),
        ((video(), video(mid=1)), "too-many-media"),
        ((video(), audio(), audio(2)), "too-many-media"),
        ((video("recvonly"),), "direction"),
        ((video("inactive"),), "direction"),
        ((video(codecs=("98 VP9/90000", "45 AV1/90000")),), "no-common-codec"),
        ((video(codecs=()),), "no-common-codec"),
        ((video(more="a=rid:h send\na=rid:l send\na=simulcast:send h;l\n"),), "simulcast"),
        ((video(more="a=rid:h send\na=rid:l send\n"),), "simulcast"),
        ((video(more="a=ssrc-group:SIM 1 2 3\n"),), "simulcast"),
    ],
)
def test_what_can_not_be_taken_of_a_sender(sections, name):
    assert refused(check_sender, offer(*sections)) == (422, name)


def test_one_named_quality_is_one():
    check_sender(offer(video(more="a=rid:h send\n")))


def test_viewers_take_h264():
    check_viewer(offer(video("recvonly", codecs=("102 H264/90000",))))
    check_viewer(offer(video("recvonly", codecs=("96 VP8/90000", "102 h264/90000")), audio()))
    assert refused(check_viewer, offer(video("recvonly"))) == (422, "no-common-codec")
    assert refused(check_viewer, offer(video("sendonly", codecs=("102 H264/90000",)))) == (422, "direction")


def test_an_answer_asks_for_the_whole_picture_at_once():
    codecs = ("96 VP8/90000", "97 rtx/90000", "102 H264/90000")
    answer = HEAD + audio() + video(codecs=codecs, more="a=fmtp:97 apt=96\na=fmtp:102 packetization-mode=1\n")
    lines = with_bitrates(answer, BitrateSettings(800, 900, 1000)).split("\r\n")
    wanted = "x-google-min-bitrate=800;x-google-start-bitrate=900;x-google-max-bitrate=1000"
    assert f"a=fmtp:96 {wanted}" in lines
    assert lines.index(f"a=fmtp:96 {wanted}") == lines.index("a=rtpmap:96 VP8/90000") + 1
    assert f"a=fmtp:102 packetization-mode=1;{wanted}" in lines
    assert "a=fmtp:97 apt=96" in lines, "retransmission stays as it is"
    assert not any(line.startswith("a=fmtp:111") for line in lines)
    assert lines[-1] == ""


def test_a_fragment():
    body = (
        b"a=group:BUNDLE 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\na=ice-ufrag:abcd\r\na=ice-pwd:pw\r\n"
        b"a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n"
    )
    found = read_fragment(body)
    assert (found.ufrag, found.pwd, found.mid, found.ended) == ("abcd", "pw", "0", True)
    assert found.candidates == ("1 1 udp 2122260223 192.0.2.1 61764 typ host",)


@pytest.mark.parametrize("body", [b"", b"v=0\r\n", b"\xff", b"a=candidate:1\r\n" * 41])
def test_what_is_no_fragment(body):
    assert refused(read_fragment, body) == (400, "sdp")
