"""The call plug-in's module in a real browser: what it makes of events, of servers that refuse it, and of what the
browser forbids. What it does with StreamGuard itself: test_call_plugin_live.py."""

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.deploy.plugin import PLUGIN, SCRIPT, begin, call, hears, secure_site, states, tsc, typed
from tests.servers import browser as browsers
from tests.servers.site import Canned, Site

pytestmark = pytest.mark.servers

TOKEN = "sg_made_" + "x" * 43
ANSWER = {"Location": "/whip/anna/1"}
POLICY = {"Content-Security-Policy": "connect-src 'self'"}
CHROME = "declare const chrome: any;\n"


@pytest.fixture(scope="module")
def browser(https):
    # Names of .test lead here, and the browser takes the server of https pages for one of the internet.
    public = f"--ip-address-space-overrides=127.0.0.1:{https.rpartition(':')[2]}=public"
    with browsers.chromium("--host-resolver-rules=MAP *.test 127.0.0.1", public) as opened:
        yield opened


@pytest.fixture(scope="module")
def https():
    with secure_site() as url:
        yield url


@pytest.fixture(scope="module")
def site():
    with Site(PLUGIN, {"/call": Canned(SCRIPT), "/strict": Canned(SCRIPT, headers=POLICY)}) as opened:
        yield opened


def fresh(browser, **settings):
    """A context whose pages wait long."""
    context = browser.new_context(ignore_https_errors=True, **settings)
    context.set_default_timeout(200_000)
    return context


@pytest.fixture(scope="module")
def blank(browser, site):
    page = call(fresh(browser), f"{site.url}/call")
    yield page
    page.context.close()


def in_page(page, module, body, argument=None):
    """What ``body`` returns, a function's body that has the module's exports as ``it``."""
    return page.evaluate(f"async (given) => {{ const it = await import('/{module}'); {body} }}", argument)


# Types.


@pytest.fixture
def compiler():
    if shutil.which("tsc") is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("no tsc; needs Debian's node-typescript")


@pytest.mark.usefixtures("compiler")
def test_every_module_is_what_its_types_say(tmp_path):
    (tmp_path / "chrome.d.ts").write_text(CHROME)
    with typed(tmp_path) as copy:
        modules = [path for path in sorted(copy.rglob("*.js")) if path.name != "content.js"]
        assert tsc(*modules, tmp_path / "chrome.d.ts") == ""


USE = """
import { attach, describe, type Guard, type SegmentReport } from './call-plugin/streamguard.js';
declare const track: MediaStreamTrack;
const guard: Guard = attach(track, { server: 'https://guard.example', stream: 'anna', token: async () => 'sg_' });
const off: () => void = guard.on('state', ({ state, reason }) => console.log(state === 'clear' ? 'none' : reason));
guard.on('segment', (segment: SegmentReport) => console.log(segment.score.peak, segment.event.id));
guard.on('connection', ({ phase, retryIn }) => console.log(phase === 'waiting' && retryIn));
off();
await guard.detach();
describe(guard.current);
"""


@pytest.mark.usefixtures("compiler")
def test_a_program_that_uses_it_is_checked_by_its_types(tmp_path):
    use, misuse = tmp_path / "use.ts", tmp_path / "misuse.ts"
    use.write_text(USE)
    misuse.write_text(USE.replace("'clear'", "'real'").replace("stream: 'anna'", "name: 'anna'"))
    with typed(tmp_path):
        told = [line for line in tsc(use, misuse).splitlines() if not line.startswith(" ")]
    assert {line.partition("(")[0].rpartition("/")[2] for line in told} == {"misuse.ts"}
    assert len(told) == 2
    assert "is not assignable to parameter of type 'AttachOptions'" in told[0]
    assert "have no overlap" in told[1]


# Events to a state.


def track(number, state, reason=None, score=None, session=1):
    data = {"session": session, "track": number, "state": state, "reason": reason, "score": score}
    return {
        "type": "streamguard.track.state.v1",
        "data": data | {"bbox": None, "threshold": 0.9, "operating_point": "default"},
    }


def stream(kind, reason=None, session=1):
    return {"type": f"streamguard.stream.{kind}.v1", "data": {"session": session, "reason": reason}}


