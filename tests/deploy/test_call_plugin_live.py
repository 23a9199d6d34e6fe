"""The call plug-in against `streamguard serve`, with a made camera: nothing in between is made up.

`RUNS=3 pytest tests/deploy/test_call_plugin_live.py` shows every seed three times; `make nightly` does.
"""

import os
import re
import signal

import pytest

from streamguard.server.auth import Role, TokenFile
from tests.deploy.plugin import PLUGIN, SCRIPT, begin, call, guarding, hears, make_camera, secure_site, states
from tests.servers import browser as browsers
from tests.servers.site import Canned, Site
from tests.serving import until

pytestmark = [pytest.mark.servers, pytest.mark.timeout(600)]  # a camera is made first, and shown in its own time

RUNS = int(os.environ.get("RUNS", "1"))
LAG = 45  # pictures, 1.5 s: from a picture to what is said of it, with the pictures that are still evidence of the last
SEEDS = (3, 6, 11)
SHORT = 200  # seconds that a thing of a moment may take on a machine that does other things as well

# Every so often: the number of the picture that Anna's side shows, and what her badge says.
WATCH = """() => {
    const context = new OffscreenCanvas(960, 8).getContext('2d', { willReadFrequently: true });
    const bit = (pixels, at) => pixels[4 * (at * 8 + 4)] > 128;
    window.seen = [];
    setInterval(() => {
        const [video, badge] = ['video', '.badge'].map((part) => document.querySelector(`#anna ${part}`));
        if (!video?.videoWidth) return;
        context.drawImage(video, 0, 0, video.videoWidth, 8 * video.videoHeight / 540, 0, 0, 960, 8);
        const pixels = context.getImageData(0, 4, 960, 1).data;
        const bits = Array.from({ length: 25 }, (_, at) => bit(pixels, at));
        const number = bits.slice(0, 24).reduce((sum, set, at) => sum + (set ? 2 ** at : 0), 0);
        const whole = bits.reduce((sum, set) => sum + set, 0) % 2 === 0;
        if (whole) seen.push([number, badge.dataset.state, badge.textContent]);
    }, 100);
}"""


@pytest.fixture(scope="module")
def site():
    demo = (PLUGIN / "demo" / "index.html").read_text()
    refused = Canned(demo, headers={"Permissions-Policy": "camera=()"})  # what a "no" of a person comes to
    with Site(PLUGIN, {"/call": Canned(SCRIPT), "/demo/refused.html": refused}) as opened:
        yield opened


@pytest.fixture(scope="module")
def https():
    with secure_site() as url:
        yield url


@pytest.fixture(scope="module")
def guard(site, https, tmp_path_factory):
    with guarding(tmp_path_factory.mktemp("guard"), site.url, https, per_client=2) as server:
        yield server


@pytest.fixture(scope="module", params=SEEDS if RUNS > 1 else SEEDS[-1:])
def camera(request, tmp_path_factory):
    """Of a seed that the engine finds; the last has the shortest way to its forged passage."""
    return make_camera(tmp_path_factory.mktemp("camera") / "camera.mjpeg", request.param)


@pytest.fixture(scope="module")
def browser(camera, https):
    # Names of .test lead here, and the browser takes the server of https pages for one of the internet.
    public = f"--ip-address-space-overrides=127.0.0.1:{https.rpartition(':')[2]}=public"
    with browsers.chromium("--host-resolver-rules=MAP *.test 127.0.0.1", public, camera=camera.path) as opened:
        yield opened


@pytest.fixture
def context(browser):
    """What a test opens in it is closed with it, so that no session is left for the next one."""
    opened = browser.new_context(ignore_https_errors=True)
    opened.set_default_timeout(SHORT * 1000)
    yield opened
    opened.close()


@pytest.fixture
def page(context, site):
    """A page with a call's track in it."""
    return call(context, f"{site.url}/call")


@pytest.mark.slow
@pytest.mark.parametrize("run", range(RUNS))
def test_a_forged_passage_is_flagged_and_nothing_else(context, site, guard, camera, run):
    """Camera, call, plug-in, server, badge: the demo as a person sees it."""
    page = context.new_page()
    page.goto(f"{site.url}/demo/index.html")
    for name, value in {"server": guard.url, "token": guard.token, "call": f"run{camera.seed}-{run}"}.items():
        page.fill(f"[name={name}]", value)
    page.evaluate(WATCH)
    page.click("#start")
    page.wait_for_function("() => seen.some(([, state]) => state === 'flagged')")
    page.wait_for_function("() => document.querySelector('#anna .segments li')")
    seen, ben = page.evaluate("() => seen"), page.inner_text("#ben .badge")
    segment = page.inner_text("#anna .segments li")
    page.click("#stop")

    real = {state for number, state, _ in seen if LAG <= number < camera.forged}
    assert "clear" in real
    assert "flagged" not in real
    shown = next(text for _, state, text in seen if state == "flagged")
    assert re.fullmatch(r"flagged: (0\.\d\d|1\.00) \(threshold 0\.\d\d\)", shown)
    assert re.search(r"mean (0\.\d\d|1\.00), peak (0\.\d\d|1\.00)", segment)
    assert re.fullmatch("inconclusive: .+", ben), "a drawing has no face"

    told = [event for event in guard.events() if event["data"]["stream"] == f"run{camera.seed}-{run}.anna"]
    opened = [event["data"] for event in told if event["type"] == "streamguard.segment.opened.v1"]
    assert [data["state"] for data in opened] == ["flagged"]
    assert opened[0]["score"]["peak"] >= opened[0]["threshold"]
    said = [event["data"]["state"] for event in told if event["type"] == "streamguard.track.state.v1"]
    assert said.index("clear") < said.index("flagged")


