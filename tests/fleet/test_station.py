"""One Guard with outbox, sinks and HTTP face, told what to watch."""

import json
import urllib.request

import pytest

from streamguard.config import ClassifierChoice, Config, StreamConfig
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.errors import OutboxRefused
from streamguard.fleet.messages import Assigned, Grant
from streamguard.fleet.station import Station
from tests.serving import until

PACED = "demo:?duration=600&seed=4"


def assigned(*names, uri=PACED, term=1):
    return {name: Assigned(StreamConfig(name=name, uri=uri), Grant(term, 1)) for name in names}


@pytest.fixture
def config(tmp_path):
    return Config(
        node="b",
        listen="127.0.0.1:0",
        outbox=OutboxSettings(path=str(tmp_path / "outbox.db")),
        sinks=(JsonlSettings("file", "jsonl", str(tmp_path / "events.jsonl")),),
    )


def told(tmp_path):
    path = tmp_path / "events.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_it_watches_what_it_should_and_its_events_leave_by_the_outbox(config, tmp_path):
    with Station(config) as station:
        station.keep(assigned("door", "hall"))
        assert station.held == {"door": Grant(1, 1), "hall": Grant(1, 1)}
        until(lambda: sum(event["type"].endswith("stream.up.v1") for event in told(tmp_path)) == 2)
        assert {event["source"] for event in told(tmp_path)} == {"/streamguard/b/door", "/streamguard/b/hall"}
        assert station.states().keys() == {"door", "hall"}
        station.keep(assigned("hall", term=2))
        assert station.held == {"hall": Grant(2, 1)}, "it goes on, by a newer right"
        station.keep(assigned("hall", uri="demo:?duration=600&seed=5"))
        until(lambda: sum(event["source"].endswith("/hall") for event in told(tmp_path)) >= 3)
        station.keep({})
        assert station.held == {}
        with urllib.request.urlopen(f"{station.url}/readyz", timeout=60) as answer:
            assert answer.status == 200
        assert station.troubles() == []
        assert station.overload == 0
        assert station.pending >= 0
    downs = [event for event in told(tmp_path) if event["type"].endswith("stream.down.v1")]
    assert len(downs) == 3, "door, and hall twice"


def test_what_ends_by_itself_or_can_not_begin_stays_so(config, tmp_path):
    with Station(config) as station:
        short = assigned("short", uri="demo:?duration=1&pace=0")
        wrong = assigned("wrong", uri="srt://camera:9")
        station.keep(short | wrong)
        until(lambda: station.states() == {"short": "ended", "wrong": "ended"})
        station.keep(short | wrong)
        assert station.held.keys() == {"short", "wrong"}, "or another node would begin it anew"
        station.keep(assigned("wrong"))
        until(lambda: station.states().get("wrong") not in (None, "ended"))
        assert station.held.keys() == {"wrong"}


def test_two_stations_never_share_an_outbox(config):
    first = config.model_copy(update={"listen": None})
    with Station(first), pytest.raises(OutboxRefused), Station(first):
        pass


def test_what_was_opened_before_a_failure_is_closed(config, tmp_path):
    bad = config.model_copy(update={"classifier": ClassifierChoice(engine="deepfake-steady", variant="int3")})
    with pytest.raises(Exception, match="int3"), Station(bad):
        pass
    with Station(config) as station:
        assert station.held == {}
