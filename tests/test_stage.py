"""The stage's bookkeeping with a device that does as it is told: late, failing, or in another order.

What the real models make of real pictures is in test_pipeline.py; here it is who waits for whom.
"""

import logging
import threading
from functools import partial
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
from streamguard.listener import StageListener
from streamguard.metrics import Metrics
from streamguard.models import Models
from streamguard.pixels import picture_of_rgb
from streamguard.stage import InferenceStage
from streamguard.vision.classifier import FaceInput
from streamguard.vision.detector import FaceDecoder
from streamguard.vision.overload import Overload
from streamguard.vision.sampler import SamplerSettings, unhurried
from streamguard.vision.tracker import TrackerSettings

NOISE = picture_of_rgb(np.random.default_rng(0).integers(0, 256, (320, 320, 3), np.uint8))
SCORE = np.array([[1.0]], np.float32)
ONE_FACE = np.array([[160], [160], [100], [130], [0.9]], np.float32)[None]
NO_FACE = np.zeros((1, 5, 1), np.float32)
INFO = StreamInfo(width=320, height=320, fps=25.0, codec="h264", duration=None, audio=False)


class Device:
    """A backend whose owner answers by hand, in any order."""

    variant = "fp32"
    variants = ("fp32",)

    def __init__(self, name, slots, inbox, batch=1):
        self.name, self.slots, self.inbox, self.preferred_batch = name, slots, inbox, batch
        self.waiting = []
        self.sizes = []
        self.closed = False

    def submit(self, batch, token):
        if len(self.waiting) == self.slots:
            raise ValueError("overbooked")
        assert len(batch) <= self.preferred_batch
        self.waiting.append((token, len(batch)))
        self.sizes.append(len(batch))

    def answer(self, outputs, which=0):
        """``outputs`` of one picture, the same for all of the batch; or an error."""
        error = outputs if isinstance(outputs, BackendError) else None
        token, count = self.waiting.pop(which)
        self.inbox.put(Completion(token, None if error else np.repeat(outputs, count, axis=0), error, 0.001))

    def close(self):
        self.closed = True


class Bench(StageListener):
    """A stage driven in the test's own thread, on a clock that stands until it is moved."""

    def __init__(self, slots=2, batch=1, overload=None, clock=None, **sampling):
        self.metrics = Metrics(CollectorRegistry())
        self.inbox = SimpleQueue()
        self.now = 50.0
        self.detector = Device("detector", slots, self.inbox, batch)
        self.classifier = Device("classifier", slots, self.inbox, batch)
        models = Models(
            self.detector, FaceDecoder(), 114, (320, 320), self.classifier, Temperature(temperature=2.0, bias=0.5)
        )
        self.sampling = SamplerSettings(**sampling)
        self.overload = overload or Overload()
        self.stage = InferenceStage(
            models,
            self.inbox,
            self,
            self.metrics,
            settings=self.sampling,
            overload=self.overload,
            clock=clock or (lambda: self.now),
        )
        self.frames, self.gone, self.events, self.crossings, self.changes = [], [], [], {}, 0
        self.standings = []

    def add(self, name, bound=4, policy="wait"):
        settings = AnalysisSettings(
            FaceInput(32, 0.0), OperatingPoint("default", 1.5, "of this test"), TrackerSettings(confirm=1)
        )
        wake = partial(self.stage.wake, name)
        crossing = self.crossings[name] = Crossing(Mailbox(bound, policy), wake, lambda: self.now)
        pace = (lambda: self.overload.pace) if policy == "newest" else unhurried
        self.stage.add(StreamAnalysis(name, settings, self.metrics, keep=True, pace=pace), crossing)
        crossing.mark(SessionStarted(1, INFO))
        self.turn()

    def put(self, name, index, *, due=True, turn=True):
        frame = Frame(name, 1, index, index / 5, 1000.0 + index / 5, "file", NOISE)
        self.crossings[name].put(frame, due=due)
        if turn:
            self.turn()

    def turn(self):
        """Work off the inbox, as the thread would."""
        while not self.inbox.empty():
            self.stage.handle(self.inbox.get())

    def detect(self, outputs, which=0):
        self.detector.answer(outputs, which)
        self.turn()

    def classify(self, outputs, which=0):
        self.classifier.answer(outputs, which)
        self.turn()

    def event(self, event):
        self.events.append(event)

    def standing(self, snapshot):
        self.standings.append(snapshot)

    def analysed(self, frame):
        self.frames.append((frame.stream, frame.index))

    def ended(self, analysis, ended):
        self.gone.append(analysis)

    def engines(self):
        self.changes += 1

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
    assert (len(bench.detector.waiting), len(bench.classifier.waiting)) == (1, 1), "the first has left the tracker"
    bench.put("a", 2)
    assert len(bench.detector.waiting) == 1
    bench.classify(SCORE)
    assert bench.frames == [("a", 0)]


