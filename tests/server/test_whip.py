"""WHIP on a real server with the real chain behind it; the other side is aiortc, over real sockets."""

import asyncio
import gc
import http.client
import json
import os
import resource
import threading
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from streamguard.access import WebRtcSettings
from streamguard.ingest.demo import photograph
from streamguard.server.auth import Role, TokenFile
from tests.peers import Camera, Sender, h264, until
from tests.server.conftest import HERE, QUICK, WIDE
from tests.serving import flagged, serving
from tests.serving import until as wait


def sample(served, series, **labels):
    return served.metrics.registry.get_sample_value(f"streamguard_{series}", labels) or 0.0


def body_of(text):
    return json.loads(text)["type"].removeprefix("urn:streamguard:problem:")


def test_a_stream_comes_is_watched_and_goes(call, house, units, stream):
    guard = house.guard

    async def scenario(served):
        async with Sender(served.server.url, served.sender, stream, Camera(units)) as sender:
            assert await sender.open() == 201
            assert sender.headers["Content-Type"] == "application/sdp"
            assert sender.headers["Location"].startswith(f"/whip/{stream}/")
            assert sender.etag.startswith('"')
            await sender.connected()
            await until(lambda: house.frames(stream) > 30)
            await until(lambda: any("stream.up" in event["type"] for event in sender.events))
            listed = served.ask("GET", f"/api/v1/streams/{stream}", served.viewer).json
            assert (listed["uri"], listed["live"], listed["session"]) == (f"whip:{stream}", True, 1)
            registry = guard.metrics.registry
            assert registry.get_sample_value("streamguard_stream_width_pixels", {"stream": stream}) == 320
            await until(
                lambda: registry.get_sample_value("streamguard_stream_received_bits_total", {"stream": stream}) > 0
            )
            assert sample(served, "webrtc_peers", kind="whip") == 1
            assert await sender.end() == 200
            assert stream not in house.watched()
            assert await sender.end() == 404
            assert sample(served, "webrtc_sessions_total", kind="whip", outcome="left") == 1
            assert sample(served, "webrtc_peers", kind="whip") == 0
            return sender

    with call() as served:
        sender = asyncio.run(scenario(served))
        told = [event for _, event in served.api.feed.after(0).events if event["data"]["stream"] == stream]
        assert sender.events == told[: len(sender.events)], "what server-sent events carry, in their order"
    threads = {thread.name for thread in threading.enumerate()}
    assert not {one for one in threads if one.endswith("-decoder") or stream in one}, threads


def test_a_stream_that_comes_again_goes_on_counting_its_sessions(call, house, units, stream):
    guard = house.guard

    async def scenario(served):
        for session in (1, 2):

            def there(session=session):
                snapshot = guard.snapshot(stream)
                return snapshot is not None and snapshot.session == session

            async with Sender(served.server.url, served.sender, stream, Camera(units)) as sender:
                assert await sender.open() == 201
                await until(there)
                assert await sender.end() == 200

    with call() as served:
        asyncio.run(scenario(served))


def test_candidates_may_come_later(call, house, units, stream):

    async def scenario(served):
        async with Sender(served.server.url, served.sender, stream, Camera(units)) as sender:
            whole = await sender.offer()
            lines = whole.split("\r\n")
            trickled = [line for line in lines if line.startswith(("a=candidate:", "a=end-of-candidates"))]
            assert trickled
            assert await sender.open("\r\n".join(line for line in lines if line not in trickled)) == 201
            fragment = "\r\n".join(["a=mid:0", *dict.fromkeys(trickled)]) + "\r\n"

            async def patch(text=fragment, kind="application/trickle-ice-sdpfrag", **headers):
                status, _, body = await sender.ask("PATCH", sender.location, text, kind, **headers)
                return status, body_of(body) if body else ""

            assert await patch() == (428, "if-match")
            assert await patch(If_Match='"other"') == (412, "if-match")
            assert await patch(If_Match="*") == (422, "restart")
            restart = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\n"
            assert await patch(restart, If_Match=sender.etag) == (422, "restart")
            assert await patch(kind="application/sdp", If_Match=sender.etag) == (415, "type")
            assert await patch("hello", If_Match=sender.etag) == (400, "sdp")
            assert await patch("a=candidate:nonsense\r\n", If_Match=sender.etag) == (204, ""), "left out, no more"
            assert await patch(If_Match=sender.etag) == (204, "")
            await until(lambda: house.frames(stream) > 0)

    with call() as served:
        asyncio.run(scenario(served))


