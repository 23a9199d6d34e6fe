"""Streams through the API: real sources, led out to where they may go and nowhere else."""

import socket

import pytest

from streamguard.access import ApiSettings
from streamguard.config import Config
from streamguard.ingest.allowed import AllowedSources, SourceRules
from streamguard.pipeline import Guard
from streamguard.server.api import ROOT
from streamguard.server.streams import StreamDesk
from tests.media import patterns, write_video
from tests.rtsp_server import RtspServer, require, write_clip
from tests.senders import web_server
from tests.serving import serving, until


class Watching:
    """One Guard for all tests."""

    def __init__(self):
        self.take = lambda event: None
        self.guard = Guard(Config(), on_event=lambda event: self.take(event))

    def desk(self, resolve=None, **allowed):
        """A desk whose names are resolved by ``resolve``."""
        settings = ApiSettings(allow_sources=AllowedSources(**allowed))
        return StreamDesk(settings, lambda: self.guard, SourceRules(settings.allow_sources, resolve))


@pytest.fixture(scope="module")
def watching():
    made = Watching()
    with made.guard:
        yield made


@pytest.fixture(autouse=True)
def _leave_none(watching, monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)
    yield
    for stream in watching.guard.streams():
        watching.guard.remove(stream.source.name)


def added(served, uri, name="door"):
    return served.ask("POST", f"{ROOT}/streams", served.operator, {"name": name, "uri": uri})


def told(served, kind):
    """The reasons of events of that kind so far."""
    entries = served.api.feed.after(0).events
    return [entry.event["data"].get("reason") for entry in entries if entry.event["type"].endswith(f".{kind}.v1")]


@pytest.mark.servers
def test_a_camera_by_its_name_whatever_that_says_later(tmp_path, watching):
    """DNS rebinding: the name stands for another address after it was judged."""
    require()
    answers = [["127.0.0.1"]]
    desk = watching.desk(lambda host: answers[-1], schemes=("rtsp",), networks=("127.0.0.1/32",))
    clip = write_clip(tmp_path / "clip.units", patterns(50))
    with RtspServer(clip, user="bob", password="made-up") as server:
        uri = server.url.replace("127.0.0.1", "cam.test")
        with serving(tmp_path, guard=lambda: watching.guard, desk=desk) as served:
            watching.take = served.api.take
            answer = added(served, uri)
            assert (answer.status, answer.json["uri"]) == (201, f"rtsp://***@cam.test:{server.port}/live")
            answers.append(["127.0.0.2"])
            until(lambda: told(served, "up"))
            server.kill()
            until(lambda: told(served, "down"))
            server.start()
            until(lambda: len(told(served, "up")) == 2)
            refused = added(served, uri, "second")
            assert (refused.status, refused.problem) == (403, "source-not-allowed")
            assert served.ask("PATCH", f"{ROOT}/streams/door", served.operator, {"name": "gate"}).status == 200
            until(lambda: len(told(served, "up")) == 3)
            (way,) = desk._exits.values()
            assert served.ask("DELETE", f"{ROOT}/streams/gate", served.operator).status == 204
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", way.port), timeout=60).close()


def test_a_film_of_a_web_server(tmp_path, watching):
    write_video(tmp_path / "clip.mp4", patterns(30))
    desk = watching.desk(lambda host: ["127.0.0.1"], schemes=("http",), networks=("127.0.0.1/32",))
    with (
        web_server(tmp_path) as address,
        serving(tmp_path, guard=lambda: watching.guard, desk=desk) as served,
    ):
        watching.take = served.api.take
        assert added(served, f"{address.replace('127.0.0.1', 'films.test')}/clip.mp4").status in (201, 409)
        until(lambda: told(served, "down"))
        assert told(served, "down") == ["end of stream"]


def test_a_proxy_that_would_be_passed_by_is_no_proxy(tmp_path, watching, monkeypatch):
    monkeypatch.setenv("no_proxy", "films.test")
    desk = watching.desk(lambda host: ["127.0.0.1"], schemes=("http",), networks=("127.0.0.1/32",))
    with serving(tmp_path, guard=lambda: watching.guard, desk=desk) as served:
        answer = added(served, "http://films.test/clip.mp4")
    assert (answer.status, answer.problem) == (503, "no-proxy")


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:9/",
        "rtsp://bob:hunter2@192.0.2.1/",
        "rtsps://cam.test/",
        "rtmp://cam.test/a",
        "udp://0.0.0.0:5000",
        "/dev/video0",
        "/etc/passwd",
        "file:///etc/passwd",
        "concat:/etc/passwd",
        "demo:",
    ],
)
def test_what_is_not_named_is_refused(tmp_path, watching, uri):
    desk = watching.desk(schemes=("rtsp", "file"), hosts=("cam.test",), folders=(str(tmp_path),))
    with serving(tmp_path, guard=lambda: watching.guard, desk=desk) as served:
        answer = added(served, uri)
    assert (answer.status, answer.problem) == (403, "source-not-allowed")
    assert b"hunter2" not in answer.body


@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{}\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile ../secret.ts\n# {}\n",
    ],
    ids=["playlist", "playlist of file URIs", "concat list"],
)
def test_a_playlist_in_an_allowed_folder_shows_nothing_of_the_disk(tmp_path, watching, text):
    secret = write_video(tmp_path / "secret.ts", patterns(50))
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "clip.m3u8").write_text(text.format(secret))
    desk = watching.desk(schemes=("file",), folders=(str(tmp_path / "open"),))
    with serving(tmp_path, guard=lambda: watching.guard, desk=desk) as served:
        watching.take = served.api.take
        added(served, str(tmp_path / "open" / "clip.m3u8"))
        until(lambda: told(served, "down"))
        assert told(served, "up") == []
        assert "is no video or picture that can be read" in told(served, "down")[0]
