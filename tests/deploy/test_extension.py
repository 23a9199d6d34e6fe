"""The browser extension in a real browser, on pages that know nothing of it, with `streamguard serve` behind it."""

from itertools import islice

import pytest

from streamguard.ingest.source import open_source
from streamguard.pixels import rgb_of
from tests.deploy.plugin import PLUGIN, badges, extended, guarding, worker
from tests.media import patterns, write_video
from tests.servers.site import Canned, Site
from tests.serving import until

pytestmark = [pytest.mark.servers, pytest.mark.slow, pytest.mark.timeout(600)]

SHORT = 200
# As closed as a page can be: nothing but its own script, no connection to anybody.
POLICY = {"Content-Security-Policy": "default-src 'none'; script-src 'nonce-page'; media-src *"}
PAGE = """<!doctype html><title>call</title><body><script nonce=page>
const show = (where, set) => {
    const video = Object.assign(document.createElement('video'), { muted: true, autoplay: true, loop: true, ...set });
    [video.style.width, video.style.height] = ['320px', '180px'];
    where.append(video);
    return video;
};
const drawing = (width = 320) => {
    const canvas = Object.assign(document.createElement('canvas'), { width, height: 180 });
    let tick = 0;
    setInterval(() => {
        const context = canvas.getContext('2d');
        context.fillStyle = `hsl(${tick++ % 360} 80% 50%)`;
        context.fillRect(0, 0, width, 180);
    }, 40);
    return canvas.captureStream(25);
};
const shadow = (mode) => document.body.appendChild(document.createElement('div')).attachShadow({ mode });
</script>"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Pages, and two files: a real face, and a picture without one."""
    folder = tmp_path_factory.mktemp("site")
    with open_source("demo:?seed=2&duration=6&pace=0").open(1) as frames:
        write_video(folder / "face.mp4", (rgb_of(frame.picture) for frame in islice(frames, 150)))
    write_video(folder / "pattern.mp4", patterns(50))
    with Site(folder, {"/": Canned(PAGE, headers=POLICY)}) as opened:
        yield opened


@pytest.fixture(scope="module")
def guard(tmp_path_factory):
    with guarding(tmp_path_factory.mktemp("guard")) as server:  # no origin may call it: the extension is none
        yield server


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    with extended(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


def options(context):
    page = context.new_page()
    page.goto(worker(context).url.replace("worker.js", "options.html"))
    page.wait_for_function("() => document.querySelector('[name=token]').placeholder")
    return page


@pytest.fixture(scope="module")
def saved(context, site, guard):
    """The extension, told where the server is, and to begin by itself on the site's pages."""
    page = options(context)
    for name, value in {"server": guard.url, "token": guard.token, "sites": site.url}.items():
        page.fill(f"[name={name}]", value)
    page.click("button")
    page.wait_for_function("() => document.querySelector('#notice').textContent.startsWith('Saved')")
    page.close()
    return context


@pytest.fixture
def page(saved, site):
    opened = saved.new_page()
    opened.goto(site.url)
    yield opened
    opened.close()


def shows(page, *states, limit=SHORT):
    """Wait for badges of exactly those states and texts."""
    until(lambda: sorted(badges(page)) == sorted(states), limit)


NOBODY = ("inconclusive", "inconclusive: no face judged")


def test_every_video_has_its_badge_wherever_and_whenever_it_comes(page):
    page.evaluate("() => { window.first = show(document.body, { srcObject: drawing() }); }")
    shows(page, NOBODY)
    page.evaluate("() => { show(shadow('open'), { srcObject: drawing() }); }")
    page.evaluate("() => { show(shadow('closed'), { srcObject: drawing() }); }")
    shows(page, NOBODY, NOBODY, NOBODY)
    page.evaluate("() => first.remove()")
    shows(page, NOBODY, NOBODY)


def test_a_real_face_of_a_file_is_clear_and_a_strangers_file_can_not_be_judged(page, site, tmp_path):
    write_video(tmp_path / "theirs.mp4", patterns(50))
    with Site(tmp_path) as other:
        page.evaluate("(src) => { show(document.body, { src }); }", f"{other.url}/theirs.mp4")
        shows(page, ("inconclusive", "inconclusive: protected video"))
        page.evaluate("() => { show(document.body, { src: '/face.mp4' }); }")
        shows(page, ("inconclusive", "inconclusive: protected video"), ("clear", "clear"))


def test_the_pages_own_videos_are_left_alone(page):
    page.evaluate("() => { window.own = drawing(); show(document.body, { srcObject: own }); }")
    shows(page, NOBODY)
    assert page.evaluate("() => own.getTracks().map(({ readyState, enabled }) => [readyState, enabled])") == [
        ["live", True]
    ]
    page.evaluate("() => own.getTracks()[0].stop()")
    shows(page, ("inconclusive", "inconclusive: no video"))
    page.evaluate("() => { own.addTrack(drawing(400).getTracks()[0]); }")
    shows(page, NOBODY)
    assert page.evaluate("() => document.querySelector('streamguard-badges').shadowRoot") is None, (
        "no page reads a badge"
    )


def test_the_button_ends_it_and_begins_it_again(saved, page, guard):
    page.evaluate("() => { show(document.body, { srcObject: drawing() }); }")
    shows(page, NOBODY)
    # The button itself is the browser's: its event is given to the worker as the browser would.
    click = """async (url) => {
        const [tab] = await chrome.tabs.query({ url: `${url}*` });
        chrome.action.onClicked.dispatch(tab);
        return tab.id;
    }"""
    down = len([event for event in guard.events() if event["type"] == "streamguard.stream.down.v1"])
    tab = worker(saved).evaluate(click, page.url)
    shows(page)
    until(lambda: len([e for e in guard.events() if e["type"] == "streamguard.stream.down.v1"]) == down + 1, SHORT)
    said = "(tabId) => chrome.action.getBadgeText({ tabId })"
    assert worker(saved).evaluate(said, tab) == ""
    worker(saved).evaluate(click, page.url)
    shows(page, NOBODY)
    assert worker(saved).evaluate(said, tab) == "on"


ASK = """(url) => new Promise((resolve) => {
    const port = chrome.runtime.connect({ name: 'request' });
    port.onMessage.addListener(resolve);
    port.postMessage({ url, method: 'GET', body: null, headers: [] });
})"""


def test_the_token_goes_to_the_server_alone(saved, guard):
    page = options(saved)
    assert page.input_value("[name=token]") == "", "it is never shown again"
    assert page.input_value("[name=server]") == f"{guard.url}/"
    # Nor can a page that broke into its content script have it sent elsewhere.
    with Site(PLUGIN, {"/whip/anna": Canned()}, open=True) as other:
        elsewhere = (f"{other.url}/whip/anna", f"{guard.url}.evil.test/whip/anna", f"{guard.url}/api/v1/streams")
        for url in (*elsewhere, f"{guard.url}/whip/../api/v1/streams"):
            assert page.evaluate(ASK, url) == {"failed": True}
        assert other.asked == []
    assert page.evaluate(ASK, f"{guard.url}/whip/anna")["head"]["status"] == 405
    page.close()