def test_a_face_that_is_too_small_is_inconclusive(call, house, stream):
    guard = house.guard
    small = photograph()[:480:4, :480:4]  # a face of some twenty pixels

    async def scenario(served):
        async with Sender(served.server.url, served.sender, stream, Camera(h264([small] * 30))) as sender:
            assert await sender.open() == 201
            await until(lambda: guard.snapshot(stream) is not None and guard.snapshot(stream).reason == "too small")

            def told():
                return [event["data"]["reason"] for event in sender.events if "track.state" in event["type"]]

            await until(lambda: "too small" in told())

    with call() as served:
        asyncio.run(scenario(served))


# What is refused.

LINES = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789abcdef012345\r\na=fingerprint:sha-256 AA:BB\r\na=setup:actpass\r\n"
HEAD = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"


def video(codec="96 VP8/90000", mid=0):
    rtp = f"a=mid:{mid}\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:{codec}\r\n"
    return f"m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\n{LINES}{rtp}"


SOUND = (
    f"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{LINES}a=mid:0\r\na=sendonly\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n"
)
# A profile that nobody serves shows only when the codecs are matched.
HIGH = "a=fmtp:96 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f\r\n"


@pytest.fixture(scope="module")
def shut(tmp_path_factory):
    """A server that is asked for what it does not give."""
    with serving(tmp_path_factory.mktemp("shut"), webrtc=QUICK, limits=WIDE) as served:
        yield served


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "application/sdp", (400, "sdp")),
        (b"hello", "application/sdp", (400, "sdp")),
        (b"\xff\xff", "application/sdp", (400, "sdp")),
        (HEAD + video(), "text/plain", (415, "type")),
        (b"{}", "application/json", (415, "type")),
        (HEAD + video() + video(mid=1), "application/sdp", (422, "too-many-media")),
        (HEAD + SOUND, "application/sdp", (422, "no-video")),
        (HEAD + video("96 AV1/90000"), "application/sdp", (422, "no-common-codec")),
        (HEAD + video("96 H264/90000") + HIGH, "application/sdp", (422, "no-common-codec")),
        (HEAD + video() + "a=rid:h send\r\na=simulcast:send h;l\r\n", "application/sdp", (422, "simulcast")),
        (HEAD + video() + "a=fmtp:1 x\r\n", "application/sdp", (400, "sdp")),
        (HEAD + video().replace("actpass", "nonsense"), "application/sdp", (400, "sdp")),
        (b"v=0" + b"a" * 70_000, "application/sdp", (413, "too-large")),
    ],
)
def test_bad_offers(shut, body, kind, expected):
    data = body if isinstance(body, bytes) else body.encode()
    answer = shut.ask("POST", "/whip/cam", shut.sender, data, {"Content-Type": kind})
    assert (answer.status, answer.problem) == expected
    assert sample(shut, "webrtc_peers", kind="whip") == 0