CASES = {
    "nothing was heard": ([], "inconclusive", "no verdict yet", None),
    "there is no face": ([stream("up")], "inconclusive", "no face judged", None),
    "a face is clear": ([track(1, "clear", score=0.2)], "clear", None, 0.2),
    "one of two is flagged": ([track(1, "flagged", score=0.95), track(2, "clear", score=0.1)], "flagged", None, 0.95),
    "the higher of two decides": (
        [track(1, "flagged", score=0.92), track(2, "flagged", score=0.97)],
        "flagged",
        None,
        0.97,
    ),
    "it was flagged": ([track(1, "flagged", score=0.95), track(1, "clear", score=0.3)], "clear", None, 0.3),
    "a face is too small": ([track(1, "inconclusive", "too small")], "inconclusive", "too small", None),
    "it went": ([track(1, "clear", score=0.1), track(1, "inconclusive", "face gone")], "inconclusive", "no face", None),
    "another is still there": (
        [track(1, "flagged", score=0.95), track(2, "clear", score=0.1), track(1, "inconclusive", "face gone")],
        "clear",
        None,
        0.1,
    ),
    "the picture froze": (
        [track(1, "clear", score=0.1), stream("degraded", "frozen picture")],
        "inconclusive",
        "frozen picture",
        None,
    ),
    "it moves again": (
        [track(1, "clear", score=0.1), stream("degraded", "frozen picture"), stream("up")],
        "clear",
        None,
        0.1,
    ),
    "the stream is down": (
        [track(1, "flagged", score=0.95), stream("down", "no frames")],
        "inconclusive",
        "no frames",
        None,
    ),
    "a new session knows nothing of the last": (
        [track(1, "clear", score=0.1), stream("up", session=2)],
        "inconclusive",
        "no face judged",
        None,
    ),
    "a kind of a later version": (
        [track(1, "clear", score=0.1), {"type": "streamguard.weather.v9", "data": {}}],
        "clear",
        None,
        0.1,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_events_amount_to(blank, case):
    events, state, reason, score = CASES[case]
    take = "const all = new it.Verdict(); for (const event of given) all.take(event); return all.current;"
    found = in_page(blank, "parts/verdict.js", take, events)
    assert (found["state"], found["reason"], found["score"]) == (state, reason, score)
    assert (found["threshold"] is None) == (score is None)


def test_tracks_whose_end_is_not_told_are_not_kept_for_ever(blank):
    events = [track(0, "clear", score=0.1), *(track(number, "inconclusive", "too small") for number in range(1, 1000))]
    take = "const all = new it.Verdict(); for (const event of given) all.take(event); return all.current;"
    found = in_page(blank, "parts/verdict.js", take, events)
    assert found["state"] == "clear"
    assert len(found["tracks"]) == 64


def test_a_badge_shows_no_score_without_its_threshold(blank):
    report = {"state": "flagged", "reason": None, "score": 0.973, "threshold": 0.91}
    tell = "return given.map(it.describe);"
    others = [report | {"state": "clear"}, report | {"state": "inconclusive", "reason": "no face", "score": None}]
    told = in_page(blank, "streamguard.js", tell, [report, *others])
    assert told == ["flagged: 0.97 (threshold 0.91)", "clear", "inconclusive: no face"]


# Waiting, and text.


def test_delays_double_spread_and_begin_anew_after_a_good_connection(blank):
    body = """
        const [low, high] = [new it.Backoff(() => 0), new it.Backoff(() => 1)];
        const lost = Array.from({ length: 9 }, () => [low.delay(), high.delay()]);
        return { lost, good: high.delay({}, 10), denied: low.delay({ denied: true }) };
    """
    found = in_page(blank, "parts/retry.js", body)
    ceilings = [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30]
    assert found["lost"] == [[ceiling / 2, ceiling] for ceiling in ceilings]
    assert found["good"] == 0.25
    assert found["denied"] == 30


def test_a_server_that_names_a_time_is_not_asked_before(blank):
    body = "return [0, 0.5, 1].map((at) => new it.Backoff(() => at).delay({ after: given }));"
    assert in_page(blank, "parts/retry.js", body, 8) == [8, 9, 10]
    assert in_page(blank, "parts/retry.js", body, 0) == [0.125, 0.1875, 0.25], "no sooner than it would by itself"
    assert in_page(blank, "parts/retry.js", body, 10**9)[0] == 600, "a wrong header is not obeyed for ever"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, None), ("7", 7), (" 0 ", 0), ("soon", None), ("Thu, 01 Jan 1970 00:01:30 GMT", 30)],
)
def test_both_forms_of_retry_after(blank, header, seconds):
    assert in_page(blank, "parts/retry.js", "return it.retryAfter(given, 60_000);", header) == seconds


