"""Preview and HLS over HTTP: for those with a token, bounded, and gone with the stream."""

import io
import time

import av
import pytest

from streamguard.errors import StreamUnknown
from streamguard.pixels import picture_of
from streamguard.server import pictures
from tests.delivery.shooting import Camera
from tests.media import read_stamp
from tests.serving import serving, until


class Streams:
    """What the handlers need of a Guard: broadcasts by name."""

    def __init__(self, camera):
        self.camera = camera

    def broadcast(self, stream):
        if stream != "cam":
            raise StreamUnknown(f"no stream '{stream}' is being watched")
        return self.camera.broadcast


@pytest.fixture
def camera():
    with Camera() as camera:
        yield camera


@pytest.fixture
def served(tmp_path, camera):
    with serving(tmp_path, guard=lambda: Streams(camera)) as served:
        yield served


def number_of(jpeg):
    with av.open(io.BytesIO(jpeg), format="jpeg_pipe") as file:
        picture = picture_of(next(file.decode(video=0)))
    return (read_stamp(picture) if picture.height == 240 else None), picture.height


def parts(response, count):
    """So many pictures of a multipart answer."""
    found = []
    assert response.readline() == b"--streamguard-picture\r\n"
    while len(found) < count:
        head = {}
        while (line := response.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            head[name] = value.strip()
        assert head["Content-Type"] == "image/jpeg"
        found.append(response.read(int(head["Content-Length"])))
        assert response.read(2) == b"\r\n"
        assert response.readline() == b"--streamguard-picture\r\n"
    return found


def watch(served, path, count):
    connection = served.connect()
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {served.viewer}"})
        answer = connection.getresponse()
        assert answer.status == 200
        assert answer.headers["Content-Type"] == "multipart/x-mixed-replace; boundary=streamguard-picture"
        return parts(answer, count)
    finally:
        connection.close()


@pytest.mark.parametrize("path", ["/preview/cam", "/preview/cam/still", "/hls/cam/", "/hls/cam/index.m3u8"])
def test_nothing_is_shown_without_a_token(served, path):
    assert served.ask("GET", path).problem == "token"


@pytest.mark.parametrize("path", ["/preview/gone", "/preview/gone/still", "/hls/gone/", "/hls/gone/x.m4s"])
def test_a_stream_that_is_not_there(served, path):
    assert served.ask("GET", path, served.viewer).problem == "no-stream"


@pytest.mark.parametrize("query", ["height=0", "height=9999", "rate=0", "rate=60", "rate=x", "rate=1&rate=2", "a=1"])
def test_a_query_that_asks_for_too_much(served, query):
    assert served.ask("GET", f"/preview/cam?{query}", served.viewer).problem == "query"


def test_a_preview_goes_on_at_the_rate_asked_for(served, camera):
    began = time.monotonic()
    numbers = [number_of(jpeg)[0] for jpeg in watch(served, "/preview/cam?rate=10&height=240", 5)]
    assert time.monotonic() - began >= 4 / 10
    assert numbers == sorted(set(numbers))
    until(lambda: camera.value("viewers", kind="preview") == 0)
    assert camera.value("pictures_encoded_total") == 0, "no H.264 for it"


def test_a_preview_is_as_high_as_asked_for_and_no_higher_than_the_source(served):
    assert number_of(watch(served, "/preview/cam?height=120", 1)[0])[1] == 120
    still = served.ask("GET", "/preview/cam/still?height=1080", served.viewer)
    assert still.headers["Content-Type"] == "image/jpeg"
    assert still.headers["Cache-Control"] == "no-store"
    assert number_of(still.body)[1] == 240


def test_too_many_previews_are_refused(served, monkeypatch):
    monkeypatch.setattr(pictures, "MOST", 0)
    answer = served.ask("GET", "/preview/cam", served.viewer)
    assert (answer.status, answer.problem) == (503, "previews")
    assert answer.headers["Retry-After"]
    assert served.refusals("previews") == 1


def test_a_preview_ends_with_its_stream(served, camera):
    connection = served.connect()
    try:
        connection.request("GET", "/preview/cam?rate=15", headers={"Authorization": f"Bearer {served.viewer}"})
        answer = connection.getresponse()
        assert len(parts(answer, 1)) == 1
        camera.broadcast.close()
        answer.read()  # ends; the connection would time out else
    finally:
        connection.close()


def test_a_stream_without_a_picture_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "FIRST", 0.3)
    silent = Camera()
    with serving(tmp_path, guard=lambda: Streams(silent)) as served:
        for path in ("/preview/cam", "/preview/cam/still", "/hls/cam/"):
            answer = served.ask("GET", path, served.viewer)
            assert (answer.status, answer.problem) == (503, "no-picture")
        until(lambda: not silent.broadcast._stills.wanted)
    silent.broadcast.close()


def test_hls_as_a_player_asks_for_it(served, camera):
    playlist = served.ask("GET", "/hls/cam/", served.viewer)
    assert playlist.headers["Content-Type"] == "application/vnd.apple.mpegurl"
    lines = playlist.body.decode().splitlines()
    header = next(line for line in lines if line.startswith("#EXT-X-MAP")).split('"')[1]
    segment = next(line for line in lines if line.endswith(".m4s"))
    film = b""
    for name in (header, segment):
        answer = served.ask("GET", f"/hls/cam/{name}", served.viewer)
        assert answer.headers["Content-Type"] == "video/mp4"
        film += answer.body
    with av.open(io.BytesIO(film)) as file:
        stamps = [read_stamp(picture_of(frame)) for frame in file.decode(video=0)]
    assert stamps
    assert stamps == sorted(set(stamps))
    assert camera.value("viewers", kind="hls") == 1
    assert served.ask("GET", "/hls/cam/../../etc/passwd", served.viewer).status == 404
    assert served.ask("GET", "/hls/cam/none.m4s", served.viewer).problem == "no-segment-file"


def test_a_server_that_stops_ends_its_channels(tmp_path, camera):
    with serving(tmp_path, guard=lambda: Streams(camera)) as served:
        assert served.ask("GET", "/hls/cam/", served.viewer).status == 200
    until(lambda: camera.value("viewers", kind="hls") == 0)


def test_engines_that_are_not_loaded_show_nothing(tmp_path):
    with serving(tmp_path) as served:
        assert served.ask("GET", "/preview/cam", served.viewer).problem == "not-ready"
