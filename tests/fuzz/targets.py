"""What is fuzzed: a function of bytes each, which returns, or fails on what must never be.

Refusing is right: the errors that a caller is promised are caught here, and nothing else is.
"""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

from jsonschema import Draft202012Validator

from streamguard.config import load_config
from streamguard.delivery.events import EventContext, EventFactory, Sighting, Timeline, TrackRef, event_schema
from streamguard.errors import ConfigError, SourceRefused, redact
from streamguard.frames import Box, Quality, Segment, State
from streamguard.ingest.allowed import AllowedSources, SourceRules
from streamguard.ingest.egress import Diverted, RtspFilter
from streamguard.server.api import ChangeBody, LabelBody, StreamBody, fitted
from streamguard.server.doors import parsed
from streamguard.server.feed import EventFeed
from streamguard.server.problems import Problem
from streamguard.server.segments import SegmentStore


def config(data: bytes) -> None:
    """A configuration file: a :class:`Config`, or a ConfigError that has no password in it."""
    path = _folder() / "streamguard.yaml"
    path.write_bytes(data)
    with suppress(ConfigError):
        load_config(path, {"DOOR_URI": "rtsp://bob:hunter2@cam/1"})


def events(data: bytes) -> None:
    """Events made of any numbers and words satisfy their schema, go through JSON, and tell no password."""
    numbers = struct.unpack("<8e", data[:16].ljust(16, b"\0"))
    finite = [number if number - number == 0 else 0.0 for number in numbers]
    start, length, mean, peak, x, y, size, wall = finite
    words = data[16:].decode("utf-8", "replace")
    stream, reason = words[:64], words[64:] or None
    segment = Segment(f"s{len(data)}", stream, 1, 2, start, start + abs(length), State.FLAGGED, reason, mean, peak, 3)
    timeline = Timeline("arrival", lambda pts: 1.7e9 + wall + pts)
    sighting = Sighting(Box(x, y, x + 1, y + 1), Quality(abs(size), abs(size), reason))
    factory = EventFactory(EventContext(stream or "node", "r1", "default", 0.0, ()))
    made = [
        factory.segment("opened", segment, start, timeline, sighting),
        factory.segment("closed", segment, start + abs(length), timeline, sighting),
        factory.track_state(TrackRef(stream, 1, 2), State.CLEAR, start, timeline, reason=reason, logit=mean),
        factory.stream("down", stream, 1, at=1.7e9 + wall, reason=f"rtsp://bob:hunter2@{words[:9]}/: {words}"),
    ]
    feed, store = EventFeed(), SegmentStore()
    for event in made:
        text = json.dumps(event, allow_nan=False)
        assert json.loads(text) == event
        assert "hunter2" not in text
        if stream:
            _validator().validate(event)
        feed.take(event)
        store.take(event)
    assert feed.last == len(made)
    assert feed.place(words) is None or words.startswith(feed.run)


def bodies(data: bytes) -> None:
    """A request's body: refused, or of its kind; a source that is let through leads to an allowed address."""
    try:
        found = parsed(data)
    except Problem:
        found = {"name": "a", "uri": data.decode("latin-1")[:2048]}
    for kind in (ChangeBody, LabelBody, StreamBody):
        try:
            body = fitted(found, kind)
        except Problem:
            continue
        if isinstance(body, StreamBody):
            _judge(body.uri)


def rtsp(data: bytes) -> None:
    """A camera's side of a connection: the same passes however it is cut, and never more than came."""
    whole, pieces = _passed([data]), _passed([data[at : at + 3] for at in range(0, len(data), 3)])
    assert data.startswith(whole[0])
    assert data.startswith(pieces[0])
    assert whole[1] == pieces[1]


def _passed(blocks: list[bytes]) -> tuple[bytes, bool]:
    gate, passed = RtspFilter(), b""
    try:
        for block in blocks:
            passed += gate.feed(block)
    except Diverted:
        return passed, True
    return passed, False


def _judge(uri: str) -> None:
    assert "hunter2" not in redact(f"rtsp://bob:hunter2@{uri}")
    rules = SourceRules(
        AllowedSources(
            ("rtsp", "http", "https", "file", "demo"), ("*.example.net",), ("192.168.1.0/28",), ("/nowhere",)
        ),
        lambda host: [host],
    )
    with suppress(SourceRefused):
        target = rules.target(uri)
        address = ip_address(target.address)
        assert address in ip_network("192.168.1.0/28") or address.is_global
        assert 0 <= target.port <= 65535
    with suppress(SourceRefused):
        raise AssertionError(f"{rules.file(uri)} lies nowhere")


@cache
def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="streamguard-fuzz-"))


@cache
def _validator() -> Draft202012Validator:
    return Draft202012Validator(event_schema())


TARGETS: dict[str, tuple[Callable[[bytes], None], list[bytes]]] = {
    "config": (
        config,
        [
            b"node: a\nstreams:\n- {name: a, uri: '${DOOR_URI}'}\n- &x {<<: *x}\n",
            b"api: {limits: {rate: 1.0}, allow_sources: {networks: [10.0.0.0/8]}}\nlisten: '[::1]:80'\n",
            b"sinks: [{name: a, type: webhook, url: 'https://a/', secret_env: A}]\nsampling: {detect_every: 5}\n",
        ],
    ),
    "events": (events, [bytes(16) + "door".ljust(64).encode() + b"rtsp://a:b@c/?token=d"]),
    "bodies": (
        bodies,
        [
            b'{"name": "a", "uri": "rtsp://bob:p@192.168.1.9:554/live?x=1"}',
            b'{"segment_id": "r1.s1", "label": "unsure", "note": "x"}',
            b"http://[::ffff:192.168.1.9]:80/a.m3u8",
        ],
    ),
    "rtsp": (
        rtsp,
        [b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nv=0\r\n$\0\0\x0c123456789012RTSP/1.0 302 Moved\r\n\r\n"],
    ),
}


def every(data: bytes) -> None:
    """All targets in one, by the first byte: a short run for all of them."""
    functions = [function for function, _ in TARGETS.values()]
    functions[data[0] % len(functions) if data else 0](data[1:])
