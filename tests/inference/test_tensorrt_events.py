"""A whole Guard on the TensorRT adapter says of a clip what it says on OpenVINO."""

import pytest

from streamguard.config import ClassifierChoice, Config, DetectorChoice
from streamguard.inference import tensorrt as adapter
from streamguard.inference.builder import prepare
from streamguard.inference.plans import PlanCache
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard
from tests.inference.doubles import HostMemory, TensorRt

CLIP = "demo:?seed=2&duration=8&pace=0"


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


def events(backend):
    """What is said of the clip, without the names of runs and the hour."""
    said = []
    detector = DetectorChoice(backend=backend, variant="fp32")
    guard = Guard(
        Config(detector=detector, classifier=ClassifierChoice(backend=backend, variant="fp32")), on_event=said.append
    )
    guard.add(open_source(CLIP, name="door"))
    assert guard.run().failures == {}
    return [(event["type"], event["data"]) for event in said]


@pytest.mark.usefixtures("tensorrt")
def test_the_events_are_those_of_openvino():
    ours, theirs = events("tensorrt"), events("openvino")
    assert [kind for kind, _ in ours] == [kind for kind, _ in theirs]
    assert "streamguard.track.state.v1" in [kind for kind, _ in ours]
    for (_, one), (_, other) in zip(ours, theirs, strict=True):
        for key in ("stream", "session", "track", "state", "reason", "threshold", "frames"):
            assert one.get(key) == other.get(key)
        assert one.get("pts") == other.get("pts")
        scores = [said.get("score") or 0.0 for said in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=2e-3)
