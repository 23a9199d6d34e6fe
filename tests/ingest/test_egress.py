"""The way out: real servers that redirect, rebind and list other addresses; FFmpeg gets nowhere but where it may."""

import asyncio
import http.server
import socket
import threading
from contextlib import contextmanager

import pytest

from streamguard.errors import InputError, SourceLost
from streamguard.ingest.allowed import AllowedSources, SourceRules, Target
from streamguard.ingest.connection import SourceOptions
from streamguard.ingest.egress import Diverted, RtspFilter, open_http, open_rtsp, through
from streamguard.ingest.network import LiveSource
from streamguard.ingest.source import open_source
from tests.media import patterns, write_video
from tests.rtsp_server import RtspServer, require, write_clip

OK = b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"
SDP = b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Length: 5\r\n\r\nv=0\r\n"
MEDIA = b"$\x00\x00\x0cRTSP/1.0 302"


@contextmanager
def loop():
    """A loop in a thread, as the server has one; runs coroutines for the test."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    try:
        yield lambda coroutine: asyncio.run_coroutine_threadsafe(coroutine, made).result(60)
    finally:
        asyncio.run_coroutine_threadsafe(_cancel_all(), made).result(60)
        made.call_soon_threadsafe(made.stop)
        thread.join()
        made.close()


async def closed(way):
    """An exit belongs to the thread of its loop, as everything of asyncio does."""
    way.close()


async def _cancel_all():
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


# What passes of an RTSP server's side.


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_messages_and_media_pass_however_they_are_cut(step):
    stream = OK + MEDIA + SDP + MEDIA + b"OPTIONS * RTSP/1.0\r\nCSeq: 9\r\n\r\n" + OK
    gate = RtspFilter()
    assert b"".join(gate.feed(stream[at : at + step]) for at in range(0, len(stream), step)) == stream


@pytest.mark.parametrize(
    "answer",
    [
        b"RTSP/1.0 302 Moved\r\nLocation: rtsp://127.0.0.2/\r\n\r\n",
        b"RTSP/1.0 301 \r\n\r\n",
        b"REDIRECT rtsp://a/ RTSP/1.0\r\nLocation: rtsp://127.0.0.2/\r\n\r\n",
        b" RTSP/1.0 302 Moved\r\n\r\n",
        b"\r\nRTSP/1.0 302 Moved\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n$\x00\x00\x08RTSP/1.0\r\n\r\n",
        b"RTSP/1.0 200 OK\nRTSP/1.0 302 Moved\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 1\r\nContent-Length: 9\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length : 9\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 0x9\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n Content-Length: 9\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nA: b\0c\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"$\x00\x00\x01R",
        b"x" * 40_000,
    ],
)
def test_what_leads_elsewhere_or_can_be_read_in_two_ways_ends_it(answer):
    gate = RtspFilter()
    assert gate.feed(OK) == OK
    with pytest.raises(Diverted):
        gate.feed(answer)


def test_an_unfinished_head_is_held_back():
    gate = RtspFilter()
    assert gate.feed(b"RTSP/1.0 302 Moved\n\nLocation: rtsp://127.0.0.2/\n\n") == b""


# RTSP, for real.


@pytest.mark.servers
def test_frames_come_through_the_exit_with_a_password(tmp_path):
    require()
    clip = write_clip(tmp_path / "clip.units", patterns(25))
    with RtspServer(clip, user="bob", password="made-up") as server, loop() as run:
        way = run(open_rtsp("door", Target("cam.test", server.port, "127.0.0.1")))
        source = LiveSource(through(way, server.url.replace("127.0.0.1", "cam.test")), name="door")
        with source.open(1) as connection:
            frames = [frame for frame, _ in zip(connection, range(10), strict=False)]
        assert len(frames) == 10
        assert way.refused == 0
        run(closed(way))


def test_a_redirection_of_an_rtsp_server_is_not_followed(caplog):
    with loop() as run, trap() as (elsewhere, visits):
        answer = f"RTSP/1.0 302 Moved\r\nCSeq: 1\r\nLocation: rtsp://127.0.0.1:{elsewhere}/\r\n\r\n"
        with answering(answer.encode()) as port:
            way = run(open_rtsp("door", Target("cam.test", port, "127.0.0.1")))
            source = LiveSource(through(way, "rtsp://cam.test/live"), name="door")
            with pytest.raises(SourceLost):
                source.open(1)
            run(closed(way))
        assert visits == []
    assert way.refused == 1
    assert "stream 'door': refused: a redirection (status 302)" in caplog.text


@contextmanager
def answering(answer):
    """A server that answers every request alike."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                try:
                    client.recv(65_536)
                    client.sendall(answer)
                    client.recv(65_536)
                except OSError:
                    pass

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@contextmanager
def trap(host="127.0.0.1"):
    """A listener that must not be visited; its port, and who came."""
    visits = []
    listener = socket.create_server((host, 0))

    def run():
        while True:
            try:
                client, peer = listener.accept()
            except OSError:
                return
            visits.append(peer)
            client.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield listener.getsockname()[1], visits
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


