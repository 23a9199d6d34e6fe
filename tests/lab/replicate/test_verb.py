"""``lab replicate`` end to end on made faces, broken off once; and the pictures that its cases are made of."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("timm")

from streamguard.errors import UsageError
from streamguard.frames import Box, Face
from streamguard.lab.augment import Crop
from streamguard.lab.facefile import Done, FaceCut, FaceFile
from streamguard.lab.layouts import Clip
from streamguard.lab.replicate import pictures, training, verb
from streamguard.lab.replicate.arms import ArmsConfig
from streamguard.lab.replicate.pictures import framing_of, framing_scores
from streamguard.lab.replicate.training import Recipe
from streamguard.lab.replicate.verb import ReplicateConfig, Tools, replicated
from streamguard.lab.statistics import auc
from streamguard.lab.subjects import Subject

pytestmark = pytest.mark.lab
ARMS = ArmsConfig(couples=3, each=6, size=64, steps=2, trained=("blends", "dfdc"))
CONFIG = ReplicateConfig(4, Recipe(32, 2, 2, pretrained=False), films=12, arms=ARMS)


def middle(picture):
    """A finder of faces: the middle of the picture."""
    side = min(picture.width, picture.height)
    return [Face(Box(0.2 * side, 0.2 * side, 0.8 * side, 0.8 * side), 0.9)]


TOOLS = Tools(middle, Subject("deepfake-steady", Crop(32), lambda p: -p.astype(np.float32).mean((1, 2, 3))))


def test_it_is_measured_by_both_protocols_and_goes_on(meshed_store, tmp_path, monkeypatch):
    monkeypatch.setattr("streamguard.lab.statistics.RESAMPLES", 20)
    monkeypatch.setattr("streamguard.lab.replicate.protocol.SHARE", 0.5)  # few groups: both labels on either side
    real, calls = training.Trainee.follow, []

    def until_fifth(self, *args):
        calls.append(self.folder.name)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(self, *args)

    monkeypatch.setattr(training.Trainee, "follow", until_fifth)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt):
        replicated(meshed_store, out, CONFIG, TOOLS)
    with pytest.raises(UsageError, match="Add --resume"):
        replicated(meshed_store, out, CONFIG, TOOLS)
    metrics = replicated(meshed_store, out, CONFIG, TOOLS, resume=True)
    assert calls[:4] == ["OpenForensics-whole-paper"] * 2 + ["OpenForensics-whole-ours"] * 2
    assert calls.count("OpenForensics-whole-paper") == 2  # finished epochs are not trained again
    rows = metrics["cases"]
    assert [(row["case"], row["protocol"], row["net"]) for row in rows] == [
        ("case 1", "paper", "efficient"), ("case 1", "paper", "framing only"),
        ("case 1", "ours", "efficient"), ("case 1", "ours", "framing only"),
        ("case 2", "paper", "vanilla"), ("case 2", "ours", "vanilla"),
        ("case 2", "paper", "vanilla"), ("case 2", "ours", "vanilla"),
    ]  # fmt: skip
    assert all(set(row["figures"]) == {"accuracy", "precision", "recall", "F1", "AUC"} for row in rows)
    assert all(row["test pictures with kin in training"] == 0 for row in rows if row["protocol"] == "ours")
    assert len(rows[4]["curves"]["test accuracy"]) == 2
    assert [row["cut"] for row in metrics["films"]] == ["by frame", "by film"]
    arms = {row["arm"]: row for row in metrics["arms"]}
    assert list(arms) == ["deepfake-steady", "LBP histogram", "DCGAN discriminator", "rate of change", "CNN, mean",
                          "CNN + GRU", "CNN + Bi-LSTM"]  # fmt: skip
    assert set(arms["LBP histogram"]["adds"]) == {"value", "low", "high", "earns"}
    assert "adds" not in arms["deepfake-steady"]
    assert metrics["title"] == "8 pictures, 32 px, 2 epochs"
    assert len(list(out.glob("curves-*.png"))) == 3
    assert json.loads((out / "metrics.json").read_text())["told"] == {"case 1": 0.895, "case 2": 0.9881}


def test_a_part_that_is_none_is_told(tmp_path):
    with pytest.raises(UsageError, match="--parts 'cases,tables': choose of cases, films, arms"):
        verb.replicate(out=tmp_path, parts="cases,tables")


def test_case_two_is_what_the_detector_finds(made_store):
    seen = []

    def every_second(picture):
        seen.append(picture)
        return middle(picture) if len(seen) % 2 else []

    case = pictures.found(made_store, "dfdc", None, 32, 1, every_second)
    assert case.of.pictures.shape == (4, 32, 32, 3)
    assert case.missed == (2, 2)
    with pytest.raises(UsageError, match="'dfdc' gave no real or no fake picture"):
        pictures.found(made_store, "dfdc", None, 32, 1, lambda _: [])


def test_case_one_is_the_whole_picture(made_store):
    case = pictures.whole(made_store, "openforensics", 2, 32, 1)
    assert case.of.label.tolist() == [0, 0, 1, 1]
    assert case.framing.shape == (4, 6)
    again = pictures.Case.held(case.arrays())
    assert np.array_equal(again.framing, case.framing)
    assert again.missed == (0, 0)


def test_framing_knows_where_and_not_what():
    told = framing_of((100, 200, 3), Box(50, 20, 90, 70))
    assert told == pytest.approx([0.35, 0.45, 0.2, 0.5, 0.8, 2.0])
    rng = np.random.default_rng(0)
    framing = rng.normal(0.5, 0.05, (80, 6)).astype(np.float32)
    label = np.arange(80) % 2
    framing[label == 1, 3] += 0.2  # fakes are framed closer
    assert auc(framing_scores(framing[:40], label[:40], framing[40:]), label[40:]) > 0.9


def test_a_face_file_is_a_case(tmp_path):
    file = FaceFile.create(tmp_path / "faces.h5", {}, 64)
    for label, people in (("real", ("id0",)), ("fake", ("id0", "id1"))):
        name = f"{label}.mp4"
        clip = Clip(name, label, "celeb-df-v2", "none", people, name, "", tmp_path / name)
        cut = FaceCut(np.full((64, 64, 3), 90, np.uint8), Box(1, 2, 3, 4), Box(8, 8, 56, 56), 0, 0.0, 1, 0.9, 7)
        file.append(clip, [cut, cut], Done(name, label, 2, {}))
    case = pictures.filed(tmp_path / "faces.h5", 1, 32, 1)
    assert case.of.label.tolist() == [0, 1]
    assert case.of.group.tolist() == ["id0", "id0|id1"]
    assert case.of.pictures.shape == (2, 32, 32, 3)