def test_a_search_that_is_early_waits_for_the_scores_before_it():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.put("a", 1)
    bench.detect(ONE_FACE)
    bench.detect(ONE_FACE)
    assert len(bench.classifier.waiting) == 1, "the second frame is not followed before the first is judged"
    assert bench.detector.waiting == [], "and the third not searched before that"
    bench.classify(SCORE)
    assert (bench.frames, len(bench.classifier.waiting)) == ([("a", 0)], 1)
    bench.classify(SCORE)
    assert bench.frames == [("a", 0), ("a", 1)]


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


# Frames between two searches


def test_an_undecided_face_is_scored_between_two_searches():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.detect(ONE_FACE)
    bench.classify(SCORE)
    frame = Frame("a", 1, 1, 0.12, 1000.12, "file", NOISE)
    bench.crossings["a"].put(frame, due=False)
    bench.turn()
    assert (len(bench.detector.waiting), len(bench.classifier.waiting)) == (0, 1)
    bench.classify(SCORE)
    assert bench.frames == [("a", 0), ("a", 1)]


def test_a_frame_that_nobody_needs_costs_nothing():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.detect(NO_FACE)
    bench.put("a", 1, due=False)
    assert (bench.detector.waiting, bench.classifier.waiting) == ([], [])
    assert bench.frames == [("a", 0)]
    assert bench.value("frames_dropped_total", stream="a", reason="overtaken") is None


def test_frames_between_keep_their_place_though_the_next_search_is_early():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    bench.detect(ONE_FACE)
    bench.crossings["a"].put(Frame("a", 1, 1, 0.12, 1000.12, "file", NOISE), due=False)
    bench.crossings["a"].put(Frame("a", 1, 2, 0.2, 1000.2, "file", NOISE))
    bench.turn()
    bench.detect(ONE_FACE)
    assert len(bench.classifier.waiting) == 1
    for _ in range(3):
        bench.classify(SCORE)
    assert bench.frames == [("a", 0), ("a", 1), ("a", 2)]


# Batches


def test_streams_are_searched_and_scored_together():
    bench = Bench(slots=1, batch=8)
    for name in "abcd":
        bench.add(name)
    for name in "abc":
        bench.put(name, 0, turn=False)
    bench.turn()
    assert bench.detector.waiting == [], "an incomplete batch waits for company"
    bench.now += bench.sampling.batch_wait
    bench.stage.handle(None)
    assert bench.detector.sizes == [3]
    bench.detect(ONE_FACE)
    assert bench.classifier.sizes == [3], "no search is under way, so no more faces can come"
    bench.classify(SCORE)
    assert sorted(bench.frames) == [("a", 0), ("b", 0), ("c", 0)]
    assert bench.value("batch_size_sum", stage="detect") == bench.value("batch_size_sum", stage="classify") == 3
    assert bench.value("stage_duration_seconds_count", stage="detect") == 1


def test_nobody_waits_for_company_that_can_not_come():
    bench = Bench(slots=2, batch=8)
    bench.add("a")
    bench.put("a", 0)
    assert bench.detector.sizes == [1], "the only stream"
    bench.add("b")
    bench.put("b", 0)
    assert bench.detector.sizes == [1, 1], "the other one is being searched"


