"""The operator page in a real browser: a room to visit, and a visitor who notices whatever it should not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Request

from streamguard.config import ClassifierChoice, Config
from streamguard.delivery.evidence import EvidenceSettings
from streamguard.ingest.connection import Source
from streamguard.pipeline import Guard
from tests.serving import Served, serving

LIMIT = 60_000  # milliseconds; a slow machine is no failure
_AXE = Axe()
_WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`));
"""


class Room:
    """A real Guard with streams, and its server."""

    def __init__(self, guard: Guard, served: Served, folder: Path) -> None:
        self.guard = guard
        self.served = served
        self.folder = folder

    @property
    def url(self) -> str:
        return self.served.server.url


@contextmanager
def room(
    folder: Path,
    sources: Sequence[Source],
    *,
    engine: str = Config().classifier.engine,
    longest: float = 4.0,
    **settings: Any,
) -> Iterator[Room]:
    """Streams being watched behind a server with tokens, labels and evidence, all below ``folder``.

    ``longest``: seconds of a passage that its clip may have.
    """
    take: list[Callable[[Any], None]] = []
    evidence = EvidenceSettings(folder=str(folder / "evidence"), pre=1.0, post=1.0, longest=longest, reserve_bytes=0)
    config = Config(node="studio", classifier=ClassifierChoice(engine=engine), evidence=evidence)
    guard = Guard(config, on_event=lambda event: [each(event) for each in take])
    labels = str(folder / "labels.jsonl")
    with guard, serving(folder, guard=lambda: guard, evidence=folder / "evidence", labels=labels, **settings) as served:
        take.append(served.api.take)
        for source in sources:
            guard.add(source)
        yield Room(guard, served, folder)


@dataclass
class Visitor:
    """A page in a browser of its own profile. Whatever it asks for, refuses or complains of is kept."""

    page: Page
    url: str
    requests: list[Request] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def sign_in(self, token: str) -> None:
        """To the room, by the form."""
        self.page.goto(self.url)
        self.page.get_by_label("Token", exact=True).fill(token)
        self.page.keyboard.press("Enter")
        self.page.locator("#room").wait_for()

    def tile(self, stream: str) -> Any:
        return self.page.locator(f'.tile[data-stream="{stream}"]')

    def until(self, script: str, argument: Any = None) -> Any:
        """Wait for a condition in the page."""
        return self.page.wait_for_function(script, arg=argument, timeout=LIMIT)

    def serious(self, within: str | None = None) -> list[str]:
        """What axe finds serious or worse, each with its elements."""
        found = _AXE.run(self.page, context=within)
        return [
            f"{rule['id']}: {[node['target'] for node in rule['nodes']]}"
            for rule in found.response["violations"]
            if rule["impact"] in ("serious", "critical")
        ]

    def check(self) -> None:
        """Nothing asked of another host, nothing that the policy had to refuse, no error in a script."""
        host = urlsplit(self.url).netloc
        foreign = [
            r.url for r in self.requests if not r.url.startswith(("blob:", "data:")) and urlsplit(r.url).netloc != host
        ]
        assert foreign == []
        assert [url for url in (r.url for r in self.requests) if "sg_" in url] == [], "no token in an address"
        assert self.page.evaluate("window.violations") == []
        assert self.errors == []


@contextmanager
def visitor(browser: Browser, url: str, **context: Any) -> Iterator[Visitor]:
    """Somebody at the page; at the end, whether it kept to its rules."""
    profile = browser.new_context(**({"viewport": {"width": 1600, "height": 900}} | context))
    profile.add_init_script(_WATCH)
    page = profile.new_page()
    page.set_default_timeout(LIMIT)
    visiting = Visitor(page, url)
    page.on("request", lambda request: visiting.requests.append(request))
    page.on("pageerror", lambda error: visiting.errors.append(str(error)))
    page.on("console", lambda said: "Content Security Policy" in said.text and visiting.errors.append(said.text))
    try:
        yield visiting
        visiting.check()
    finally:
        profile.close()