def test_without_a_token_that_is_good_nothing_is_opened(shut, tmp_path):
    tokens = TokenFile(shut.api.settings.tokens, clock=lambda: time.time() - 7200)
    late = tokens.add("late", Role.SENDER, hours=1.0)
    sdp = {"Content-Type": "application/sdp"}
    for token, expected in (
        (None, (401, "token")),
        ("sg_0123456789ab_" + "A" * 43, (401, "token")),
        (late, (401, "expired")),
        (shut.viewer, (403, "role")),
        (shut.operator, (503, "not-ready")),
    ):
        answer = shut.ask("POST", "/whip/cam", token, (HEAD + video()).encode(), sdp)
        assert (answer.status, answer.problem) == expected
        if answer.status == 401:
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert sample(shut, "webrtc_peers", kind="whip") == 0


def test_a_sender_does_nothing_else(shut, stream):
    for method, path in (("GET", "/api/v1/streams"), ("POST", "/whep/cam"), ("GET", "/api/v1/events")):
        assert shut.ask(method, path, shut.sender, headers={"Content-Type": "application/sdp"}).problem == "role"
    assert shut.ask("GET", "/api/v1/events?stream=cam", shut.sender).problem == "role", "of another's stream"


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_other_methods_are_kept_for_later(shut, method):
    assert shut.ask(method, "/whip/cam", shut.sender).problem == "method"


@pytest.mark.parametrize("stream", ["a%2Fb", ".hidden", "a" * 65])
def test_names_that_could_not_stand_in_a_label(shut, stream):
    answer = shut.ask(
        "POST", f"/whip/{stream}", shut.sender, (HEAD + video()).encode(), {"Content-Type": "application/sdp"}
    )
    assert answer.status in (400, 404)


def test_pages_of_named_origins_may_call(tmp_path):
    page, other = "https://meet.example.org", "https://elsewhere.example.org"
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    with serving(tmp_path, webrtc=QUICK, cors_origins=(page,)) as served:
        for path in ("/whip/cam", "/whip/cam/x", "/whep/cam", "/api/v1/events"):
            allowed = served.ask("OPTIONS", path, headers={"Origin": page} | asked)
            assert allowed.status == 200
            assert allowed.headers["Access-Control-Allow-Origin"] == page
            assert "POST" in allowed.headers["Access-Control-Allow-Methods"]
            assert "Authorization" in allowed.headers["Access-Control-Allow-Headers"]
            refused = served.ask("OPTIONS", path, headers={"Origin": other} | asked)
            assert "Access-Control-Allow-Origin" not in refused.headers
            assert "Access-Control-Allow-Methods" not in refused.headers
        assert served.ask("OPTIONS", "/whip/cam").headers["Accept-Post"] == "application/sdp"
        denied = served.ask("POST", "/whip/cam", None, b"", {"Origin": page})
        assert denied.status == 401
        assert denied.headers["Access-Control-Allow-Origin"] == page, "a page can tell why"
        assert "Location" in denied.headers["Access-Control-Expose-Headers"]
        assert served.ask("OPTIONS", "/api/v1/streams", headers={"Origin": page} | asked).status == 401
        assert "Access-Control-Allow-Origin" not in served.ask("GET", "/livez", headers={"Origin": page}).headers


# Limits, and peers that are gone.


class Held(NamedTuple):
    """What this process holds (proc(5)): bytes of memory, threads, open files."""

    memory: int
    threads: int
    files: int

    @classmethod
    def now(cls):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * resource.getpagesize(), len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")))


def fall_silent(sender):
    """Say nothing any more, neither media nor reports, but for ICE."""

    async def nothing(data):
        return

    sender.connection.getSenders()[0].transport._send_rtp = nothing


