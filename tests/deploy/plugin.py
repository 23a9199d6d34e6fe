"""The call plug-in in a page of its own, for its tests."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import trustme
from playwright.sync_api import BrowserContext, Page, Worker, sync_playwright

from streamguard.delivery.events import Event
from streamguard.ingest.demo import FPS, truth
from streamguard.ingest.source import open_source
from streamguard.pixels import rgb_of
from streamguard.server.auth import Role, TokenFile
from tests.media import stamp
from tests.servers import browser as browsers
from tests.servers.site import Canned, Site

PLUGIN = Path(__file__).parents[2] / "deploy" / "call-plugin"

# What a call would have: a track of its own, here of a drawing; and everything that was heard, in order.
LISTENING = """
import { attach, describe } from '/streamguard.js';
const canvas = Object.assign(document.createElement('canvas'), { width: 320, height: 240 });
let tick = 0;
setInterval(() => {
  const context = canvas.getContext('2d');
  context.fillStyle = `hsl(${tick++ % 360} 80% 50%)`;
  context.fillRect(0, 0, canvas.width, canvas.height);
}, 40);
Object.assign(window, { describe, heard: [], track: canvas.captureStream(25).getVideoTracks()[0] });
window.begin = (options, track = window.track) => {
  const guard = attach(track, options);
  for (const kind of ['state', 'segment', 'connection']) guard.on(kind, (report) => heard.push([kind, report]));
  window.guard = guard;
};
"""
SCRIPT = f"<!doctype html><title>call</title><script type=module>{LISTENING}</script>"


def call(context: BrowserContext, url: str) -> Page:
    """The page at ``url``, once its script has run."""
    page = context.new_page()
    page.goto(url)
    page.wait_for_function("() => window.begin")
    return page


def begin(page: Page, **options: Any) -> None:
    """Attach to the page's own track."""
    page.evaluate("(options) => begin(options)", options)


def hears(page: Page, kind: str, **wanted: Any) -> dict[str, Any]:
    """Wait for a report of ``kind`` with those values; the first one."""
    found = """([kind, wanted]) => heard.find(([of, report]) =>
        of === kind && Object.entries(wanted).every(([name, value]) => report[name] === value))?.[1]"""
    report: dict[str, Any] = page.wait_for_function(found, arg=[kind, wanted]).json_value()
    return report


def states(page: Page) -> list[tuple[str, str | None]]:
    """All states that were told, in order."""
    told = page.evaluate(
        "() => heard.filter(([kind]) => kind === 'state').map(([, { state, reason }]) => [state, reason])"
    )
    return [(state, reason) for state, reason in told]


