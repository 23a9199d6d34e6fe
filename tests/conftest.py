"""What tests of several wings share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from streamguard.config import ClassifierChoice, Config
from streamguard.delivery.evidence import EvidenceSettings
from streamguard.inference.engines import load_engine
from streamguard.ingest.source import open_source
from streamguard.metrics import Metrics
from streamguard.pipeline import Guard
from tests.engines import flagging


@pytest.fixture(scope="session")
def flags_everything(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped classifier with thresholds that every face is over: a folder."""
    return flagging(tmp_path_factory.mktemp("engine"))


@pytest.fixture
def damaged_engine(tmp_path: Path) -> Path:
    """A folder with the classifier, one bit of its model flipped."""
    folder = tmp_path / "damaged"
    shutil.copytree(load_engine("deepfake-steady").folder, folder)
    model = folder / "model.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    return folder


@pytest.fixture(scope="session")
def demo_evidence(flags_everything: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Evidence of some seconds of the demo, by the real chain: the folder of one segment. Not to be changed."""
    root = tmp_path_factory.mktemp("evidence")
    config = Config(
        node="studio",
        classifier=ClassifierChoice(engine=str(flags_everything)),
        evidence=EvidenceSettings(folder=str(root), pre=1.0, post=1.0, longest=2.0, reserve_bytes=0),
    )
    events = []
    guard = Guard(config, metrics=Metrics(CollectorRegistry()), on_event=events.append)
    guard.add(open_source("demo:?seed=2&duration=5&pace=0", name="door"))
    assert guard.run().failures == {}
    named = {event["data"]["evidence"]["folder"] for event in events if ".segment." in event["type"]}
    assert len(named) == 1, "opened, updated and closed name one folder"
    return root / named.pop()
