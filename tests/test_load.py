"""What counts as load, and what is said of it."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamguard.frames import Frame, Picture
from streamguard.ingest.mailbox import Crossing, Mailbox
from streamguard.lane import Lane
from streamguard.load import LoadWatch
from streamguard.metrics import Metrics
from streamguard.vision.overload import Overload, OverloadSettings

PICTURE = Picture(np.zeros((2, 2), np.uint8), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))


class Watch:
    def __init__(self, policy):
        self.metrics = Metrics(CollectorRegistry())
        self.overload = Overload(settings=OverloadSettings(window=1.0, calm=3.0))
        self.load = LoadWatch(self.overload, self.metrics)
        self.lane = Lane(SimpleNamespace(stream="cam"), Crossing(Mailbox(4, policy), lambda: None))
        self.now = 0.0

    def put(self):
        self.lane.crossing.put(Frame("cam", 1, 0, 0.0, 0.0, "file", PICTURE))

    def run(self, seconds, lost):
        for _ in range(round(seconds * 10)):
            self.load.look(self.lane)
            self.load.frame(lost)
            self.load.turn(self.now)
            self.now += 0.1

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"streamguard_{name}", labels)


def test_each_step_down_is_said_and_counted_and_the_end_too(caplog):
    watch = Watch("newest")
    watch.put()
    with caplog.at_level(logging.INFO):
        watch.run(2.5, lost=1)
        watch.lane.crossing.take()
        watch.run(10, lost=0)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "overload, frames of live streams are lost: step 1 of 7, classification rate"),
        ("WARNING", "overload, frames of live streams are lost: step 2 of 7, classification rate"),
        ("INFO", "the overload eases: step 1 of 7, classification rate"),
        ("WARNING", "the overload is over: everything is done as it is set"),
    ]
    assert watch.value("overload_steps_total", step="classification rate") == 2
    assert watch.value("overload_level") == 0


@pytest.mark.parametrize("why", ["a file", "nothing waits", "removed"])
def test_what_is_no_load(why):
    watch = Watch("wait" if why == "a file" else "newest")
    if why != "nothing waits":
        watch.put()
    watch.lane.removed = why == "removed"
    watch.run(10, lost=1)
    assert watch.overload.level == 0
