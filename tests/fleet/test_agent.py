"""A node with its real Guard, given orders by hand."""

import json

import pytest

from streamguard.config import ClassifierChoice, Config, StreamConfig
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.fleet.agent import Agent
from streamguard.fleet.compatible import settings_of
from streamguard.fleet.messages import Assigned, Grant, Order
from streamguard.ownership import FleetSettings
from streamguard.version import __version__
from tests.serving import until

STREAM = StreamConfig(name="door", uri="demo:?duration=600&seed=4")
DOOR = {"door": Assigned(STREAM, Grant(1, 1))}


class Hand:
    """Gives orders as a head would; ``deaf``: what the node says is not heard, so its lease runs out."""

    def __init__(self, agent, lease=60.0):
        self.agent, self.lease, self.deaf = agent, lease, False
        self.term, self.number, self.heard = 1, 0, None
        self.boot = agent.hello(settings_of(Config())).boot

    def order(self, streams=None, settings=None):
        if streams is not None:
            self.number += 1
        report = self.agent.turn(Order(self.term, self.number, self.boot, self.heard, self.lease, streams, settings))
        if not self.deaf:
            self.heard = report.stamp
        return report

    def until(self, condition, limit=120.0):
        until(lambda: condition(self.order()), limit)


@pytest.fixture
def config(tmp_path):
    return Config(
        outbox=OutboxSettings(path=str(tmp_path / "{node}" / "outbox.db")),
        sinks=(JsonlSettings("file", "jsonl", str(tmp_path / "{node}.jsonl")),),
    )


@pytest.fixture
def hand(config):
    agent = Agent("b")
    hand = Hand(agent)
    yield hand
    agent.close()


def told(tmp_path):
    path = tmp_path / "b.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_it_says_what_it_is(hand, config, damaged_engine):
    hello = hand.agent.hello(settings_of(config))
    assert (hello.version, hello.problems) == (__version__, ())
    assert hello.engines.keys() == {"face-yolov8n", "deepfake-steady"}
    bad = config.model_copy(update={"classifier": ClassifierChoice(engine=str(damaged_engine), variant="fp32")})
    assert "has SHA-256" in hand.agent.hello(settings_of(bad)).problems[0]


def test_it_loads_its_engines_watches_and_says_so(hand, config, tmp_path):
    settings = settings_of(config)
    assert hand.order(DOOR, settings).version is None, "it answers at once"
    hand.until(lambda report: report.version == settings.version and report.applied == hand.number)
    report = hand.order()
    assert report.held == {"door": Grant(1, 1)}
    until(lambda: any(event["type"].endswith("stream.up.v1") for event in told(tmp_path)))
    assert report.capacity >= 1
    hand.order({})
    hand.until(lambda report: report.applied == hand.number and not report.held)


def test_without_the_head_it_stops_and_with_it_goes_on(hand, config, tmp_path):
    hand.order(DOOR, settings_of(config))
    hand.until(lambda report: report.held)
    hand.lease, hand.deaf = 3.0, True
    hand.agent._tenant.lease.end()
    hand.heard = hand.order().stamp
    hand.until(lambda report: report.held)
    hand.until(lambda report: not report.held)
    until(lambda: [event["data"]["reason"] for event in told(tmp_path) if ".down." in event["type"]] == ["removed"])
    hand.deaf = False
    hand.until(lambda report: report.held)


def test_settings_that_it_can_not_use_leave_it_with_those_it_has(hand, config):
    good = settings_of(config)
    hand.order(DOOR, good)
    hand.until(lambda report: report.version == good.version)
    bad = settings_of(config.model_copy(update={"operating_point": "no such"}))
    hand.order(settings=bad)
    hand.until(lambda report: report.failed == bad.version)
    report = hand.order()
    assert "no such" in report.problem
    hand.until(lambda report: report.version == good.version and report.held)
    other = settings_of(config.model_copy(update={"fleet": FleetSettings(node_listen="127.0.0.1:0")}))
    hand.order(settings=other)
    hand.until(lambda report: report.version == other.version and report.url is not None and report.held)
    assert hand.order().problem is None


def test_it_ends_with_every_stream_closed(config, tmp_path):
    agent = Agent("b")
    hand = Hand(agent)
    hand.order(DOOR, settings_of(config))
    hand.until(lambda report: report.held)
    until(lambda: told(tmp_path))
    agent.close()
    assert told(tmp_path)[-1]["type"].endswith("stream.down.v1")
    assert hand.order().held == {}


def test_what_it_takes_is_told(hand, config):
    hand.order(DOOR, settings_of(config))
    hand.until(lambda report: report.cpu > 0)