def test_a_name_is_kept_while_its_session_delivers(call, house, units, stream):

    async def scenario(served):
        url = served.server.url
        async with Sender(url, served.sender, stream, Camera(units)) as first:
            assert await first.open() == 201
            await until(lambda: house.frames(stream) > 10)
            async with Sender(url, served.sender, stream, Camera(units)) as second:
                assert await second.open() == 409
                assert second.headers["Retry-After"] == "2"
            fall_silent(first)
            status = 409
            while status == 409:
                await asyncio.sleep(0.5)
                async with Sender(url, served.operator, stream, Camera(units)) as stranger:
                    assert await stranger.open() == 409, "another's token has to wait until it is over"
                async with Sender(url, served.sender, stream, Camera(units)) as third:
                    status = await third.open()
            assert status == 201
            assert sample(served, "webrtc_sessions_total", kind="whip", outcome="replaced") == 1

    with call() as served:
        asyncio.run(scenario(served))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({"per_client": 1}, (429, "per-client")), ({"most": 1}, (503, "most")), ({"openings": 1}, (429, "openings"))],
)
def test_sessions_are_bounded(call, units, settings, expected, stream):
    async def scenario(served):
        async with (
            Sender(served.server.url, served.sender, stream, Camera(units)) as first,
            Sender(served.server.url, served.sender, f"{stream}-2", Camera(units)) as second,
        ):
            assert await first.open() == 201
            assert await second.open() == expected[0]
            assert body_of(second.answer) == expected[1]
            assert int(second.headers["Retry-After"]) >= 1

    with call(WebRtcSettings(addresses=HERE, **settings)) as served:
        asyncio.run(scenario(served))
        assert served.refusals(expected[1]) == 1


def test_a_peer_that_never_connects_is_freed(call, house, stream):
    guard = house.guard
    with call(WebRtcSettings(addresses=HERE, connecting=1.0)) as served:
        sdp = {"Content-Type": "application/sdp"}
        far = "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n"
        opened = served.ask("POST", f"/whip/{stream}", served.sender, (HEAD + video() + far).encode(), sdp)
        assert opened.status == 201
        assert stream in house.watched()
        asyncio.run(until(lambda: stream not in house.watched()))
        asyncio.run(until(lambda: sample(served, "webrtc_sessions_total", kind="whip", outcome="never connected") == 1))
        assert served.ask("DELETE", opened.headers["Location"], served.sender).status == 404
    assert stream not in guard._failures, "it is no failure of this machine"


def test_a_peer_that_vanishes_is_evicted(call, house, units, stream):

    async def scenario(served):
        camera = Camera(units)
        async with Sender(served.server.url, served.sender, stream, camera) as sender:
            assert await sender.open() == 201
            await until(lambda: house.frames(stream) > 10)
            fall_silent(sender)
            await until(lambda: stream not in house.watched())
            assert sample(served, "webrtc_sessions_total", kind="whip", outcome="silent") == 1

    with call(WebRtcSettings(addresses=HERE, silence=2.0)) as served:
        asyncio.run(scenario(served))


def test_what_the_api_removes_and_whose_token_is_taken_away_ends(call, house, units, tmp_path, stream):
    first, second = stream, f"{stream}-2"

    async def scenario(served):
        async with (
            Sender(served.server.url, served.sender, first, Camera(units)) as one,
            Sender(served.server.url, served.sender, second, Camera(units)) as two,
        ):
            assert (await one.open(), await two.open()) == (201, 201)
            await until(lambda: house.frames(first) > 0 and house.frames(second) > 0)
            renamed = served.ask("PATCH", f"/api/v1/streams/{first}", served.operator, {"name": "other"})
            assert renamed.problem == "sent"
            assert served.ask("DELETE", f"/api/v1/streams/{first}", served.operator).status == 204
            await until(lambda: sample(served, "webrtc_sessions_total", kind="whip", outcome="removed") == 1)
            assert second in house.watched()
            TokenFile(tmp_path / "tokens.json").remove("cara")
            await until(lambda: sample(served, "webrtc_sessions_total", kind="whip", outcome="token") == 1)
            await until(lambda: second not in house.watched())

    with call() as served:
        asyncio.run(scenario(served))


