"""Guard with the real models on real (made) video."""

import threading
import time

import jsonschema
import pytest
from prometheus_client import CollectorRegistry

from benchmarks.demo_seeds import LEAST_IOU, watch_seed
from streamguard.config import ClassifierChoice, Config, DetectorChoice
from streamguard.delivery.events import event_schema
from streamguard.errors import ConfigError, EngineForeign, UsageError
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from tests.media import cut, patterns, write_video

FOUND = (3, 6, 11)  # of those that the engine finds; benchmarks/demo_seeds.py says how many of 20 these are


class Watched:
    """A Guard whose events are kept."""

    def __init__(self, **config):
        self.metrics = Metrics(CollectorRegistry())
        self.events, self.reports = [], []
        self.guard = Guard(
            Config(**config), metrics=self.metrics, on_event=self.events.append, on_end=self.reports.append
        )

    def types(self, stream):
        found = (event["type"] for event in self.events if event["data"]["stream"] == stream)
        return [kind.removeprefix("streamguard.").removesuffix(".v1") for kind in found]

    def value(self, name, **labels):
        return self.metrics.registry.get_sample_value(f"streamguard_{name}", labels)


@pytest.fixture
def faceless(tmp_path):
    return write_video(tmp_path / "pattern.mp4", patterns(60))


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND)
def test_the_demo_flags_its_forged_passage_and_nothing_else(seed):
    result = watch_seed(seed)
    assert result.iou >= LEAST_IOU
    assert result.false_alarms == 0


def test_every_event_satisfies_the_schema_and_tells_the_story_in_order():
    watched = Watched(node="studio")
    watched.guard.add(open_source("demo:?seed=2&duration=6&pace=0", name="door"))
    assert watched.guard.run().failures == {}
    validator = jsonschema.Draft202012Validator(event_schema())
    for event in watched.events:
        validator.validate(event)
    kinds = watched.types("door")
    assert kinds[0] == "stream.up"
    assert kinds[-1] == "stream.down"
    assert "track.state" in kinds
    assert len({(event["source"], event["id"]) for event in watched.events}) == len(watched.events)
    assert watched.value("frames_decoded_total", stream="door") == 150
    (report,) = watched.reports
    assert report.frames == 150
    assert [track.judged.frames for track in report.tracks] == [watched.value("faces_scored_total", stream="door")]


def test_a_file_is_read_whole_and_without_a_face_it_is_not_clear(faceless):
    watched = Watched()
    watched.guard.add(open_source(str(faceless), name="a"))
    watched.guard.run()
    assert watched.value("frames_decoded_total", stream="a") == 60
    assert watched.value("stage_duration_seconds_count", stage="detect") == 12
    assert watched.types("a") == ["stream.up", "stream.down"]


def test_a_stream_that_fails_is_named_and_the_others_go_on(faceless, tmp_path):
    broken = cut(write_video(tmp_path / "cut.ts", patterns(60)), 0.5)
    watched = Watched()
    for name, path in (("good", faceless), ("cut", broken), ("absent", tmp_path / "absent.mp4")):
        watched.guard.add(open_source(str(path), name=name))
    report = watched.guard.run()
    assert "absent.mp4" in report.failures["absent"]
    assert "good" not in report.failures
    assert watched.value("frames_decoded_total", stream="good") == 60
    assert 20 <= watched.value("frames_decoded_total", stream="cut") < 60


def test_two_streams_of_one_name_are_refused(faceless):
    watched = Watched()
    with watched.guard as guard:
        guard.add(open_source("demo:?duration=60", name="a"))
        with pytest.raises(UsageError, match="stream 'a' is being watched already"):
            guard.add(open_source(str(faceless), name="a"))


def test_duration_ends_a_stream_that_would_go_on():
    watched = Watched()
    watched.guard.add(open_source("demo:?duration=600", name="long"))
    assert watched.guard.run(duration=1.5).failures == {}
    assert watched.types("long")[-1] == "stream.down"
    assert watched.events[-1]["data"]["reason"] == "stopped"


def test_stop_ends_the_run_from_another_thread():
    watched = Watched()
    watched.guard.add(open_source("demo:?duration=600", name="long"))
    threading.Timer(0.5, watched.guard.stop).start()
    watched.guard.run(duration=60)
    assert watched.types("long")[-1] == "stream.down"


def test_a_stream_is_removed_while_another_runs(faceless):
    watched = Watched()
    up = threading.Event()

    def note(event):
        watched.events.append(event)
        if event["type"] == "streamguard.stream.up.v1" and event["data"]["stream"] == "gone":
            up.set()

    watched.guard = Guard(Config(), metrics=watched.metrics, on_event=note)
    with watched.guard as guard:
        guard.add(open_source("demo:?duration=600", name="gone"))
        assert up.wait(20)
        guard.remove("gone")
        guard.remove("never there")
        guard.add(open_source(str(faceless), name="a"))
        guard.run()
    assert watched.types("gone")[-1] == "stream.down"
    assert watched.value("frames_decoded_total", stream="a") == 60
    assert guard.snapshot("gone") is None


def test_threads_end_with_the_run(faceless):
    before = threading.active_count()
    for _ in range(3):
        watched = Watched()
        watched.guard.add(open_source(str(faceless), name="a"))
        watched.guard.run()
    assert threading.active_count() <= before + 1


@pytest.mark.parametrize(
    ("config", "error", "named"),
    [
        ({"operating_point": "bold"}, ConfigError, "no operating point 'bold'"),
        ({"detector": DetectorChoice(engine="deepfake-steady")}, EngineForeign, "is no detector"),
        ({"classifier": ClassifierChoice(engine="face-yolov8n")}, EngineForeign, "no classifier of square faces"),
    ],
)
def test_what_does_not_fit_starts_nothing(config, error, named):
    before = threading.active_count()
    with pytest.raises(error, match=named):
        Guard(Config(**config))
    assert threading.active_count() == before


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_both_backends_carry_the_whole_chain(backend):
    watched = Watched(
        detector=DetectorChoice(backend=backend, variant="fp32"),
        classifier=ClassifierChoice(backend=backend, variant="fp32"),
    )
    watched.guard.add(open_source("demo:?seed=2&duration=4&pace=0", name="door"))
    watched.guard.run()
    assert watched.value("faces_scored_total", stream="door") >= 15


class Broken(Guard):
    """Its owner's code fails in the inference thread."""

    def analysed(self, frame):
        raise RuntimeError("planted")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_failing_inference_thread_ends_the_run_by_name(faceless):
    guard = Broken(Config())
    guard.add(open_source(str(faceless), name="a"))
    report = guard.run(duration=60)
    assert report.failures == {"a": "the inference thread failed"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_inference_thread_is_not_alive(faceless):
    with Broken(Config()) as guard:
        assert guard.alive
        assert guard.ready
        guard.add(open_source(str(faceless), name="a"))
        deadline = time.monotonic() + 30
        while guard.alive:
            assert time.monotonic() < deadline
            time.sleep(0.01)