def test_faces_wait_for_those_of_the_search_under_way():
    bench = Bench(slots=2, batch=8)
    for name in "ab":
        bench.add(name)
    bench.put("a", 0)
    bench.now += bench.sampling.batch_wait
    bench.stage.handle(None)
    bench.put("b", 0)
    assert bench.detector.sizes == [1, 1]
    bench.detect(ONE_FACE)
    assert bench.classifier.sizes == []
    bench.detect(ONE_FACE)
    assert bench.classifier.sizes == [2]


def test_a_full_batch_does_not_wait():
    bench = Bench(slots=1, batch=2)
    for name in "abcd":
        bench.add(name)
    for name in "abc":
        bench.put(name, 0)
    assert bench.detector.sizes == [2]
    assert bench.value("queue_depth", stage="detect") == 1


def test_a_dead_stream_is_waited_for_no_longer_than_a_batch_waits():
    bench = Bench(slots=1, batch=8)
    bench.add("dead")
    bench.add("alive")
    for index in range(3):
        bench.put("alive", index)
        bench.now += bench.sampling.batch_wait
        bench.stage.handle(None)
        bench.detect(NO_FACE)
    assert bench.frames == [("alive", index) for index in range(3)]


def test_a_batch_that_fails_loses_its_frames_by_name_and_no_others(caplog):
    bench = Bench(slots=2, batch=2)
    for name in "abc":
        bench.add(name)
    for name in "abc":
        bench.put(name, 0)
    assert bench.detector.sizes == [2, 1]
    with caplog.at_level(logging.ERROR):
        bench.detect(BackendError("the device is gone"))
        bench.detect(NO_FACE)
    assert caplog.messages == ["detect failed for a batch of streams 'a', 'b': the device is gone"]
    lost = {name: bench.value("frames_dropped_total", stream=name, reason="device error") for name in "abc"}
    assert lost == {"a": 1, "b": 1, "c": None}
    assert bench.frames == [("c", 0)]
    bench.put("a", 1)
    bench.now += bench.sampling.batch_wait
    bench.stage.handle(None)
    bench.detect(NO_FACE)
    assert bench.frames == [("c", 0), ("a", 1)]


def test_a_stream_removed_out_of_a_batch_leaves_the_others_their_results():
    bench = Bench(slots=1, batch=3)
    for name in ("gone", "one", "two"):
        bench.add(name)
    for name in ("gone", "one", "two"):
        bench.put(name, 0)
    bench.stage.remove("gone", "removed")
    bench.turn()
    token, _ = bench.detector.waiting.pop()
    outputs = np.concatenate((ONE_FACE, np.zeros_like(ONE_FACE), ONE_FACE))
    bench.inbox.put(Completion(token, outputs, None, 0.001))
    bench.turn()
    assert bench.frames == [("one", 0)], "its picture shows nobody"
    bench.now += bench.sampling.batch_wait
    bench.stage.handle(None)
    bench.classify(SCORE)
    assert bench.frames == [("one", 0), ("two", 0)]


def test_the_thread_sends_an_incomplete_batch_when_its_time_has_come():
    ticks = iter(range(10**9))
    bench = Bench(slots=1, batch=8, clock=lambda: 50.0 + next(ticks) / 1000)
    done = threading.Event()
    bench.analysed = lambda frame: done.set()
    bench.detector.submit = lambda batch, token: bench.inbox.put(Completion(token, NO_FACE, None, 0.001))
    bench.stage.start()
    wake = partial(bench.stage.wake, "a")
    crossing = Crossing(Mailbox(1, "newest"), wake, lambda: 50.0)
    settings = AnalysisSettings(FaceInput(32, 0.0), OperatingPoint("default", 1.5, "of this test"))
    bench.stage.add(StreamAnalysis("a", settings, bench.metrics), crossing)
    crossing.mark(SessionStarted(1, INFO))
    crossing.put(Frame("a", 1, 0, 0.0, 1000.0, "file", NOISE))
    assert done.wait(30)
    bench.stage.stop()


