"""Evidence of what a peer sends: none unless told; when told, a clip that was encoded again."""

import asyncio
import json

import av
import cv2
import pytest
from prometheus_client import CollectorRegistry

from streamguard.access import WebRtcSettings
from streamguard.config import ClassifierChoice, Config
from streamguard.delivery.dossier import dossiers
from streamguard.delivery.evidence import EvidenceSettings
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from streamguard.pixels import rgb_of
from streamguard.replay import replay
from tests.peers import Camera, Sender, h264, until
from tests.serving import serving


@pytest.fixture(scope="module")
def face():
    """Two seconds of the demo's camera, 640x360."""
    with open_source("demo:?seed=5&duration=2&pace=0").open(1) as connection:
        return h264((cv2.resize(rgb_of(frame.picture), (640, 360)) for frame in connection), fps=25)


@pytest.mark.slow
@pytest.mark.parametrize("record", [False, True])
def test_evidence(face, flags_everything, tmp_path, record):
    folder, events = tmp_path / "kept", []
    kept = EvidenceSettings(folder=str(folder), pre=1.0, post=1.0, longest=3.0, reserve_bytes=0)
    config = Config(classifier=ClassifierChoice(engine=str(flags_everything)), evidence=kept)
    guard = Guard(config, metrics=Metrics(CollectorRegistry()), on_event=events.append)
    settings = WebRtcSettings(addresses=("127.0.0.1",), record=record, connecting=60.0, silence=60.0)

    async def scenario(served):
        async with Sender(served.server.url, served.sender, "cam", Camera(face, fps=25)) as sender:
            assert await sender.open() == 201
            await until(lambda: [event for event in events if "segment.updated" in event["type"]])
            if record:
                await until(lambda: list(dossiers(folder)))
            await sender.end()

    with guard, serving(tmp_path, guard=lambda: guard, webrtc=settings) as served:
        asyncio.run(scenario(served))
    segments = [event["data"] for event in events if ".segment." in event["type"]]
    assert segments
    if not record:
        assert {segment["evidence"] for segment in segments} == {None}
        assert list(folder.iterdir()) == [], "not even a still"
        return
    (one,) = list(dossiers(folder))
    scores = json.loads((one / "scores.json").read_text())
    assert (scores["clip"]["file"], scores["clip"]["video"], scores["clip"]["audio"]) == ("clip.mp4", "h264", None)
    assert scores["clip"]["reencoded"] is True
    with av.open(str(one / "clip.mp4")) as clip:
        seen = [frame.time for frame in clip.decode(video=0)]
    assert max(seen) - min(seen) >= 2
    assert (one / "still.jpg").exists()
    again = replay(one)
    assert again.lines
    assert again.reencoded
    assert all(line.found is not None for line in again.lines), "every picture that was scored is in the clip"
    assert not all(line.same_pixels for line in again.lines), "they were encoded again"
