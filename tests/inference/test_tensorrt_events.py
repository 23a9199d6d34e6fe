"""A whole Guard on the TensorRT adapter, in batches over its streams, says what it says on OpenVINO one by one."""

import threading
import time
from functools import partial

import pytest
from prometheus_client import CollectorRegistry

from streamguard.config import ClassifierChoice, Config, DetectorChoice
from streamguard.inference import auto
from streamguard.inference import tensorrt as adapter
from streamguard.inference.auto import AutoBackend
from streamguard.inference.builder import prepare
from streamguard.inference.openvino import OpenVinoBackend
from streamguard.inference.plans import PlanCache
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.vision.sampler import SamplerSettings
from tests.inference.doubles import HostMemory, TensorRt

CLIP = "demo:?seed={seed}&duration=6&pace=0"


@pytest.fixture
def tensorrt(monkeypatch, tmp_path):
    """What opens `backend: tensorrt` opens the doubles."""
    init = adapter.TensorRtBackend.__init__

    def over_doubles(self, library, engine, variant, completions, *, slots):
        init(self, library, engine, variant, completions, slots=slots, memory=HostMemory, plans=PlanCache(tmp_path))

    monkeypatch.setattr(adapter.TensorRtBackend, "__init__", over_doubles)
    monkeypatch.setattr(adapter, "load_library", lambda name: adapter.Library(name, TensorRt))
    monkeypatch.setattr(
        adapter, "build_plan", lambda engine, variant, *_, **__: prepare(engine.model(variant), engine.input, variant)
    )


def guard_of(backend, **options):
    choices = DetectorChoice(backend=backend, variant="fp32"), ClassifierChoice(backend=backend, variant="fp32")
    sampling = SamplerSettings(mode="throughput")
    return Guard(Config(detector=choices[0], classifier=choices[1], sampling=sampling), **options)


def events(backend, seeds=(2,), metrics=None):
    """What is said of each stream, without the names of runs and the hour."""
    said = {}

    def note(event):
        said.setdefault(event["data"]["stream"], []).append((event["type"], event["data"]))

    guard = guard_of(backend, on_event=note, metrics=metrics)
    for seed in seeds:
        guard.add(open_source(CLIP.format(seed=seed), name=f"door{seed}"))
    assert guard.run().failures == {}
    return said


def same(ours, theirs):
    assert [kind for kind, _ in ours] == [kind for kind, _ in theirs]
    assert "streamguard.track.state.v1" in [kind for kind, _ in ours]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        for key in ("stream", "session", "track", "state", "reason", "threshold", "frames"):
            assert one.get(key) == other.get(key)
        assert one.get("pts") == other.get("pts")
        scores = [said.get("score") or 0.0 for said in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)


@pytest.mark.usefixtures("tensorrt")
def test_batches_over_several_streams_say_what_openvino_says_one_by_one():
    seeds = (2, 3, 4)
    metrics = Metrics(CollectorRegistry())
    together = events("tensorrt", seeds, metrics)
    assert together.keys() == {"door2", "door3", "door4"}
    for seed in seeds:
        same(together[f"door{seed}"], events("openvino", (seed,))[f"door{seed}"])
    value = metrics.registry.get_sample_value
    for stage in ("detect", "classify"):
        labels = {"stage": stage}
        batches, pictures = (value(f"streamguard_batch_size_{what}", labels) for what in ("count", "sum"))
        assert pictures > batches, f"{stage}: {pictures} pictures in {batches} batches"


@pytest.mark.usefixtures("tensorrt")
def test_events_and_metrics_name_what_runs_now(monkeypatch):
    """`backend: auto` begins on the CPU, and goes over to the GPU when its plan is there."""
    gate = threading.Event()

    def gpu(engine, completions):
        assert gate.wait(60)
        return adapter.open_tensorrt("tensorrt", engine, "fp16", completions, slots=2)

    def open_auto(engine, variant, completions, *, slots):
        cpu = partial(OpenVinoBackend, engine, variant, slots=slots)
        return AutoBackend(engine, [partial(gpu, engine)], cpu, completions, 0.01)

    monkeypatch.setattr(auto, "open_auto", open_auto)
    metrics, said = Metrics(CollectorRegistry()), []

    def running():
        family = next(found for found in metrics.registry.collect() if found.name == "streamguard_engine_info")
        return {sample.labels["backend"] for sample in family.samples if sample.value == 1}

    with guard_of("auto", on_event=said.append, metrics=metrics) as guard:
        assert running() == {"openvino"}
        guard.add(open_source("demo:?duration=600", name="door"))
        wait(lambda: any(event["type"].endswith("track.state.v1") for event in said))
        gate.set()
        wait(lambda: running() == {"tensorrt"})
    variants = [{engine["variant"] for engine in event["data"].get("engines", ())} for event in said]
    told = [variant for variant in variants if variant]
    assert told[0] == {"fp32"}
    assert told[-1] == {"fp16"}


def wait(condition):
    due = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < due
        time.sleep(0.02)