# Live streams


def test_a_stale_frame_is_dropped_by_name_and_the_newer_one_taken():
    bench = Bench(slots=1)
    bench.add("busy")
    bench.add("cam", bound=4, policy="newest")
    bench.put("busy", 0)
    bench.put("cam", 0)
    bench.now += 0.4
    bench.put("cam", 1)
    bench.now += 0.2
    bench.detect(NO_FACE)
    assert bench.value("frames_dropped_total", stream="cam", reason="stale") == 1
    bench.detect(NO_FACE)
    assert bench.frames == [("busy", 0), ("cam", 1)]


def test_a_file_is_never_stale():
    bench = Bench(slots=1)
    bench.add("busy")
    bench.add("file")
    bench.put("busy", 0)
    bench.put("file", 0)
    bench.now += 3600
    bench.detect(NO_FACE)
    bench.detect(NO_FACE)
    assert bench.frames == [("busy", 0), ("file", 0)]


def test_a_face_that_waited_for_too_long_is_skipped_by_name():
    bench = Bench(slots=1)
    bench.add("busy")
    bench.add("cam", bound=1, policy="newest")
    for name in ("busy", "cam"):
        bench.put(name, 0)
        bench.detect(ONE_FACE)
    bench.now += 0.6
    bench.classify(SCORE)
    assert bench.classifier.waiting == []
    assert bench.value("faces_skipped_total", stream="cam", reason="stale") == 1
    assert bench.frames == [("busy", 0), ("cam", 0)]


def test_an_overload_is_counted_said_once_and_taken_back(caplog):
    bench = Bench(slots=1)
    bench.add("cam", bound=1, policy="newest")
    index = iter(range(10**6))
    with caplog.at_level(logging.WARNING):
        for _ in range(30):
            for _ in range(3):
                bench.put("cam", next(index))
                bench.now += 0.1
            bench.detect(NO_FACE)
    assert bench.value("overload_level") == 4
    assert bench.value("overload_steps_total", step="classification rate") == 2
    assert bench.value("overload_steps_total", step="detection rate") == 2
    assert len(caplog.messages) == 4
    assert caplog.messages[0] == "overload, frames of live streams are lost: step 1 of 7, classification rate"
    with caplog.at_level(logging.WARNING):
        for _ in range(600):
            while bench.detector.waiting:
                bench.detect(NO_FACE)
            bench.put("cam", next(index))
            bench.now += 0.1
    assert bench.value("overload_level") == 0
    assert caplog.messages[4:] == ["the overload is over: everything is done as it is set"]


def test_files_that_wait_are_no_overload():
    bench = Bench(slots=1)
    bench.add("file", bound=4)
    for index in range(4):
        bench.put("file", index)
    for _ in range(100):
        bench.now += 1
        bench.stage.handle(None)
    assert bench.overload.level == 0


def test_another_backend_is_told():
    bench = Bench()
    bench.add("a")
    bench.put("a", 0)
    assert bench.changes == 0
    bench.detector.name = "tensorrt"
    bench.detect(NO_FACE)
    bench.put("a", 1)
    assert bench.changes == 1


def test_a_snapshot_says_how_long_the_last_scored_frame_took():
    bench = Bench()
    bench.add("a")
    assert bench.standings[-1].latency is None
    bench.put("a", 0)
    bench.detect(ONE_FACE)
    bench.now += 0.25
    bench.classify(SCORE)
    assert bench.standings[-1].latency == pytest.approx(0.25)
    bench.put("a", 5)
    bench.detect(NO_FACE)
    assert bench.standings[-1].latency == pytest.approx(0.25), "no score, no news"


def test_what_is_asked_of_an_analysis_is_told_and_a_stream_that_is_gone_is_let_be():
    bench = Bench()
    bench.add("a")
    asked = []
    for name in ("a", "gone"):
        bench.stage.ask(name, lambda analysis: asked.append(analysis.stream) or [])
    before = len(bench.standings)
    bench.turn()
    assert asked == ["a"]
    assert len(bench.standings) == before + 1
