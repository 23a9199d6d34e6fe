"""1, 9 and 64 streams: all are there, and no picture is asked for that nobody can see."""

from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import expect

from tests.looped import Looped
from tests.media import pattern
from tests.servers.browser import chromium
from tests.visiting import LIMIT, room, visitor

pytestmark = pytest.mark.servers
expect.set_options(timeout=LIMIT)
NAMES = [f"camera-{number:02}" for number in range(1, 65)]


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def wall(tmp_path_factory):
    """64 streams, a picture a second each."""
    pictures = [pattern(number, 160, 90) for number in range(4)]
    with room(tmp_path_factory.mktemp("wall"), [Looped(name, pictures, fps=1.0) for name in NAMES]) as running:
        yield running


def asked(visiting):
    """Streams of the newest question for pictures."""
    urls = [urlsplit(request.url) for request in visiting.requests]
    walls = [url for url in urls if url.path == "/preview"]
    return parse_qs(walls[-1].query)["stream"] if walls else []


def visible(visiting):
    return visiting.page.evaluate("""() => {
        const wall = document.querySelector("#wall").getBoundingClientRect();
        return [...document.querySelectorAll(".tile")].filter((tile) => {
            const box = tile.getBoundingClientRect();
            return box.height > 0 && box.bottom > wall.top && box.top < Math.min(wall.bottom, innerHeight);
        }).map((tile) => tile.dataset.stream);
    }""")


def test_all_64_are_on_one_screen_with_their_pictures(browser, wall):
    with visitor(browser, wall.url, viewport={"width": 1920, "height": 1080}) as visiting:
        visiting.sign_in(wall.served.viewer)
        page = visiting.page
        expect(page.locator(".tile[data-picture]")).to_have_count(64)
        assert [tile.get_attribute("data-stream") for tile in page.locator(".tile").all()] == NAMES, "each in its place"
        assert (
            page.evaluate(
                "(() => { const w = document.querySelector('#wall'); return w.scrollHeight - w.clientHeight })()"
            )
            <= 0
        )
        assert page.locator('[data-show="all"] b').inner_text() == "64"
        assert sorted(asked(visiting)) == NAMES
        assert visiting.serious() == []


def test_only_what_is_seen_is_asked_for(browser, wall):
    with visitor(browser, wall.url, viewport={"width": 1000, "height": 500}) as visiting:
        visiting.sign_in(wall.served.viewer)
        page = visiting.page
        expect(page.locator(".tile")).to_have_count(64)
        expect(page.locator(".tile[data-picture]").first).to_be_visible()
        assert 0 < len(visible(visiting)) < 40
        until_asked(visiting)
        page.locator("#wall").evaluate("(wall) => wall.scrollTo(0, wall.scrollHeight)")
        expect(visiting.tile(NAMES[-1])).to_have_attribute("data-picture", "")
        until_asked(visiting)
        assert NAMES[0] not in asked(visiting)
        page.get_by_label("Find a stream by its name").fill("camera-07")
        expect(visiting.tile("camera-07")).to_have_attribute("data-picture", "")
        until_asked(visiting)
        assert asked(visiting) == ["camera-07"]


def until_asked(visiting):
    """Until the newest question is for what can be seen."""
    for _ in range(LIMIT // 250):
        if sorted(asked(visiting)) == sorted(visible(visiting)):
            return
        visiting.page.wait_for_timeout(250)
    raise AssertionError(f"asked for {asked(visiting)}, seen are {visible(visiting)}")


@pytest.mark.parametrize("count", [1, 9])
def test_few_streams_are_large(browser, tmp_path, count):
    pictures = [pattern(number, 320, 180) for number in range(4)]
    sources = [Looped(name, pictures) for name in NAMES[:count]]
    with room(tmp_path, sources) as running, visitor(browser, running.url) as visiting:
        visiting.sign_in(running.served.viewer)
        expect(visiting.page.locator(".tile[data-picture]")).to_have_count(count)
        box = visiting.tile(NAMES[0]).bounding_box()
        assert box["width"] > (1100 if count == 1 else 380)
        assert visible(visiting) == NAMES[:count]