SSE = (
    ': quiet\r\n\r\nid: r.1\ndata: {"a":\ndata:1}\n\nevent: gap\rdata: {}\r\r'
    "id: r.2\ndata\n\nid: bad\0\nretry: 3000\n\ndata: x"
)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_server_sent_events_in_pieces_of_any_size(blank, size):
    body = """
        const all = new it.EventText();
        const found = given.flatMap((piece) => all.push(piece));
        const { lastId } = all;
        all.restart();
        return { found, lastId, after: all.push('data: y\\n\\n') };
    """
    found = in_page(blank, "parts/sse.js", body, [SSE[at : at + size] for at in range(0, len(SSE), size)])
    assert found["found"] == [
        {"type": "message", "data": '{"a":\n1}'},
        {"type": "gap", "data": "{}"},
        {"type": "message", "data": ""},
    ]
    assert found["lastId"] == "r.2", "an id with a NUL is none"
    assert found["after"] == [{"type": "message", "data": "y"}], "half a message does not outlive its connection"


def test_ice_servers_of_a_link_header(blank):
    link = (
        '<stun:s.example>; rel="ice-server", </other>; rel=next, <turn:t.example?transport=udp>; rel="ice-server"; '
        'username="u,1"; credential="p\\"w; x"; credential-type="password"'
    )
    assert in_page(blank, "parts/door.js", "return it.iceServers(given);", link) == [
        {"urls": "stun:s.example"},
        {"urls": "turn:t.example?transport=udp", "username": "u,1", "credential": 'p"w; x'},
    ]
    assert in_page(blank, "parts/door.js", "return it.iceServers(null);") == []


@pytest.mark.parametrize(
    ("host", "near"),
    [
        *((host, "loopback") for host in ("localhost", "a.localhost", "127.0.0.1", "[::1]")),
        *((host, "local") for host in ("10.1.2.3", "192.168.0.9", "172.31.0.1", "169.254.1.1", "[fd00::1]", "a.local")),
        *(
            (host, None)
            for host in ("guard.example", "172.32.0.1", "1270.example", "10.example", "8.8.8.8", "[2001::]")
        ),
    ],
)
def test_what_is_near(blank, host, near):
    assert in_page(blank, "parts/door.js", "return it.nearness(given);", host) == near


# Wrong use.


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stream": "a b"}, "stream is 'a b': expected 1 to 64 of A-Z a-z 0-9 . _ -"),
        ({"stream": ""}, "stream is ''"),
        ({"server": "guard.example"}, "expected an absolute http or https URL"),
        ({"server": "ftp://guard.example"}, "expected an absolute http or https URL"),
        ({"server": "https://anna:secret@guard.example"}, "expected no user and password in it"),
        ({"token": "two words"}, "token: expected visible ASCII characters"),
        ({"tokens": "sg_"}, "option 'tokens' is not known; known: server, stream, token"),
    ],
)
def test_options_that_can_not_be_meant(blank, options, message):
    whole = {"server": "https://guard.example", "stream": "anna"} | options
    told = blank.evaluate("(options) => { try { begin(options); } catch (error) { return String(error); } }", whole)
    assert told.startswith("TypeError: ")
    assert message in told
    assert "secret" not in told
    assert "two words" not in told


def test_an_audio_track_and_an_unknown_event_are_refused(blank):
    body = """
        const [audio] = new AudioContext().createMediaStreamDestination().stream.getAudioTracks();
        const found = [];
        try { it.attach(audio, given); } catch (error) { found.push(String(error)); }
        const guard = it.attach(track, given);
        try { guard.on('verdict', () => {}); } catch (error) { found.push(String(error)); }
        await guard.detach();
        return found;
    """
    options = {"server": "http://127.0.0.1:9", "stream": "anna"}
    assert in_page(blank, "streamguard.js", body, options) == [
        "TypeError: attach: expected a video track first.",
        "TypeError: on('verdict'): expected 'state', 'segment' or 'connection'.",
    ]


# Servers that are not StreamGuard, or do not want it. Every request is a real one, over a real socket.


def refused(browser, site, answer, path="/call"):
    """A page that was answered so, its first trouble, and what was asked of the server."""
    with Site(Path("."), {"/whip/anna": answer}, open=True) as server:
        page = call(fresh(browser), f"{site.url}{path}")
        begin(page, server=server.url, stream="anna", token=TOKEN)
        told = page.wait_for_function("() => heard.find(([, report]) => report.retryIn || report.phase === 'closed')")
        assert page.evaluate("() => guard.current.state") == "inconclusive"
        report = told.json_value()[1]
        page.evaluate("() => guard.detach()")
        page.context.close()
        return report, server.asked


