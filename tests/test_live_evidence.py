"""Evidence of a live camera on a real RTSP server, with sound: a clip that says the same when it is replayed."""

from __future__ import annotations

import json
import time

import av
import cv2
import pytest
from prometheus_client import CollectorRegistry

from streamguard.config import ClassifierChoice, Config
from streamguard.delivery.dossier import dossiers
from streamguard.delivery.evidence import EvidenceSettings
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.pixels import rgb_of
from streamguard.replay import replay
from tests.rtsp_server import RtspServer, require, write_clip

pytestmark = [pytest.mark.servers, pytest.mark.slow]


@pytest.fixture
def camera(tmp_path):
    """Two seconds of the demo's camera, over and over, a keyframe a second, with sound."""
    require()
    with open_source("demo:?seed=5&duration=2&pace=0").open(1) as connection:
        frames = [cv2.resize(rgb_of(frame.picture), (640, 360)) for frame in connection]
    with RtspServer(write_clip(tmp_path / "faces.units", frames), audio=True) as server:
        yield server


def test_a_live_segment_is_kept_with_its_sound_and_replays_the_same(camera, flags_everything, tmp_path):
    kept = EvidenceSettings(folder=str(tmp_path / "kept"), pre=2.0, post=1.0, longest=5.0, reserve_bytes=0)
    config = Config(classifier=ClassifierChoice(engine=str(flags_everything)), evidence=kept)
    events = []
    with Guard(config, metrics=Metrics(CollectorRegistry()), on_event=events.append) as guard:
        guard.add(open_source(camera.url, name="door"))
        due = time.monotonic() + 120
        while not (folders := list(dossiers(tmp_path / "kept"))):
            assert time.monotonic() < due, events
            time.sleep(0.1)
    folder = folders[0]
    named = {event["data"]["evidence"]["folder"] for event in events if ".segment." in event["type"]}
    assert str(folder.relative_to(tmp_path / "kept")) in named
    scores = json.loads((folder / "scores.json").read_text())
    assert scores["clip"]["file"] == "clip.mov", "MP4 takes no G.711"
    assert (scores["clip"]["video"], scores["clip"]["audio"]) == ("h264", "pcm_alaw")
    with av.open(str(folder / "clip.mov")) as clip:
        heard = [packet.pts * packet.time_base for packet in clip.demux(audio=0) if packet.size]
    with av.open(str(folder / "clip.mov")) as clip:
        seen = [packet.pts * packet.time_base for packet in clip.demux(video=0) if packet.size]
    assert max(seen) - min(seen) >= 3
    assert max(heard) - min(heard) >= 0.8 * (max(seen) - min(seen))
    result = replay(folder)
    assert result.holds, result
    assert len(result.lines) >= 10
    assert all(line.same_pixels for line in result.lines)
