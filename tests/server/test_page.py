"""The operator page in Debian's Chromium, on a real Guard: what is done in a control room, and what may go wrong."""

import json

import pytest
from playwright.sync_api import expect
from prometheus_client import CollectorRegistry

from streamguard.access import ApiSettings
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.server.api import Api
from streamguard.server.app import Address, Server
from streamguard.server.auth import Role, TokenFile
from tests.looped import Looped
from tests.media import pattern
from tests.rtsp_server import free_port
from tests.servers.browser import chromium
from tests.servers.proxy import Proxy
from tests.serving import WELL
from tests.visiting import LIMIT, room, visitor

pytestmark = pytest.mark.servers
expect.set_options(timeout=LIMIT)


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def studio(tmp_path_factory, flags_everything):
    """A stream whose face is flagged at once, and one without a face."""
    sources = [
        open_source("demo:?seed=2&duration=3600", name="studio"),
        Looped("gate", [pattern(number, 320, 180) for number in range(4)]),
    ]
    with room(tmp_path_factory.mktemp("room"), sources, engine=str(flags_everything)) as running:
        yield running


@pytest.fixture
def anna(browser, studio):
    """A viewer, signed in."""
    with visitor(browser, studio.url) as visiting:
        visiting.sign_in(studio.served.viewer)
        yield visiting


@pytest.fixture
def otto(browser, studio):
    """An operator, signed in."""
    with visitor(browser, studio.url) as visiting:
        visiting.sign_in(studio.served.operator)
        yield visiting


# Who comes in.