def test_a_sender_hears_of_its_own_stream_by_server_sent_events_too(call, house, units, stream):

    async def scenario(served):
        async with Sender(served.server.url, served.sender, stream, Camera(units)) as sender:
            assert await sender.open() == 201
            lines = await asyncio.to_thread(listen, served)
            assert json.loads(lines)["data"]["stream"] == stream

    def listen(served):
        connection = http.client.HTTPConnection(*served.server.address, timeout=60)
        connection.request(
            "GET", f"/api/v1/events?stream={stream}", headers={"Authorization": f"Bearer {served.sender}"}
        )
        answer = connection.getresponse()
        assert answer.status == 200
        answer.readline()
        served.api.take(flagged(1, "another"))
        served.api.take(flagged(2, stream))
        while not (line := answer.readline()).startswith(b"data:"):
            pass
        connection.close()
        return line.removeprefix(b"data:")

    with call() as served:
        asyncio.run(scenario(served))


def test_an_operator_ends_the_session_of_another_and_a_stranger_does_not(call, house, units, tmp_path, stream):
    stranger = None

    async def scenario(served):
        async with Sender(served.server.url, served.sender, stream, Camera(units)) as sender:
            assert await sender.open() == 201
            sender.token = stranger
            assert await sender.end() == 403
            sender.token = served.operator
            assert await sender.end() == 200

    with call() as served:
        stranger = TokenFile(tmp_path / "tokens.json").add("mallory", Role.SENDER)
        asyncio.run(scenario(served))


def test_the_server_stops_with_peers_that_are_connected(call, house, units, stream):
    guard = house.guard
    told = threading.Event()

    async def scenario(served):
        async with Sender(served.server.url, served.sender, stream, Camera(units)) as sender:
            assert await sender.open() == 201
            await until(lambda: house.frames(stream) > 0)
            await asyncio.to_thread(served.server.stop)
            told.set()

    with call() as served:
        asyncio.run(scenario(served))
        assert told.is_set()
        assert sample(served, "webrtc_sessions_total", kind="whip", outcome="stopped") == 1
    guard.remove(stream)


def test_a_thousand_openings_in_a_minute(call, house, stream):
    """Most are turned away before anything is made of them; memory, threads and sockets stay as they are."""
    guard = house.guard
    sdp = {"Content-Type": "application/sdp"}
    body = (HEAD + video() + "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\n").encode()
    settings = WebRtcSettings(addresses=HERE, openings=20, per_client=4, connecting=60.0)

    def open_many(served, times):
        token = {"Authorization": f"Bearer {served.sender}"}
        connection, statuses = served.connect(), []
        for number in range(times):
            connection.request("POST", f"/whip/{stream}-{number}", body=body, headers=sdp | token)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
            if answer.getheader("Connection") == "close":
                connection.close()
        connection.close()
        return statuses

    with call(settings) as served:
        open_many(served, 50)  # whatever is made once is made
        gc.collect()
        before = Held.now()
        statuses = open_many(served, 950)
        gc.collect()
        assert set(statuses) <= {201, 429}
        assert statuses.count(429) > 900
        assert sample(served, "webrtc_peers", kind="whip") <= 4
        after = Held.now()
        assert after.memory - before.memory < 16 * 2**20
        assert after.threads <= before.threads + 4
        assert after.files <= before.files + 20
        assert served.refusals("openings") + served.refusals("per-client") > 900
    for stream in house.watched():
        guard.remove(stream)


def test_sessions_that_are_opened_and_ended_leave_nothing(call, house, units, stream):
    async def rounds(served, names):
        for one in names:
            async with Sender(served.server.url, served.sender, one, Camera(units)) as sender:
                assert await sender.open() == 201
                await until(lambda one=one: house.frames(one) > 0)
                assert await sender.end() == 200

    with call() as served:
        asyncio.run(rounds(served, [f"{stream}-{number}" for number in range(3)]))
        before = Held.now()
        asyncio.run(rounds(served, [f"{stream}-{number}" for number in range(3, 8)]))
        wait(lambda: Held.now().threads <= before.threads)
        wait(lambda: Held.now().files <= before.files)
