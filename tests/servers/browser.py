"""Debian's Chromium, headless, driven by Playwright: for tests whose other side is a browser.

>>> with chromium(camera=write_camera(tmp_path / "camera.y4m", frames)) as browser:   # doctest: +SKIP
...     page = browser.new_page()
...     page.goto("http://127.0.0.1:8080/")

No browser is ever downloaded. The camera is a file, the microphone makes beeps, and nobody is asked for either. Servers
are given ``webrtc: {addresses: [127.0.0.1]}``: a machine for tests may have no address but the loopback.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import pytest
from playwright.sync_api import Browser, sync_playwright

from streamguard.frames import U8

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",  # CI runs as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required",
    "--allow-loopback-in-peer-connection",
    # A page that is not in front is slowed down, and so would be its timers.
    "--disable-background-timer-throttling",
    "--disable-backgrounding-occluded-windows",
    "--disable-renderer-backgrounding",
)


@cache
def missing() -> str | None:
    """Why no browser can be started here; None when one can."""
    return None if os.access(CHROMIUM, os.X_OK) else f"no {CHROMIUM}; needs Debian's chromium"


def require() -> None:
    """Skip the test where there is no browser, but fail in CI, where one is promised."""
    reason = missing()
    if reason is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)


@contextmanager
def chromium(*flags: str, camera: Path | None = None) -> Iterator[Browser]:
    """A browser of its own, with ``flags`` beside the usual ones, while the block lasts.

    ``camera``: what getUserMedia shows, over and over; a file of :func:`write_camera`, or ``.mjpeg``.
    """
    require()
    shown = () if camera is None else (f"--use-file-for-fake-video-capture={camera.resolve()}",)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *shown, *flags])
        try:
            yield browser
        finally:
            browser.close()


def write_camera(path: Path, frames: Iterable[U8], *, fps: int = 30) -> Path:
    """(H, W, 3) uint8 RGB frames of one even size as a camera's file (YUV4MPEG2, 4:2:0)."""
    with path.open("wb") as out:
        for index, rgb in enumerate(frames):
            if index == 0:
                height, width = rgb.shape[:2]
                out.write(f"YUV4MPEG2 W{width} H{height} F{fps}:1 Ip A1:1 C420jpeg\n".encode())
            out.write(b"FRAME\n" + cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path