def test_the_camera_is_refused_to_the_demo(context, site, guard):
    page = context.new_page()
    page.goto(f"{site.url}/demo/refused.html")
    for name, value in {"server": guard.url, "token": guard.token, "call": "refused"}.items():
        page.fill(f"[name={name}]", value)
    page.click("#start")
    page.wait_for_function("() => document.querySelector('#ben .connection')?.textContent.startsWith('connected')")
    assert "does not let this page use the camera" in page.inner_text("#notice")
    assert page.inner_text("#anna .badge") == "inconclusive: not watched"


# What the server refuses.


def test_a_wrong_token_and_one_of_a_viewer(page, guard):
    viewer = TokenFile(guard.folder / "tokens.json").add("vera", Role.VIEWER)
    for token in (f"sg_0000000000000000_{'x' * 43}", viewer):
        begin(page, server=guard.url, stream="refused", token=token)
        told = hears(page, "connection", phase="waiting")
        assert told["reason"] == "token refused"
        assert told["retryIn"] >= 30, "guessing is slow here"
        assert token not in str(told)
        page.evaluate("async () => { await guard.detach(); heard.length = 0; }")


def test_a_server_that_is_full_says_when_to_come_again(page, guard):
    page.evaluate(
        """async ({ url: server, token }) => {
        const { attach } = await import('/streamguard.js');
        window.others = ['full.1', 'full.2'].map((stream) => attach(track, { server, token, stream }));
    }""",
        {"url": guard.url, "token": guard.token},
    )
    page.wait_for_function("() => others.every(({ connection }) => connection.phase === 'connected')")
    begin(page, server=guard.url, stream="full.3", token=guard.token)
    told = hears(page, "connection", phase="waiting")
    assert told["reason"] == "server full"
    assert told["message"]
    assert states(page) == [("inconclusive", "server full")]
    page.evaluate("async () => { await Promise.all(others.map((other) => other.detach())); }")
    assert hears(page, "connection", phase="connected")["via"] == "datachannel"
    page.evaluate("() => guard.detach()")


def test_one_sender_a_name(page, guard):
    page.evaluate(
        """async ({ url: server, token }) => {
        const { attach } = await import('/streamguard.js');
        window.first = attach(track, { server, token, stream: 'taken' });
    }""",
        {"url": guard.url, "token": guard.token},
    )
    page.wait_for_function("() => first.connection.phase === 'connected'")
    begin(page, server=guard.url, stream="taken", token=guard.token)
    assert hears(page, "connection", phase="waiting")["reason"] == "stream taken"
    page.evaluate("() => first.detach()")
    hears(page, "connection", phase="connected")
    page.evaluate("() => guard.detach()")


# Events without a data channel, a page that goes, a network that is cut.

WITHOUT_CHANNEL = r"""({ url: server, token }) => {
    // What a gateway in between does that knows no data channels: it takes the section out, and refuses it.
    const section = /m=application[^]*$/;
    const send = async (url, init) => {
        if (init.method !== 'POST') return fetch(url, init);
        const [asked] = init.body.match(section);
        const body = init.body.replace(section, '').replace(/(a=group:BUNDLE.*) \S+/, '$1');
        const answer = await fetch(url, { ...init, body });
        const kept = asked.replace(/^m=application \d+/, 'm=application 0').split('\r\n');
        const refused = kept.filter((line) => /^(m=|c=|a=mid)/.test(line)).join('\r\n') + '\r\n';
        return new Response(await answer.text() + refused, { status: answer.status, headers: answer.headers });
    };
    begin({ server, token, stream: 'deaf', fetch: send });
}"""


def test_events_come_by_http_where_no_data_channel_does(page, guard):
    page.evaluate(WITHOUT_CHANNEL, {"url": guard.url, "token": guard.token})
    assert hears(page, "connection", phase="connected")["via"] == "sse"
    # Its stream is up, and shows no face: either is known by events alone.
    hears(page, "state", reason="no face judged")
    page.evaluate("() => guard.detach()")
    assert states(page)[-1] == ("inconclusive", "detached")


def test_a_page_that_goes_ends_its_session(page, guard):
    begin(page, server=guard.url, stream="leaving", token=guard.token)
    hears(page, "connection", phase="connected")
    page.goto("about:blank")
    ends = ("streamguard.stream.down.v1", "leaving")
    until(lambda: ends in [(event["type"], event["data"]["stream"]) for event in guard.events()], SHORT)


def test_nothing_is_clear_while_the_network_is_cut(page, guard):
    begin(page, server=guard.url, stream="cut", token=guard.token)
    hears(page, "connection", phase="connected")
    guard.process.send_signal(signal.SIGSTOP)  # no packet and no answer comes from it any more
    try:
        hears(page, "state", reason="connection lost")
        hears(page, "connection", phase="waiting")
        assert page.evaluate("() => guard.current.state") == "inconclusive"
        page.evaluate("() => { heard.length = 0; }")
    finally:
        guard.process.send_signal(signal.SIGCONT)
    hears(page, "connection", phase="connected")
    page.evaluate("() => guard.detach()")


def test_a_page_of_the_internet_that_was_let_in(context, https, guard):
    """Local Network Access: once the person said yes, media reach a server of this machine as well."""
    context.grant_permissions(["local-network-access"])
    page = call(context, f"{https}/call")
    begin(page, server=guard.url, stream="granted", token=guard.token)
    assert hears(page, "connection", phase="connected")["via"] == "datachannel"
    page.evaluate("() => guard.detach()")
