"""Every series is declared once, well named, and rendered so that Prometheus reads it."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from streamguard.metrics import Metrics

COUNTERS = {
    "frames_decoded": {"stream"},
    "frames_dropped": {"stream", "reason"},
    "frames_corrupt": {"stream"},
    "faces_scored": {"stream"},
    "faces_skipped": {"stream", "reason"},
    "stream_reconnects": {"stream", "reason"},
    "stream_received_bits": {"stream"},
    "segments": {"stream", "state"},
    "overload_steps": {"step"},
    "http_refused": {"reason"},
    "evidence": {"stream", "outcome"},
    "sink_deliveries": {"sink", "outcome"},
    "outbox_commits": {"outcome"},
    "outbox_unmarked": set(),
    "pictures_encoded": {"stream"},
    "pictures_dropped": {"stream", "reason"},
    "publish_attempts": {"stream", "outcome"},
    "webrtc_sessions": {"kind", "outcome"},
    "fleet_moves": {"reason"},
}
GAUGES = {
    "queue_depth": {"stage"},
    "overload_level": set(),
    "stream_up": {"stream"},
    "stream_state": {"stream", "state"},
    "stream_last_frame_timestamp_seconds": {"stream"},
    "stream_width_pixels": {"stream"},
    "stream_clock_offset_seconds": {"stream"},
    "outbox_pending": {"sink"},
    "evidence_bytes": set(),
    "evidence_paused": set(),
    "outbox_uncommitted": set(),
    "viewers": {"stream", "kind"},
    "publish_up": {"stream"},
    "webrtc_peers": {"kind"},
    "fleet_nodes": {"state"},
    "fleet_streams": {"state"},
    "engine_info": {"name", "sha256", "backend", "variant"},
}
HISTOGRAMS = {"stage_duration_seconds": {"stage"}, "frame_to_score_seconds": set(), "batch_size": {"stage"}}


def touched():
    """Metrics with every series in use."""
    metrics = Metrics(CollectorRegistry())
    for series in vars(metrics).values():
        labels = getattr(series, "_labelnames", None)
        if labels is None:
            continue
        child = series.labels(*("x" for _ in labels)) if labels else series
        getattr(child, "observe", None) and child.observe(0.01)
        getattr(child, "set", None) and child.set(1)
        getattr(child, "observe", None) or getattr(child, "set", None) or child.inc()
    return metrics


def test_the_names_and_labels_are_those_promised():
    families = {
        family.name: family
        for family in text_string_to_metric_families(generate_latest(touched().registry).decode())
        if not family.name.endswith("_created")
    }
    for kind, expected in (("counter", COUNTERS), ("gauge", GAUGES), ("histogram", HISTOGRAMS)):
        for name, labels in expected.items():
            family = families.pop(f"streamguard_{name}")
            assert family.type == kind
            assert family.documentation.endswith(".")
            assert {label for sample in family.samples for label in sample.labels} - {"le"} == labels
    assert families == {}, "undeclared in this test"


def test_two_registries_share_nothing():
    first, second = Metrics(CollectorRegistry()), Metrics(CollectorRegistry())
    first.frames_decoded.labels("a").inc()
    assert second.registry.get_sample_value("streamguard_frames_decoded_total", {"stream": "a"}) is None


def test_a_stream_that_is_forgotten_keeps_its_counters_and_loses_its_gauges():
    metrics = touched()
    metrics.forget_stream("x")
    metrics.forget_stream("never seen")
    value = metrics.registry.get_sample_value
    assert value("streamguard_frames_decoded_total", {"stream": "x"}) == 1
    assert value("streamguard_stream_up", {"stream": "x"}) is None
    assert value("streamguard_stream_state", {"stream": "x", "state": "x"}) is None
