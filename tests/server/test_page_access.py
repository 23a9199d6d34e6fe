"""The page for everybody: axe, the keyboard, dark and light, little motion, a narrow window."""

import pytest
from playwright.sync_api import expect

from tests.looped import Looped
from tests.media import pattern
from tests.servers.browser import chromium
from tests.serving import flagged
from tests.visiting import LIMIT, room, visitor

pytestmark = pytest.mark.servers
expect.set_options(timeout=LIMIT)


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(scope="module")
def hall(tmp_path_factory):
    """Two streams without a face, and a few passages of an earlier hour."""
    sources = [Looped(name, [pattern(number, 320, 180) for number in range(4)]) for name in ("north", "south")]
    with room(tmp_path_factory.mktemp("hall"), sources) as running:
        for number in range(3):
            running.served.api.take(flagged(number, stream="north", ended=None if number == 2 else 6.0))
        yield running


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_axe_finds_nothing_serious(browser, hall, theme):
    with visitor(browser, hall.url, color_scheme=theme) as visiting:
        page = visiting.page
        page.goto(hall.url)
        page.get_by_role("heading", name="Sign in").wait_for()
        assert visiting.serious() == []
        visiting.sign_in(hall.served.operator)
        expect(visiting.tile("south")).to_have_attribute("data-picture", "")
        expect(page.locator("#passages li")).to_have_count(3)
        assert visiting.serious() == []
        visiting.tile("north").click()
        expect(page.locator("#stream-dialog")).to_be_visible()
        assert visiting.serious("#stream-dialog") == []
        page.keyboard.press("Escape")
        page.locator("#passages button").first.click()
        expect(page.locator("#segment-dialog")).to_be_visible()
        assert visiting.serious("#segment-dialog") == []
        page.keyboard.press("Escape")
        page.keyboard.press("?")
        expect(page.locator("#help")).to_be_visible()
        assert visiting.serious("#help") == []
        page.keyboard.press("Escape")
        if theme == "dark":
            page.context.set_offline(True)
            expect(page.locator("#notice")).not_to_be_empty()
            assert visiting.serious() == []
            page.context.set_offline(False)


def focused(page):
    """What has the focus, in short, and whether that can be seen."""
    return page.evaluate("""() => {
        const node = document.activeElement, style = getComputedStyle(node);
        const name = node.dataset.show ?? node.dataset.stream ?? (node.id || node.className || node.tagName);
        return [name, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
    }""")


def test_everything_is_reached_by_tab_and_the_focus_is_seen(browser, hall):
    with visitor(browser, hall.url) as visiting:
        visiting.sign_in(hall.served.operator)
        page = visiting.page
        expect(page.locator("#passages li")).to_have_count(3)
        visiting.tile("south").wait_for()
        page.evaluate("document.activeElement.blur()")
        reached = []
        for _ in range(40):
            page.keyboard.press("Tab")
            name, seen = focused(page)
            if name == "BODY" or (reached and name == reached[0]):
                break
            assert seen, f"the focus on {name} is not seen"
            reached.append(name)
        head = ["skip", "all", "flagged", "inconclusive", "clear", "filter", "theme", "help-open", "sign-out"]
        assert reached[: len(head)] == head
        assert "north" in reached
        assert "south" not in reached, "one tile is in the order of tabs; the arrows lead to the others"
        assert {"span", "passage"} <= set(reached)


def test_arrows_lead_from_tile_to_tile_and_keys_to_everything(browser, hall):
    with visitor(browser, hall.url) as visiting:
        visiting.sign_in(hall.served.operator)
        page = visiting.page
        expect(page.locator("#passages li")).to_have_count(3)
        visiting.tile("south").wait_for()
        page.keyboard.press("w")
        expect(visiting.tile("north")).to_be_focused()
        for key, name in (("ArrowRight", "south"), ("ArrowRight", "south"), ("Home", "north"), ("End", "south")):
            page.keyboard.press(key)
            expect(visiting.tile(name)).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("#stream-dialog")).to_be_visible()
        page.keyboard.press("p")
        expect(page.locator("#stream-dialog")).to_be_visible()
        page.keyboard.press("Escape")
        expect(visiting.tile("south")).to_be_focused()
        page.keyboard.press("f")
        expect(page.locator('[data-show="flagged"]')).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("f")
        page.keyboard.press("p")
        first = page.locator("#passages button").first
        expect(first).to_be_focused()
        page.keyboard.press("j")
        expect(page.locator("#passages button").nth(1)).to_be_focused()
        page.keyboard.press("Enter")
        title = page.locator("#segment-title")
        before = title.inner_text()
        page.keyboard.press("j")
        expect(title).not_to_have_text(before)
        page.keyboard.press("k")
        expect(title).to_have_text(before)
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        expect(page.locator("#filter")).to_be_focused()
        page.keyboard.type("ft?")
        expect(page.locator("#filter")).to_have_value("ft?")
        assert page.locator("#help").is_hidden(), "letters that are typed do nothing else"


def ground(page):
    return page.evaluate("getComputedStyle(document.body).backgroundColor")


def test_dark_and_light_by_the_system_and_by_hand(browser, hall):
    with visitor(browser, hall.url, color_scheme="light") as visiting:
        visiting.sign_in(hall.served.viewer)
        page = visiting.page
        light = ground(page)
        page.emulate_media(color_scheme="dark")
        dark = ground(page)
        assert dark != light
        page.keyboard.press("t")
        page.keyboard.press("t")
        expect(page.get_by_role("button", name="Theme: light")).to_be_visible()
        assert ground(page) == light
        page.reload()
        page.locator("#room").wait_for()
        assert ground(page) == light, "remembered"
        page.keyboard.press("t")
        assert ground(page) == dark


def test_without_motion_nothing_moves(browser, hall):
    with visitor(browser, hall.url, reduced_motion="reduce") as visiting:
        visiting.sign_in(hall.served.viewer)
        expect(visiting.page.locator(".mark.now")).to_be_visible()
        assert visiting.page.evaluate("document.getAnimations().length") == 0


def test_a_narrow_window_holds_it_all(browser, hall):
    with visitor(browser, hall.url, viewport={"width": 380, "height": 740}) as visiting:
        visiting.sign_in(hall.served.viewer)
        visiting.tile("south").wait_for()
        assert visiting.page.evaluate("document.documentElement.scrollWidth") <= 380
        visiting.tile("north").click()
        expect(visiting.page.locator("#stream-dialog")).to_be_visible()
        assert visiting.page.evaluate("document.querySelector('#stream-dialog').scrollWidth") <= 380