@pytest.mark.parametrize(
    ("answer", "reason", "message", "least"),
    [
        (Canned(status=401), "token refused", "HTTP 401", 30),
        (Canned(status=403), "token refused", "HTTP 403", 30),
        (Canned(status=404), "no such service", "HTTP 404", 30),
        (Canned(status=409), "stream taken", "HTTP 409", 0.1),
        (Canned(status=429, headers={"Retry-After": "20"}), "server full", "HTTP 429", 20),
        (Canned(status=503, headers={"Retry-After": "90"}), "server full", "HTTP 503", 90),
        (Canned(status=415), "refused", "HTTP 415", 30),
        (Canned(status=502), "server error", "HTTP 502", 0.1),
        (Canned("v=0", status=200, type="application/sdp"), "no such service", "found 200 with application/sdp", 30),
        (Canned("hello", status=201, headers=ANSWER), "no such service", "found 201 with text/html", 30),
        (Canned("v=0", status=201, type="application/sdp"), "no media connection", "SessionDescription", 0.1),
        (
            Canned('{"detail": "9 of 9 sessions"}', 503, "application/problem+json"),
            "server full",
            "9 of 9 sessions",
            0.1,
        ),
    ],
)
def test_a_server_that_refuses_is_told_by_name_and_asked_again_in_time(browser, site, answer, reason, message, least):
    told, asked = refused(browser, site, answer)
    assert (told["phase"], told["reason"]) == ("waiting", reason)
    assert message in told["message"]
    assert TOKEN not in json.dumps(told)
    assert told["retryIn"] >= least
    (offer,) = [each for each in asked if each.method == "POST"]
    assert offer.headers["authorization"] == f"Bearer {TOKEN}"
    assert offer.headers["content-type"] == "application/sdp"
    assert offer.body.count("m=video") == offer.body.count("a=sendonly") == offer.body.count("m=application") == 1
    assert "m=audio" not in offer.body
    assert "a=candidate" in offer.body, "a server need not know trickle ICE"


def test_a_session_that_comes_to_nothing_is_ended_and_the_ice_servers_are_kept(browser, site):
    answer = Canned("v=0", 201, "application/sdp", ANSWER | {"Link": '<stun:127.0.0.1:9>; rel="ice-server"'})
    ended = Canned(status=200)
    with Site(Path("."), {"/whip/anna": answer, "/whip/anna/1": ended}, open=True) as server:
        page = call(fresh(browser), f"{site.url}/call")
        page.evaluate("""() => {
            const Plain = RTCPeerConnection;
            window.configured = [];
            window.RTCPeerConnection = class extends Plain {
                constructor(settings) { super(settings); configured.push([...settings.iceServers]); }
            };
        }""")
        begin(page, server=server.url, stream="anna", token=TOKEN)
        hears(page, "connection", phase="waiting", attempt=2)
        page.evaluate("() => guard.detach()")
        ends = [each for each in server.asked if each.method == "DELETE"]
        assert {each.path for each in ends} == {"/whip/anna/1"}
        assert {each.headers["authorization"] for each in ends} == {f"Bearer {TOKEN}"}
        assert page.evaluate("() => configured.slice(0, 2)") == [[], [{"urls": "stun:127.0.0.1:9"}]]
        page.context.close()


def test_a_token_is_asked_for_anew_before_each_attempt(browser, site):
    with Site(Path("."), {"/whip/anna": Canned(status=500)}, open=True) as server:
        page = call(fresh(browser), f"{site.url}/call")
        page.evaluate(
            """(server) => {
            let count = 0;
            begin({ server, stream: 'anna', token: async () => `sg_${++count}` });
        }""",
            server.url,
        )
        hears(page, "connection", phase="waiting", attempt=3)
        page.evaluate("() => guard.detach()")
        shown = [each.headers["authorization"] for each in server.asked if each.method == "POST"]
        assert shown[:3] == ["Bearer sg_1", "Bearer sg_2", "Bearer sg_3"]
        page.context.close()


def test_a_token_that_can_not_be_had_is_not_told_why(browser, site):
    page = call(fresh(browser), f"{site.url}/call")
    page.evaluate(
        "() => begin({ server: 'http://127.0.0.1:9', stream: 'a', token() { throw new Error('sg_secret'); } })"
    )
    told = hears(page, "connection", phase="waiting")
    assert (told["reason"], told["message"]) == ("token refused", "the function given as token threw an error")
    page.context.close()