# HTTP, for real.


@contextmanager
def site(folder, redirects=None):
    """A web server of a folder; ``redirects`` by path. Gives its port."""

    class Site(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(folder), **options)

        def do_GET(self):
            target = (redirects or {}).get(self.path)
            if target is None:
                super().do_GET()
                return
            self.send_response(302)
            self.send_header("Location", target)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Rebinding:
    """A name server that gives the right address once, and another ever after."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    def __call__(self, host):
        self.asked.append(host)
        return [self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]]


def rules(resolve=None):
    return SourceRules(AllowedSources(schemes=("http", "https"), networks=("127.0.0.1/32",)), resolve)


@pytest.fixture(autouse=True)
def _no_bypass(monkeypatch):
    monkeypatch.delenv("no_proxy", raising=False)


def test_a_file_is_read_through_the_exit_under_its_name(tmp_path):
    write_video(tmp_path / "clip.mp4", patterns(20))
    names = Rebinding("127.0.0.1", "127.0.0.2")
    with site(tmp_path) as port, loop() as run:
        way = run(open_http("clip", rules(names)))
        options = SourceOptions(proxy=f"http://127.0.0.1:{way.port}")
        with open_source(f"http://films.test:{port}/clip.mp4?key=made-up", options=options).open(1) as connection:
            assert len(list(connection)) == 20
        with open_source(f"http://films.test:{port}/clip.mp4", options=options).open(2) as connection:
            assert len(list(connection)) == 20
        run(closed(way))
    assert names.asked == ["films.test"], "resolved once, however often FFmpeg connects"
    assert way.refused == 0


def test_a_name_that_is_bound_anew_is_of_no_use(tmp_path):
    with loop() as run, trap("127.0.0.2") as (port, visits):
        way = run(open_http("clip", rules(Rebinding("127.0.0.2"))))
        options = SourceOptions(proxy=f"http://127.0.0.1:{way.port}")
        with pytest.raises(InputError):
            open_source(f"http://films.test:{port}/clip.mp4", options=options).open(1)
        with pytest.raises(SourceLost):
            open_source(f"https://films.test:{port}/live", options=options).open(1)
        run(closed(way))
    assert visits == []
    assert way.refused == 2


def test_redirections_and_playlists_are_judged_too(tmp_path, caplog):
    with trap("127.0.0.2") as (port, visits), loop() as run:
        inside = f"http://127.0.0.2:{port}/secret.ts"
        for name, segment in (("live.m3u8", inside), ("files.m3u8", f"file://{tmp_path}/secret.ts")):
            text = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{segment}\n#EXT-X-ENDLIST\n"
            (tmp_path / name).write_text(text)
        write_video(tmp_path / "secret.ts", patterns(20))
        with site(tmp_path, {"/moved": inside, "/clip.mp4": inside}) as here:
            way = run(open_http("live", rules()))
            options = SourceOptions(proxy=f"http://127.0.0.1:{way.port}")
            for path in ("moved", "live.m3u8", "files.m3u8", "clip.mp4"):
                with pytest.raises((SourceLost, InputError)):
                    open_source(f"http://127.0.0.1:{here}/{path}", options=options).open(1)
            run(closed(way))
        assert visits == []
    assert way.refused >= 3
    assert "host '127.0.0.2' is not allowed here" in caplog.text


def test_a_playlist_and_its_segments_are_read(tmp_path):
    write_video(tmp_path / "live.m3u8", patterns(50), format="hls", muxer={"hls_time": "1", "hls_list_size": "0"})
    with site(tmp_path) as port, loop() as run:
        way = run(open_http("live", rules()))
        options = SourceOptions(proxy=f"http://127.0.0.1:{way.port}")
        with open_source(f"http://127.0.0.1:{port}/live.m3u8", options=options).open(1) as connection:
            assert len(list(connection)) == 50
        run(closed(way))
    assert way.refused == 0


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST http://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"GET ftp://127.0.0.1/ HTTP/1.1\r\n\r\n",
        b"GET http://127.0.0.2/ HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.2:443 HTTP/1.1\r\n\r\n",
        b"CONNECT 127.0.0.1:x HTTP/1.1\r\n\r\n",
        b"GET http://[/ HTTP/1.1\r\n\r\n",
    ],
)
def test_a_proxy_for_nothing_else(request_):
    with loop() as run:
        way = run(open_http("x", rules()))
        with socket.create_connection(("127.0.0.1", way.port), timeout=60) as client:
            client.sendall(request_)
            assert not client.recv(65_536).startswith(b"HTTP/1.1 2")
        run(closed(way))
    assert way.refused == 1


def test_a_closed_exit_leads_nowhere():
    with loop() as run:
        way = run(open_rtsp("x", Target("x", 1, "127.0.0.1")))
        run(closed(way))
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", way.port), timeout=60).close()
