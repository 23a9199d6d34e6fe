"""The stage's bookkeeping with a device that does as it is told: late, failing, or in another order.

What the real models make of real pictures is in test_pipeline.py; here it is who waits for whom.
"""

from queue import SimpleQueue

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from streamguard.analysis import AnalysisSettings, StreamAnalysis
from streamguard.decision.calibration import OperatingPoint, Temperature
from streamguard.errors import BackendError
from streamguard.frames import Frame
from streamguard.inference.backend import Completion
from streamguard.ingest.connection import StreamInfo
from streamguard.ingest.mailbox import Crossing, Mailbox, SessionEnded, SessionStarted
from streamguard.metrics import Metrics
from streamguard.pixels import picture_of_rgb
from streamguard.stage import InferenceStage, Models, StageListener
from streamguard.vision.classifier import FaceInput
from streamguard.vision.detector import FaceDecoder
from streamguard.vision.tracker import TrackerSettings

NOISE = picture_of_rgb(np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8))
ONE_FACE = np.array([[160], [160], [100], [130], [0.9]], np.float32)[None]
NO_FACE = np.zeros((1, 5, 1), np.float32)
INFO = StreamInfo(width=320, height=320, fps=25.0, codec="h264", duration=None, audio=False)


class Device:
    """A backend whose owner answers by hand, in any order."""

    variant = "fp32"
    variants = ("fp32",)
    preferred_batch = 1

    def __init__(self, name, slots, inbox):
        self.name, self.slots, self.inbox = name, slots, inbox
        self.waiting = []
        self.closed = False

    def submit(self, batch, token):
        if len(self.waiting) == self.slots:
            raise ValueError("overbooked")
        self.waiting.append(token)

    def answer(self, outputs, which=0):
        error = outputs if isinstance(outputs, BackendError) else None
        token = self.waiting.pop(which)
        self.inbox.put(Completion(token, None if error else outputs, error, 0.001))

    def close(self):
        self.closed = True


class Bench(StageListener):
    """A stage driven in the test's own thread."""

    def __init__(self, slots=2):
        self.metrics = Metrics(CollectorRegistry())
        self.inbox = SimpleQueue()
        self.detector = Device("detector", slots, self.inbox)
        self.classifier = Device("classifier", slots, self.inbox)
        models = Models(
            self.detector, FaceDecoder(), 114, (320, 320), self.classifier, Temperature(temperature=2.0, bias=0.5)
        )
        self.stage = InferenceStage(models, self.inbox, self, self.metrics)
        self.frames, self.gone, self.events, self.crossings = [], [], [], {}

    def add(self, name, bound=4):
        settings = AnalysisSettings(
            FaceInput(32, 0.0), OperatingPoint("default", 1.5, "of this test"), TrackerSettings(confirm=1)
        )
        crossing = self.crossings[name] = Crossing(Mailbox(bound, "wait"), self.stage.wake)
        self.stage.add(StreamAnalysis(name, settings, self.metrics, keep=True), crossing)
        crossing.mark(SessionStarted(1, INFO))
        self.turn()

    def put(self, name, index):
        self.crossings[name].put(Frame(name, 1, index, index / 5, 1000.0 + index / 5, "file", NOISE))
        self.turn()

    def turn(self):
        """Work off the inbox, as the thread would."""
        while not self.inbox.empty():
            self.stage.handle(self.inbox.get())

    def event(self, event):
        self.events.append(event)

    def analysed(self, frame):
        self.frames.append((frame.stream, frame.index))

    def ended(self, analysis, ended):
        self.gone.append(analysis)

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"streamguard_{name}", labels)


def test_one_frame_of_a_stream_is_in_flight():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.put("a", 1)
    assert len(bench.detector.waiting) == 1
    bench.detector.answer(ONE_FACE)
    bench.turn()
    assert (len(bench.detector.waiting), len(bench.classifier.waiting)) == (0, 1)
    bench.classifier.answer(np.array([[1.0]], np.float32))
    bench.turn()
    assert bench.frames == [("a", 0)]
    assert len(bench.detector.waiting) == 1, "the second frame follows"


def test_streams_take_turns_when_slots_are_few():
    bench = Bench(slots=1)
    for name in "abc":
        bench.add(name)
    for index in range(2):
        for name in "abc":
            bench.put(name, index)
    while bench.detector.waiting:
        bench.detector.answer(NO_FACE)
        bench.turn()
    assert [name for name, _ in bench.frames] in (list("abcabc"), list("abcbca"))
    assert sorted(bench.frames) == [(name, index) for name in "abc" for index in range(2)]


def test_a_stream_whose_result_is_late_holds_nobody():
    bench = Bench(slots=2)
    bench.add("late")
    bench.add("quick")
    bench.put("late", 0)
    for index in range(5):
        bench.put("quick", index)
        bench.detector.answer(NO_FACE, which=-1)
        bench.turn()
    assert bench.frames == [("quick", index) for index in range(5)]


def test_the_logit_is_calibrated():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.detector.answer(ONE_FACE)
    bench.turn()
    bench.classifier.answer(np.array([[3.0]], np.float32))
    bench.crossings["a"].mark(SessionEnded(1, "end of stream", final=True))
    bench.turn()
    assert bench.gone[0].outcomes[0].best == pytest.approx(3.0 / 2 + 0.5)


def test_a_lost_detection_costs_one_frame_and_is_counted():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.put("a", 1)
    bench.detector.answer(BackendError("the device is gone"))
    bench.turn()
    assert bench.value("frames_dropped_total", stream="a", reason="device error") == 1
    bench.detector.answer(NO_FACE)
    bench.turn()
    assert bench.frames == [("a", 1)]


def test_a_lost_classification_is_a_skipped_face():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.detector.answer(ONE_FACE)
    bench.turn()
    bench.classifier.answer(BackendError("the device is gone"))
    bench.turn()
    assert bench.frames == [("a", 0)]
    assert bench.value("faces_skipped_total", stream="a", reason="device error") == 1
    assert bench.value("faces_scored_total", stream="a") is None


def test_the_end_comes_after_the_frames_before_it():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.crossings["a"].mark(SessionEnded(1, "end of stream", final=True))
    bench.turn()
    assert bench.gone == []
    bench.detector.answer(NO_FACE)
    bench.turn()
    assert [analysis.stream for analysis in bench.gone] == ["a"]
    assert [type(event.what).__name__ for event in bench.events] == ["SessionStarted", "SessionEnded"]


@pytest.mark.parametrize("stage_of_flight", ["detecting", "classifying"])
def test_removing_a_stream_in_flight_leaves_the_others(stage_of_flight):
    bench = Bench(slots=1)
    bench.add("gone")
    bench.add("stays")
    bench.put("gone", 0)
    if stage_of_flight == "classifying":
        bench.detector.answer(ONE_FACE)
        bench.turn()
    bench.stage.remove("gone", "removed")
    bench.turn()
    assert [analysis.stream for analysis in bench.gone] == ["gone"]
    bench.put("stays", 0)
    for device, outputs in ((bench.detector, ONE_FACE), (bench.classifier, np.zeros((1, 1), np.float32))) * 2:
        while device.waiting:
            device.answer(outputs)
            bench.turn()
    assert bench.frames == [("stays", 0)]


def test_stopping_frees_both_devices():
    bench = Bench()
    bench.stage.start()
    bench.stage.stop()
    assert bench.detector.closed
    assert bench.classifier.closed
