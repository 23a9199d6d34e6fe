"""Every Prometheus series of StreamGuard, declared once.

A registry is injected, so that two Guards (or two tests) never share a counter. The label ``stream`` is
the stream's name, never its URL.

>>> from prometheus_client import CollectorRegistry
>>> metrics = Metrics(CollectorRegistry())
>>> metrics.frames_decoded.labels("door").inc()
>>> metrics.registry.get_sample_value("streamguard_frames_decoded_total", {"stream": "door"})
1.0
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_STAGE_BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_LATENCY_BUCKETS = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0)


class Metrics:
    """All series, as attributes; ``registry`` is what ``/metrics`` renders."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry = CollectorRegistry() if registry is None else registry

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"streamguard_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"streamguard_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(f"streamguard_{name}", text, labels, buckets=buckets, registry=registry)

        self.frames_decoded = counter("frames_decoded", "Frames decoded.", "stream")
        self.frames_dropped = counter(
            "frames_dropped", "Due frames that were not analysed, by reason.", "stream", "reason"
        )
        self.frames_corrupt = counter("frames_corrupt", "Frames the decoder repaired; not scored.", "stream")
        self.faces_scored = counter("faces_scored", "Faces the classifier scored.", "stream")
        self.faces_skipped = counter("faces_skipped", "Faces not scored, by reason.", "stream", "reason")
        self.stage_duration = histogram(
            "stage_duration_seconds", "Time in one stage, per batch.", _STAGE_BUCKETS, "stage"
        )
        self.frame_to_score = histogram(
            "frame_to_score_seconds", "From a frame's decoding to its scores.", _LATENCY_BUCKETS
        )
        self.batch_size = histogram("batch_size", "Pictures a batch.", (1, 2, 4, 8, 16, 32), "stage")
        self.queue_depth = gauge("queue_depth", "Streams (detect) or faces (classify) that wait.", "stage")
        self.overload_level = gauge("overload_level", "Steps taken against overload at the moment; 0 = none.")
        self.overload_steps = counter("overload_steps", "Steps against overload, by what is done less of.", "step")
        self.stream_up = gauge("stream_up", "1 while the stream delivers frames.", "stream")
        self.stream_state = gauge("stream_state", "1 for the state the stream is in.", "stream", "state")
        self.stream_last_frame = gauge("stream_last_frame_timestamp_seconds", "Unix time of the last frame.", "stream")
        self.stream_reconnects = counter("stream_reconnects", "Connections tried again, by reason.", "stream", "reason")
        self.stream_width = gauge("stream_width_pixels", "Width of the decoded picture.", "stream")
        self.stream_received = counter("stream_received_bits", "Compressed video received.", "stream")
        self.stream_clock_offset = gauge("stream_clock_offset_seconds", "Arrival minus the sender's clock.", "stream")
        self.viewers = gauge("viewers", "Who watches the picture at the moment, by kind.", "stream", "kind")
        self.pictures_encoded = counter("pictures_encoded", "Pictures encoded for viewers.", "stream")
        self.pictures_dropped = counter(
            "pictures_dropped", "Pictures that viewers did not get, by reason.", "stream", "reason"
        )
        self.publish_up = gauge("publish_up", "1 while the picture is published.", "stream")
        self.publish_attempts = counter(
            "publish_attempts", "Attempts to publish the picture, by how they ended.", "stream", "outcome"
        )
        self.segments = counter("segments", "Segments closed, by state.", "stream", "state")
        self.sink_deliveries = counter("sink_deliveries", "Events handed to a sink, by outcome.", "sink", "outcome")
        self.outbox_pending = gauge("outbox_pending", "Events a sink has not taken yet.", "sink")
        self.evidence = counter("evidence", "Segments' evidence, by outcome.", "stream", "outcome")
        self.evidence_bytes = gauge("evidence_bytes", "Evidence that is kept.")
        self.evidence_paused = gauge("evidence_paused", "1 while no evidence can be written.")
        self.http_refused = counter("http_refused", "HTTP requests and connections refused, by reason.", "reason")
        self.webrtc_peers = gauge("webrtc_peers", "WebRTC sessions open: senders (whip), viewers (whep).", "kind")
        self.webrtc_sessions = counter("webrtc_sessions", "WebRTC sessions over, by how.", "kind", "outcome")
        self.outbox_commits = counter("outbox_commits", "Commits of the outbox to its disk, by outcome.", "outcome")
        self.outbox_uncommitted = gauge("outbox_uncommitted", "Events in memory alone: the disk takes none.")
        self.outbox_unmarked = counter("outbox_unmarked", "Events of segments that a crash would leave open.")
        self.fleet_nodes = gauge("fleet_nodes", "Nodes of the fleet, by state.", "state")
        self.fleet_streams = gauge("fleet_streams", "Streams of the fleet: running, starting, unplaced.", "state")
        self.fleet_moves = counter("fleet_moves", "Streams given to a node, by reason.", "reason")
        self.engine_info = gauge("engine_info", "1 for each engine in use.", "name", "sha256", "backend", "variant")

    def forget_stream(self, stream: str) -> None:
        """Drop the gauges of a removed stream; its counters stay, as Prometheus expects."""
        for gauge in (self.stream_up, self.stream_last_frame, self.stream_width, self.stream_clock_offset):
            gauge.remove_by_labels({"stream": stream})
        for gauge in (self.stream_state, self.viewers, self.publish_up):
            gauge.remove_by_labels({"stream": stream})