def test_a_token_opens_the_room_and_is_kept_nowhere(browser, studio):
    with visitor(browser, studio.url) as visiting:
        page = visiting.page
        page.goto(studio.url)
        page.get_by_label("Token", exact=True).fill("sg_0123456789ab_" + "A" * 43)
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert").filter(has_text="none of this server")).to_be_visible()
        assert page.locator("#room").is_hidden()
        visiting.sign_in(studio.served.viewer)
        expect(page.get_by_text("anna, viewer")).to_be_visible()
        kept = page.evaluate("[document.cookie, {...localStorage}, {...sessionStorage}, location.href]")
        assert kept == ["", {}, {}, studio.url + "/"], "scripts see no token, and no session"
        assert page.get_by_label("Token", exact=True).input_value() == ""
        page.reload()
        expect(page.locator("#room")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.reload()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_session_whose_token_is_taken_away_ends_at_the_door(browser, studio):
    tokens = TokenFile(studio.folder / "tokens.json")
    with visitor(browser, studio.url) as visiting:
        visiting.sign_in(tokens.add("guest", Role.VIEWER))
        visiting.tile("studio").wait_for()
        tokens.remove("guest")
        expect(visiting.page.get_by_text("this session is over")).to_be_visible()
        assert visiting.page.locator(".tile").count() == 0, "what was seen is gone too"


# What is shown.


def test_a_tile_says_what_is_known_of_its_stream(anna):
    studio, gate = anna.tile("studio"), anna.tile("gate")
    expect(studio).to_have_attribute("data-state", "flagged")
    expect(studio).to_have_attribute("aria-label", "studio, flagged, 1 face")
    expect(studio.locator(".badge")).to_have_text("Flagged")
    expect(studio.locator('[data-figure="faces"]')).to_have_text("1 face")
    expect(studio.locator('[data-figure="latency"]')).to_contain_text("s")
    expect(studio.locator('[data-figure="age"]')).to_contain_text("ago")
    expect(gate).to_have_attribute("aria-label", "gate, inconclusive: no face, 0 faces")
    expect(gate.locator(".reason")).to_have_text("no face")
    assert anna.page.title() == "(1) StreamGuard"
    expect(anna.page.locator("#spoken")).to_have_text("Flagged: studio")
    assert anna.page.locator('[data-show="flagged"] b').inner_text() == "1"


def test_tiles_show_moving_pictures(anna):
    for name in ("studio", "gate"):
        expect(anna.tile(name)).to_have_attribute("data-picture", "")
        canvas = f'document.querySelector(`.tile[data-stream="{name}"] canvas`)'
        assert anna.page.evaluate(f"{canvas}.width / {canvas}.height") == pytest.approx(16 / 9, rel=0.02)
        before = anna.page.evaluate(f"{canvas}.toDataURL()")
        anna.until(f"(before) => {canvas}.toDataURL() !== before", before)


def test_a_flagged_passage_is_listed_as_soon_as_it_opens(anna):
    passage = anna.page.locator("#passages .passage").first
    expect(passage).to_contain_text("studio")
    expect(passage.locator(".mark")).to_have_text("Now")
    assert anna.page.locator("#strip button").count() >= 1


def test_streams_are_found_by_state_and_by_name(anna):
    page = anna.page
    page.locator('[data-show="flagged"]').click()
    expect(anna.tile("gate")).to_be_hidden()
    expect(anna.tile("studio")).to_be_visible()
    page.locator('[data-show="clear"]').click()
    expect(page.get_by_text("No stream is like that now.")).to_be_visible()
    page.locator('[data-show="all"]').click()
    page.get_by_label("Find a stream by its name").fill("GAT")
    expect(anna.tile("studio")).to_be_hidden()
    expect(anna.tile("gate")).to_be_visible()


# What is done.


def test_a_viewer_changes_nothing(anna):
    anna.tile("gate").click()
    form = anna.page.locator('[data-part="sensitivity"]')
    expect(form.get_by_text("Only an operator can change this.")).to_be_visible()
    assert form.locator("input:enabled, button:enabled").count() == 0
    anna.page.keyboard.press("Escape")
    anna.page.locator("#passages button").first.click()
    expect(anna.page.get_by_text("Only an operator can say.")).to_be_visible()
    assert anna.page.locator('[data-part="label"] button:enabled').count() == 0


def test_a_stream_can_be_opened_before_the_operating_points_came(browser, studio):
    """A slow answer holds nothing up; when it comes, the points are there and the one in force is chosen."""
    with visitor(browser, studio.url) as late:
        held = []
        late.page.route("**/api/v1/operating-points", lambda route: held.append(route))
        with late.page.expect_request("**/api/v1/operating-points"):
            late.sign_in(studio.served.operator)
        late.tile("studio").click()
        dialog = late.page.locator("#stream-dialog")
        expect(dialog.get_by_role("heading", name="studio")).to_be_visible()
        expect(dialog.get_by_role("radio")).to_have_count(1)
        held.pop().continue_()
        points = studio.served.ask("GET", "/api/v1/operating-points", studio.served.viewer).json["operating_points"]
        expect(dialog.get_by_role("radio")).to_have_count(1 + len(points))
        shown = studio.served.ask("GET", "/api/v1/streams/studio", studio.served.viewer).json
        chosen = dialog.locator("input[name=point]:checked")
        expect(chosen).to_have_value("" if shown["operating_point"] == "by hand" else shown["operating_point"])


def test_from_a_false_alarm_to_its_label_by_the_keyboard(otto, studio):
    """The whole way: a tile, another threshold, the passage that it ends, its clip, and what it was."""
    page = otto.page
    expect(otto.tile("studio")).to_have_attribute("data-state", "flagged")
    page.keyboard.press("w")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    dialog = page.locator("#stream-dialog")
    expect(dialog.get_by_role("heading", name="studio")).to_be_visible()
    expect(dialog.get_by_role("img", name="Live picture of studio")).to_be_visible()
    by_hand = dialog.get_by_role("radio", name="By hand")
    by_hand.focus()
    page.keyboard.press("Space")
    dialog.get_by_label("Threshold by hand").focus()
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(dialog.get_by_text("Held against by hand (0.97) from now on.")).to_be_visible()
    shown = studio.served.ask("GET", "/api/v1/streams/studio", studio.served.viewer).json
    assert (shown["operating_point"], shown["threshold"]) == ("by hand", 0.97)
    page.keyboard.press("Escape")
    expect(otto.tile("studio")).to_be_focused()

    passage = page.locator("#passages .passage").first
    expect(passage.locator(".mark")).to_have_text("")
    expect(passage.locator("img")).to_be_visible()
    page.keyboard.press("p")
    page.keyboard.press("Enter")
    clip = page.locator("#segment-dialog video")
    expect(clip).to_be_visible()
    otto.until("() => document.querySelector('#segment-dialog video').readyState >= 2")
    clip.evaluate("(video) => { video.muted = true; return video.play(); }")
    otto.until("() => document.querySelector('#segment-dialog video').currentTime > 0.3")
    expect(page.locator("#segment-dialog .crop")).to_be_visible()
    expect(page.locator("#segment-dialog dl").get_by_text("(default)")).to_be_visible()
    assert page.locator("#segment-dialog a", has_text="scores.json").count() == 1

    page.get_by_label("Note").fill("The portrait on the wall")
    page.get_by_role("button", name="This was wrong").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("Kept. Thank you.")).to_be_visible()
    expect(page.get_by_role("button", name="This was wrong")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("Escape")
    expect(passage.locator(".mark")).to_have_text("Wrong")
    (line,) = (studio.folder / "labels.jsonl").read_text().splitlines()
    label = json.loads(line)
    assert (label["label"], label["note"], label["by"]) == ("authentic", "The portrait on the wall", "otto")
    assert label["segment"]["stream"] == "studio"
    assert studio.served.ask("PATCH", "/api/v1/streams/studio", studio.served.operator, {"operating_point": "default"})


# When something is wrong.


@pytest.mark.parametrize("fault", ["cut", "silence"])
def test_without_the_server_nothing_is_shown_as_if_it_were_of_now(browser, studio, fault):
    """Connections are reset, or stay and say nothing; then all is as before, and what was missed is there."""
    with (
        Proxy(studio.served.server.address.port) as proxy,
        visitor(browser, f"http://127.0.0.1:{proxy.port}") as visiting,
    ):
        visiting.sign_in(studio.served.viewer)
        page = visiting.page
        expect(visiting.tile("studio")).to_have_attribute("data-picture", "")
        expect(page.locator("#link")).to_have_text("Live")
        getattr(proxy, fault)()
        expect(page.get_by_role("alert").filter(has_text="The server is not reached since")).to_be_visible()
        for name in ("studio", "gate"):
            expect(visiting.tile(name)).to_have_attribute("data-state", "unknown")
            expect(visiting.tile(name)).to_have_attribute("aria-label", f"{name}, unknown")
            expect(visiting.tile(name)).not_to_have_attribute("data-picture", "")
            assert visiting.tile(name).locator(".figures").inner_text().strip() == ""
        assert "No connection" in page.title()
        passages = page.locator("#passages li").count()
        for point in ({"threshold": 0.9}, {"operating_point": "default"}):
            assert studio.served.ask("PATCH", "/api/v1/streams/studio", studio.served.operator, point).status == 200
        proxy.open()
        expect(page.locator("#link")).to_have_text("Live")
        expect(page.locator("#notice")).to_be_empty()
        expect(visiting.tile("studio")).to_have_attribute("data-picture", "")
        expect(visiting.tile("studio")).to_have_attribute("data-state", "flagged")
        visiting.until("(before) => document.querySelectorAll('#passages li').length > before", passages)


def test_a_server_that_ends_and_begins_again_asks_who_is_there(browser, tmp_path):
    """Nothing answers at its address, then another run of it that knows no session."""
    tokens = TokenFile(tmp_path / "tokens.json")
    token = tokens.add("anna", Role.VIEWER)
    settings, address = ApiSettings(tokens=str(tmp_path / "tokens.json")), Address("127.0.0.1", free_port())

    def server():
        return Server(Metrics(CollectorRegistry()), WELL, address, settings, Api(settings, lambda: None))

    first = server()
    first.start()
    with visitor(browser, first.url) as visiting:
        visiting.sign_in(token)
        expect(visiting.page.locator("#link")).to_have_text("Live")
        first.stop()
        with server():
            expect(visiting.page.get_by_text("this session is over")).to_be_visible()


def test_a_stream_that_is_gone_takes_its_tile_along(browser, studio):
    studio.guard.add(Looped("guest", [pattern(number, 320, 180) for number in range(4)]))
    with visitor(browser, studio.url) as visiting:
        visiting.sign_in(studio.served.viewer)
        visiting.tile("guest").click()
        studio.guard.remove("guest")
        expect(visiting.tile("guest")).to_have_count(0)
        expect(visiting.page.get_by_text("This stream is not watched any more.")).to_be_visible()