@contextmanager
def secure_site() -> Iterator[str]:
    """The plug-in and a page of a call by https, under a name of its own; where it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("calls.test").configure_cert(context)
    with Site(PLUGIN, {"/call": Canned(SCRIPT)}, tls=context) as opened:
        yield opened.url.replace("127.0.0.1", "calls.test")


@contextmanager
def typed(folder: Path) -> Iterator[Path]:
    """A copy of the plug-in in which every module lies beside the types."""
    copy = folder / "call-plugin"
    shutil.copytree(PLUGIN, copy)
    shutil.copy(PLUGIN / "streamguard.d.ts", copy / "extension")
    yield copy


def tsc(*arguments: str | Path) -> str:
    """What TypeScript's compiler has to say; nothing if all is well."""
    strict = "--noEmit --strict --noUnusedLocals --noUnusedParameters --allowJs --checkJs --pretty false"
    of = "--target es2022 --module es2022 --moduleResolution node --lib es2022,dom,dom.iterable"
    command = ["tsc", *strict.split(), *of.split(), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@contextmanager
def extended(folder: Path, *flags: str) -> Iterator[BrowserContext]:
    """A browser with the extension, in ``folder``.

    The extension may reach every host: nobody is there to answer the browser when it asks.
    """
    browsers.require()
    copy = folder / "extension"
    shutil.copytree(PLUGIN / "extension", copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["host_permissions"] = manifest["optional_host_permissions"]
    (copy / "manifest.json").write_text(json.dumps(manifest))
    loaded = (f"--disable-extensions-except={copy}", f"--load-extension={copy}")
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            folder / "profile",
            executable_path=browsers.CHROMIUM,
            args=[*browsers.FLAGS, *loaded, *flags],
            ignore_default_args=["--disable-extensions"],
        )
        context.set_default_timeout(200_000)
        try:
            yield context
        finally:
            context.close()


def worker(context: BrowserContext) -> Worker:
    """The extension's service worker."""
    return context.service_workers[0] if context.service_workers else context.wait_for_event("serviceworker")


def badges(page: Page) -> list[tuple[str, str]]:
    """State and text of every badge that the extension shows: in a closed shadow tree, so the browser is asked."""
    session = page.context.new_cdp_session(page)
    session.send("DOM.enable")
    nodes = session.send("DOM.getFlattenedDocument", {"depth": -1, "pierce": True})["nodes"]
    session.detach()
    texts = {
        node["parentId"]: node["nodeValue"] for node in nodes if node["nodeName"] == "#text" and "parentId" in node
    }
    found = []
    for node in nodes:
        attributes = node.get("attributes", [])
        named = dict(zip(attributes[::2], attributes[1::2], strict=True))
        if named.get("role") == "status" and "data-state" in named:
            found.append((named["data-state"], texts.get(node["nodeId"], "")))
    return found


@dataclass(frozen=True)
class Camera:
    """A camera's file: a face that is real, then forged; each picture is stamped with its number.

    ``forged``: the number of the first forged picture; ``pictures``: how many there are before it begins anew.
    """

    path: Path
    seed: int
    forged: int
    pictures: int


def make_camera(path: Path, seed: int) -> Camera:
    """The demo's stream until the end of its first forged passage, as Motion JPEG; Chromium shows 30 a second."""
    passage = next(passage for passage in truth(seed, 60.0) if passage["forged"])
    pictures = round(passage["end"] * FPS)
    source = open_source(f"demo:?seed={seed}&duration={pictures / FPS:g}&pace=0")
    with source.open(1) as made, path.open("wb") as out:
        for number, frame in enumerate(made):
            shown = cv2.cvtColor(stamp(rgb_of(frame.picture), number), cv2.COLOR_RGB2BGR)
            out.write(cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
    return Camera(path, seed, round(passage["start"] * FPS), pictures)


@dataclass(frozen=True)
class Guarding:
    """A running ``streamguard serve`` with the token of a sender."""

    process: subprocess.Popen[str]
    url: str
    token: str
    folder: Path

    def events(self) -> list[Event]:
        """Those that it wrote so far, in order."""
        written = (self.folder / "events.jsonl").read_text().splitlines(keepends=True)
        return [json.loads(line) for line in written if line.endswith("\n")]


@contextmanager
def guarding(folder: Path, *origins: str, port: int = 0, **webrtc: Any) -> Iterator[Guarding]:
    """The server as a user starts it, with its files in ``folder``; pages of ``origins`` may use it."""
    token = TokenFile(folder / "tokens.json").add("anna", Role.SENDER)
    config = {
        "events": "events.jsonl",
        "listen": f"127.0.0.1:{port}",
        "api": {"tokens": "tokens.json", "cors_origins": origins},
        "webrtc": {"addresses": ["127.0.0.1"]} | webrtc,
    }
    (folder / "streamguard.yaml").write_text(json.dumps(config))
    command = [
        sys.executable,
        "-c",
        "from streamguard.cli import main; main()",
        "serve",
        "--config",
        "streamguard.yaml",
    ]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()  # "Metrics and health: http://.../metrics ..."
            yield Guarding(process, said.split()[3].removesuffix("/metrics"), token, folder)
        finally:
            process.send_signal(signal.SIGCONT)  # a test may have frozen it
            process.terminate()
            process.wait(60)
