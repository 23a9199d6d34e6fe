"""A running Guard behind a real server, for tests whose other side is a WebRTC peer."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from streamguard.access import LimitSettings, WebRtcSettings
from streamguard.config import Config
from streamguard.delivery.events import Event
from streamguard.pipeline import Guard
from tests.media import patterns
from tests.peers import h264
from tests.serving import Served, serving

HERE = ("127.0.0.1",)
QUICK = WebRtcSettings(addresses=HERE, connecting=60.0, silence=60.0)
WIDE = LimitSettings(rate=1e6, burst=10**6, failures=10**6)
_NAMES = count()


class House:
    """The Guard of all these tests; its events go to the server that is up."""

    def __init__(self) -> None:
        self.taker: Any = None
        self.guard = Guard(Config(), on_event=self._take)

    def _take(self, event: Event) -> None:
        if self.taker is not None:
            self.taker(event)

    def frames(self, stream: str) -> float:
        """Decoded so far."""
        return self.sample("frames_decoded_total", stream=stream)

    def sample(self, series: str, **labels: str) -> float:
        """One of the Guard's own metrics."""
        return self.guard.metrics.registry.get_sample_value(f"streamguard_{series}", labels) or 0.0

    def watched(self) -> list[str]:
        """The names of the streams."""
        return [stream.source.name for stream in self.guard.streams()]


class Call:
    """A server with these settings, while the block lasts."""

    def __init__(self, house: House, folder: Path) -> None:
        self._house = house
        self._folder = folder

    def __call__(self, settings: WebRtcSettings = QUICK, **more: Any) -> Call:
        self._serving = serving(
            self._folder, guard=lambda: self._house.guard, webrtc=settings, **({"limits": WIDE} | more)
        )
        return self

    def __enter__(self) -> Served:
        served = self._serving.__enter__()
        self._house.taker = served.api.take
        return served

    def __exit__(self, *exception: Any) -> None:
        self._house.taker = None
        self._serving.__exit__(*exception)


@pytest.fixture(scope="session")
def house() -> Iterator[House]:
    """One Guard with its engines for all."""
    made = House()
    with made.guard:
        yield made


@pytest.fixture
def call(house: House, tmp_path: Path) -> Call:
    """Start a server."""
    return Call(house, tmp_path)


@pytest.fixture
def stream() -> str:
    """A name that no other test has used."""
    return f"cam-{next(_NAMES)}"


@pytest.fixture(scope="session")
def units() -> list[bytes]:
    """A second of a camera without a face, 320x240."""
    return h264(patterns(30, 320, 240))
