"""The page's pure modules, each by itself, in the browser that runs them."""

import pytest

from tests.servers.browser import chromium
from tests.serving import serving
from tests.visiting import visitor

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Evaluate an expression with a module of the page as ``m``."""
    with (
        serving(tmp_path_factory.mktemp("parts")) as served,
        chromium() as browser,
        visitor(browser, served.server.url) as visiting,
    ):
        visiting.page.goto(served.server.url)
        yield lambda name, script: visiting.page.evaluate(
            f"async () => {{ const m = await import('/page/{name}.js'); return ({script})(); }}"
        )


def test_freshness_needs_an_answer_and_loses_it_in_seconds(run):
    told = run(
        "freshness",
        """() => {
        const f = new m.Freshness(), told = [f.judge(0)];
        f.heard(1000);
        for (const now of [1000, 3999, 4000, 6999, 7000, 1e9]) told.push(f.judge(now));
        f.forget();
        return [...told, f.judge(1e9), f.age(1e9)];
    }""",
    )
    assert told == ["waiting", "live", "live", "late", "late", "gone", "gone", "waiting", None]


@pytest.mark.parametrize(
    ("count", "width", "height", "columns", "fits"),
    [(1, 1240, 800, 1, True), (9, 1240, 800, 3, True), (64, 1580, 1030, 8, True), (64, 640, 400, 4, False)],
)
def test_tiles_are_as_large_as_they_can_be(run, count, width, height, columns, fits):
    found = run("layout", f"() => m.arrange({count}, {width}, {height}, 8)")
    assert found["columns"] == columns
    assert found["columns"] * found["tile"] + 8 * (columns - 1) <= width
    assert found["tile"] >= 150
    rows = -(-count // columns)
    assert (rows * found["tile"] * 9 / 16 <= height) == fits


def test_parts_come_whole_however_they_are_cut(run):
    told = run(
        "parts",
        r"""() => {
        const first = "--b\r\nContent-Length: 3\r\nX-Stream: a\r\n\r\nabc\r\n";
        const text = first + "--b\r\nX-Stream: b\r\nContent-Length: 0\r\n\r\n\r\n";
        const bytes = new TextEncoder().encode(text), told = [];
        for (const cut of [1, 7, bytes.length]) {
            const found = [], read = (bytes) => new TextDecoder().decode(bytes);
            const parts = new m.Parts((headers, body) => found.push([headers.get("x-stream"), read(body)]));
            for (let at = 0; at < bytes.length; at += cut) parts.push(bytes.subarray(at, at + cut));
            told.push(found);
        }
        return told;
    }""",
    )
    assert told == [[["a", "abc"], ["b", ""]]] * 3


@pytest.mark.parametrize(
    "text", ["x" * 5000, r"A: b\r\n\r\n", r"Content-Length: -1\r\n\r\n", r"Content-Length: 99999999\r\n\r\n"]
)
def test_what_is_no_part_is_an_error(run, text):
    script = f"""() => {{
        try {{
            new m.Parts(() => {{}}).push(new TextEncoder().encode("{text}"));
            return null;
        }} catch (error) {{
            return error.message;
        }}
    }}"""
    assert run("parts", script).startswith("a part without")


def test_numbers_in_words(run):
    assert run("words", "() => [0.04, 9.9, 12.4, 65, 7260].map(m.span)") == [
        "0.0 s",
        "9.9 s",
        "12 s",
        "1 min 05 s",
        "2 h 01 min",
    ]
    assert run("words", "() => [0.083, 1.26].map(m.latency)") == ["83 ms", "1.3 s"]
    assert run("words", "() => [0, 1, 2].map((n) => m.count(n, 'face'))") == ["0 faces", "1 face", "2 faces"]
    assert run("words", "() => [900, 12345678].map(m.size)") == ["1 kB", "12.3 MB"]


def test_an_older_look_does_not_undo_what_the_feed_said(run):
    """Labels stay with a segment whose event knows of none; the oldest go first."""
    told = run(
        "store",
        """() => {
        const s = new m.Store(), at = (n) => new Date(1e12 + n).toISOString();
        const seg = (n, more) => ({segment_id: `s${n}`, stream: "a", started_at: at(n), ...more});
        s.segmentsCame([seg(1, {label: {label: "authentic"}, open: true})]);
        s.eventCame({type: "streamguard.segment.closed.v1", data: seg(1)});
        const first = s.segments.get("s1");
        s.segmentsCame(Array.from({length: 1005}, (_, n) => seg(n + 2, {open: false})));
        return [first.open, first.label.label, s.segments.size, s.newest()[0].segment_id, s.segments.has("s1")];
    }""",
    )
    assert told == [False, "authentic", 1000, "s1006", False]
