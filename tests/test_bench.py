"""bench: the limit's arithmetic, and a whole small run. No time is asserted."""

import pytest

from streamguard import bench
from streamguard.bench import Terms, on_backend, run_bench
from streamguard.config import Config
from streamguard.errors import EngineError
from streamguard.inference.engines import load_engine
from streamguard.inference.openvino import usual_order
from streamguard.pipeline import Guard

TERMS = Terms(decode=2.0, prepare=0.2, detector=5.0, track=0.1, crop=0.1, classifier=2.0)


def test_one_stream_is_limited_by_its_decoder():
    assert TERMS.limit(streams=1, cores=16, every=5, classified=0.2) == pytest.approx(500)


def test_many_streams_are_limited_by_the_cores():
    whole = 2.0 + (0.2 + 5.0 + 0.1) / 5 + 0.2 * (0.1 + 2.0)
    assert TERMS.limit(streams=8, cores=2, every=5, classified=0.2) == pytest.approx(2000 / whole)


def test_more_faces_cost_more():
    few, many = (TERMS.limit(8, 2, 5, classified) for classified in (0.2, 0.6))
    assert many < few


@pytest.mark.parametrize("faces", [0, 1, 3, 10])
def test_a_clip_shows_as_many_faces_as_it_should(tmp_path, faces):
    clip = bench.make_clip(tmp_path / "clip.mp4", faces=faces, seconds=1)
    with bench.Runner(Config()) as runner:
        seen = []

        def note(snapshot):
            seen.append(len(snapshot.tracks))
            Guard.standing(runner.guard, snapshot)

        runner.guard.standing = note
        runner.run(clip, 1)
    assert max(seen) == faces


def test_both_models_go_to_the_backend_that_is_named():
    config = on_backend(Config(), "onnxruntime")
    assert (config.detector.backend, config.classifier.backend) == ("onnxruntime", "onnxruntime")
    with pytest.raises(EngineError, match="backend 'abacus' is not known"):
        bench.Runner(on_backend(Config(), "abacus"))


@pytest.mark.slow
def test_the_report_has_every_key(monkeypatch):
    monkeypatch.setattr(bench, "SECONDS", 2)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    heard = []
    report = run_bench(Config(), heard.append)
    assert report.keys() >= {"machine", "date", "engines", "decode_fps", "detector_ms", "classifier_ms", "pipeline"}
    assert [row["streams"] for row in report["pipeline"]] == [1, 4, 8]
    for row in report["pipeline"]:
        assert row.keys() == {"streams", "faces", "every", "fps", "limit_fps", "ratio", "cpu_ratio", "classified"}
        assert row["classified"] > 0.1, "the bench's clip shows one face"
        assert row["ratio"] == pytest.approx(row["fps"] / row["limit_fps"], abs=0.01)
    assert report["detector_ms"].keys() == set(usual_order(load_engine("face-yolov8n")))
    assert heard[-1] == "pipeline, 8 streams"
