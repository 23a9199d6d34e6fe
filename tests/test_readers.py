"""The decoder side of a stream: what was not decoded is counted, and told to those who judge the load."""

from types import SimpleNamespace

import numpy as np
import pytest

from streamguard.delivery.broadcast import Broadcast
from streamguard.frames import Frame, Picture
from streamguard.ingest.connection import StreamInfo
from streamguard.ingest.mailbox import Crossing, Mailbox, Waiting
from streamguard.metrics import Metrics
from streamguard.readers import Intake
from streamguard.vision.sampler import FrameSampler, SamplerSettings

PICTURE = Picture(np.zeros((2, 2), np.uint8), np.zeros((1, 1), np.uint8), np.zeros((1, 1), np.uint8))
INFO = StreamInfo(width=2, height=2, fps=25.0, codec="h264", duration=None, audio=False)


class Bench:
    """An intake of a live stream that is searched every fifth frame."""

    def __init__(self):
        self.metrics = Metrics()
        self.crossing = Crossing(Mailbox(1, "newest"), notify=lambda: None)
        broadcast = Broadcast("cam", lambda: None, self.metrics)
        sampler = FrameSampler(SamplerSettings(detect_every=5, classify_hz=5.0))
        self.intake = Intake("cam", self.crossing, self.metrics, sampler, broadcast)
        self.connection = SimpleNamespace(
            info=INFO, recording=None, received_bytes=0, skipped_frames=0, clock_offset=None, finished=False
        )
        self.intake.opened(1, self.connection)
        self.number = 0

    def show(self, frames):
        for _ in range(frames):
            frame = Frame("cam", 1, self.number, self.number / 25, 0.0, "arrival", PICTURE)
            self.intake.frame(frame, self.connection)
            self.number += 1

    def skip(self, frames):
        self.connection.skipped_frames += frames
        self.number += frames

    def dropped(self, reason):
        labels = {"stream": "cam", "reason": reason}
        return self.metrics.registry.get_sample_value("streamguard_frames_dropped_total", labels)

    def taken(self):
        while not isinstance(item := self.crossing.take(), Waiting):
            pass
        return item


def test_frames_that_were_not_decoded_are_due_ones_by_the_stride():
    bench = Bench()
    bench.show(1)
    assert bench.taken().overtook == 0
    bench.skip(52)
    bench.show(5)
    assert bench.dropped("late") == 10
    assert bench.taken().overtook == 10
    bench.skip(3)
    bench.show(5)
    assert bench.dropped("late") == 11, "what was left of the first is not forgotten"
    assert bench.taken().overtook == 1


def test_a_new_session_owes_nothing_to_the_last():
    bench = Bench()
    bench.skip(4)
    bench.show(5)
    bench.connection.skipped_frames = 0
    bench.intake.opened(2, bench.connection)
    bench.show(10)
    assert bench.dropped("late") is None
    assert bench.dropped("overtaken") == pytest.approx(2)
