"""The pictures of docs/page.md: the operator page on a real Guard, with made streams alone.

    python -m tests.screens docs/images

Needs Debian's chromium. The demo's photograph is NASA's portrait of Eileen Collins, in the public domain. Takes about
two minutes, since the demo's forgery comes when it comes.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import cv2

from streamguard.frames import U8
from streamguard.ingest.source import open_source
from streamguard.pixels import rgb_of
from tests.looped import Looped
from tests.media import pattern
from tests.servers.browser import chromium
from tests.visiting import Room, Visitor, room, visitor

NAMES = (
    "studio-a",
    "studio-b",
    "newsroom",
    "podium",
    "guest-line-1",
    "guest-line-2",
    "relay-north",
    "relay-south",
    "spare",
)
SIZE = {"width": 1440, "height": 810}
FPS = 12.5


def faces(seed: int, width: int, height: int, count: int = 40) -> Sequence[U8]:
    """Pictures of the demo's untouched beginning, there and back again, (height, width, 3) uint8 RGB."""
    with open_source(f"demo:?seed={seed}&duration=9&pace=0").open(1) as connection:
        shown = islice(connection, 0, 2 * count, 2)
        there = [cv2.resize(rgb_of(frame.picture), (width, height)) for frame in shown]
    return [*there, *reversed(there)]


def nine() -> list[Looped]:
    """Eight streams beside the demo: faces, no face, one too small."""
    sources = [Looped(name, faces(seed, 640, 360), fps=FPS) for seed, name in enumerate(NAMES[1:6], start=20)]
    sources.append(Looped(NAMES[6], [pattern(number, 640, 360) for number in range(8)]))
    sources.append(Looped(NAMES[7], faces(31, 192, 108), fps=FPS))
    sources.append(Looped(NAMES[8], [pattern(number, 640, 360) for number in range(40, 48)]))
    return sources


def take(visiting: Visitor, path: Path, quality: int = 82) -> None:
    """The window as a JPEG."""
    visiting.page.mouse.move(0, 0)
    visiting.page.screenshot(path=path, type="jpeg", quality=quality)


def story(running: Room, out: Path) -> None:
    """The room while a passage is flagged, then its stream, then its evidence."""
    with chromium() as browser, visitor(browser, running.url, viewport=SIZE, color_scheme="dark") as dark:
        dark.page.goto(running.url)
        dark.page.get_by_role("heading", name="Sign in").wait_for()
        dark.sign_in(running.served.operator)
        dark.page.locator('.tile[data-stream="studio-a"][data-state="flagged"][data-picture]').wait_for(timeout=180_000)
        dark.page.wait_for_timeout(2500)
        take(dark, out / "page-dark.jpg")
        dark.tile("studio-a").click()
        dark.page.get_by_role("img", name="Live picture of studio-a").wait_for()
        dark.page.wait_for_timeout(1500)
        take(dark, out / "page-stream.jpg")
        dark.page.keyboard.press("Escape")
        dark.page.locator("#passages .passage:not(:has(.now)) img:not([hidden])").first.wait_for(timeout=180_000)
        dark.page.locator("#passages .passage").first.click()
        dark.until("() => document.querySelector('#segment-dialog video').readyState >= 2")
        dark.page.locator("#segment-dialog video").evaluate("(video) => { video.currentTime = 6; }")
        dark.page.wait_for_timeout(1500)
        take(dark, out / "page-evidence.jpg")
        with visitor(browser, running.url, viewport=SIZE, color_scheme="light") as light:
            light.sign_in(running.served.operator)
            light.page.locator("#passages img:not([hidden])").first.wait_for()
            light.page.locator(".tile:not([data-picture])").first.wait_for(state="detached")
            light.page.wait_for_timeout(1500)
            take(light, out / "page-light.jpg")


def wall(running: Room, out: Path) -> None:
    """64 streams on one screen."""
    big = {"width": 1920, "height": 1080}
    with chromium() as browser, visitor(browser, running.url, viewport=big, color_scheme="dark") as visiting:
        visiting.sign_in(running.served.viewer)
        visiting.page.locator(".tile[data-picture]").nth(63).wait_for()
        visiting.page.wait_for_timeout(5000)
        take(visiting, out / "page-64.jpg", quality=60)


def main(folder: str) -> None:
    """Write all of them into ``folder``."""
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        demo = open_source("demo:?seed=6&duration=3600", name=NAMES[0])
        with room(Path(work), [demo, *nine()], longest=20.0) as running:
            story(running, out)
    shown = [faces(seed, 320, 180, 6) for seed in range(40, 46)] + [[pattern(number, 320, 180) for number in range(6)]]
    cameras = [Looped(f"camera-{number:02}", shown[number % 7], fps=1.0) for number in range(1, 65)]
    with tempfile.TemporaryDirectory() as work, room(Path(work), cameras) as running:
        wall(running, out)


if __name__ == "__main__":
    main(sys.argv[1])