def test_a_server_that_is_not_there_is_tried_again_and_again(browser, site):
    with Site(Path(".")) as gone:
        url = gone.url
    page = call(fresh(browser), f"{site.url}/call")
    begin(page, server=url, stream="anna")
    told = hears(page, "connection", phase="waiting", attempt=4)
    assert told["reason"] == "server not reached"
    assert states(page) == [("inconclusive", "server not reached")], "told once, not at every attempt"
    page.evaluate("() => guard.detach()")
    assert states(page)[-1] == ("inconclusive", "detached")
    page.context.close()


def test_the_calls_own_track_is_left_alone(browser, site):
    """Nothing is done to it, what its owner does is followed, and a listener's mistake ends nothing."""
    page = call(fresh(browser), f"{site.url}/call")
    page.evaluate("""() => {
        const copies = window.copies = [];
        const clone = track.clone.bind(track);
        track.clone = () => copies[copies.push(clone()) - 1];
        for (const name of ['stop', 'applyConstraints']) track[name] = () => { throw new Error(name); };
    }""")
    page.evaluate("() => { window.before = JSON.stringify([track.getConstraints(), track.getSettings()]); }")
    begin(page, server="http://127.0.0.1:9", stream="anna")
    page.evaluate("() => guard.on('connection', () => { throw new Error('planted'); })")
    page.evaluate("() => { track.enabled = false; }")
    page.wait_for_function("() => !copies[0].enabled")
    page.evaluate("() => { track.enabled = true; }")
    page.wait_for_function("() => copies[0].enabled")
    hears(page, "connection", phase="waiting", attempt=2)
    page.evaluate("() => guard.detach()")
    assert page.evaluate("() => [copies.length, copies[0].readyState, track.readyState]") == [1, "ended", "live"]
    assert page.evaluate("() => before === JSON.stringify([track.getConstraints(), track.getSettings()])")
    page.context.close()


def test_it_ends_with_the_calls_own_track(browser, site):
    page = call(fresh(browser), f"{site.url}/call")
    begin(page, server="http://127.0.0.1:9", stream="anna")
    hears(page, "connection", phase="waiting")
    page.evaluate("() => track.stop()")  # which is announced by no event
    assert hears(page, "connection", phase="closed")["reason"] == "track ended"
    assert states(page)[-1] == ("inconclusive", "track ended")
    page.context.close()


# What a browser forbids.


def test_a_page_whose_policy_forbids_the_connection(browser, site):
    told, asked = refused(browser, site, Canned(status=500), "/strict")
    assert (told["phase"], told["reason"]) == ("closed", "blocked by content security policy")
    assert "connect-src for http://127.0.0.1:" in told["message"]
    assert asked == []


def test_a_server_that_does_not_allow_the_pages_origin(browser, site):
    with Site(Path("."), {"/whip/anna": Canned(status=500)}) as server:
        page = call(fresh(browser), f"{site.url}/call")
        begin(page, server=server.url, stream="anna", token=TOKEN)
        told = hears(page, "connection", phase="waiting")
        assert told["reason"] == "server not reached"
        assert f"does not allow {site.url} (CORS)" in told["message"]
        assert {each.method for each in server.asked} == {"OPTIONS"}, "the browser asked first, and sent nothing"
        page.context.close()


def test_an_https_page_and_an_http_server(browser, https):
    page = call(fresh(browser), f"{https}/call")
    begin(page, server="http://guard.test:9", stream="anna", token=TOKEN)
    told = hears(page, "connection", phase="closed")
    assert told["reason"] == "mixed content"
    assert told["message"] == "an https page can't reach http://guard.test:9; serve it by https"
    page.context.close()


@pytest.mark.parametrize("granted", [False, True])
def test_a_page_of_the_internet_and_a_server_of_this_machine(browser, https, granted):
    """Local Network Access: Chromium asks the person, who here says no where it was not granted before."""
    allowed = ["local-network-access"] if granted else []
    with Site(Path("."), {"/whip/anna": Canned(status=500)}, open=True) as server:
        page = call(fresh(browser, permissions=allowed), f"{https}/call")
        begin(page, server=server.url, stream="anna", token=TOKEN)
        told = hears(page, "connection", phase="waiting")
        page.context.close()
    assert told["reason"] == ("server error" if granted else "local network refused")
