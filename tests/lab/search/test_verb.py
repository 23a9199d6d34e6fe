"""``lab search`` end to end on made faces: broken off, gone on with, refused for what it is not, and reported."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("optuna")
pytest.importorskip("timm")
pytest.importorskip("onnx")

from streamguard.errors import UsageError
from streamguard.lab import course
from streamguard.lab.pictures import PictureBatches, Pictures
from streamguard.lab.pool import Pool
from streamguard.lab.search import material, spaces, trial, verb
from streamguard.lab.search.material import Edge, MaterialConfig, PaperMaterial, PooledBatches
from streamguard.lab.search.spaces import PAPER, SCRATCH, Choice, Range, Space, read_design
from streamguard.lab.search.verb import SearchConfig, searched
from streamguard.lab.train import TrainConfig, designed, net_of
from tests.lab.search.test_nets import TINY, scratch

pytestmark = [pytest.mark.lab, pytest.mark.filterwarnings("ignore")]  # torch's tracing exporter is deprecated
FIXED = {name: Choice(name, (value,)) for name, value in TINY.items() if not isinstance(value, float)}
SMALL = Space("edge/scratch", tuple(
    Choice("width", (12, 16)) if p.name == "width" else
    Choice("augment", ("forensic", "forensic+cutout")) if p.name == "augment" else
    Choice("mask", (0.0, 1.0)) if p.name == "mask" else
    Choice("block", ("vanilla", "resnet")) if p.name == "block" else
    p if isinstance(p, Range) or p.name in ("expand", "squeeze") else
    Choice(p.name, (TINY[p.name],), p.when, p.among)
    for p in SCRATCH.parameters
))  # fmt: skip
MADE = MaterialConfig(couples=4, each=6, batch=8, trained=("blends", "dfdc"), compared=("parts", "openforensics"))
CONFIG = SearchConfig("edge", trials=3, epochs=2, seeds=1, rounds=2, pretrained=False, material=MADE)


@pytest.fixture
def small(monkeypatch):
    """The scratch study alone, hardly anything to choose."""
    monkeypatch.setattr(verb, "AUGMENT", ("forensic", "forensic+cutout"))
    monkeypatch.setattr(verb, "SPACES", {"edge": (SMALL,), "paper2025": (PAPER,)})
    monkeypatch.setattr(verb, "LIMITS", verb.NO_LIMITS)
    monkeypatch.setattr(trial, "LIMITS", verb.NO_LIMITS)


def rows_of(out):
    with (out / "trials.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_search_that_is_broken_off_goes_on_and_reports(meshed_store, tmp_path, small, monkeypatch):
    out, real, calls = tmp_path / "run", course.Trainee._step, []
    monkeypatch.setattr(course, "SAVE_EVERY", 1)

    def until_fourth(self, step, batch):
        calls.append(step)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(self, step, batch)

    monkeypatch.setattr(course.Trainee, "_step", until_fourth)
    with pytest.raises(KeyboardInterrupt):
        searched(meshed_store, out, CONFIG)
    with pytest.raises(UsageError, match="Add --resume"):
        searched(meshed_store, out, CONFIG)
    with pytest.raises(UsageError, match="begun with other values of epochs"):
        searched(meshed_store, out, replace(CONFIG, epochs=3), resume=True)
    metrics = searched(meshed_store, out, CONFIG, resume=True)
    assert calls[3] == calls[4]  # the step that was broken off is taken again, none before it
    rows = rows_of(out)
    assert sorted(row["bracket"] for row in rows) == ["edge/scratch/random/1"] * 3 + ["edge/scratch/tpe/1"] * 3
    assert {row["state"] for row in rows} <= {"finished", "stopped"}
    best = max((row for row in rows if row["state"] == "finished"), key=lambda row: float(row["score"]))
    assert metrics["winner"]["score"] == pytest.approx(float(best["score"]), abs=0.006)
    assert {"ms", "ratio", "parameters", "macs", "naswot", "parts", "openforensics"} <= {
        k for k, v in best.items() if v
    }
    assert metrics["left"] == 0
    assert read_design((out / "winner.json").read_text()).space == "edge/scratch"
    assert json.loads((out / "metrics.json").read_text())["command"].startswith("streamguard lab search --space edge")
    assert all((out / name).is_file() for name in ("history.png", "pareto.png", "importances.png", "study.db"))
    assert not list((out / "trials").rglob("last.pt"))
    with pytest.raises(UsageError, match="begun with other values of"):
        searched(meshed_store, out, replace(CONFIG, space="paper2025"), resume=True)


def test_scores_follow_from_the_seed_alone(meshed_store, tmp_path, small):
    scores = []
    for before in (1, 2):  # whatever was drawn before in this process
        torch.manual_seed(before)
        searched(meshed_store, tmp_path / str(before), replace(CONFIG, trials=2))
        scores.append([(row["bracket"], row["score"]) for row in rows_of(tmp_path / str(before))])
    assert scores[0] == scores[1]


def test_a_trial_that_diverges_is_named_and_the_rest_goes_on(meshed_store, tmp_path, small, monkeypatch):
    real = Edge.course

    def wild(self, design, epochs):
        found = real(self, design, epochs)
        return replace(found, rate=float("inf"), warm_up=0, clip=0.0) if design["width"] == 12 else found

    monkeypatch.setattr(Edge, "course", wild)
    config = replace(CONFIG, trials=4, epochs=1)
    metrics = searched(meshed_store, tmp_path / "run", config)
    rows = rows_of(tmp_path / "run")
    failed = [row for row in rows if row["state"] == "failed"]
    assert {row["width"] for row in failed} == {"12"}
    assert all(row["reason"].startswith("diverged: ") and "nan" in row["reason"] for row in failed)
    assert {row["width"] for row in rows if row["state"] == "finished"} == {"16"}
    assert len(rows) == 8
    assert read_design(metrics["design"])["width"] == 16


def test_a_budget_that_ends_leaves_trials_to_go_on_with(meshed_store, tmp_path, small):
    out = tmp_path / "run"
    metrics = searched(meshed_store, out, replace(CONFIG, minutes=0.0))
    assert "winner" not in metrics
    assert not (out / "winner.json").exists()
    assert rows_of(out) == []
    metrics = searched(meshed_store, out, replace(CONFIG, trials=1, epochs=2), resume=True)
    assert metrics["winner"]["name"].startswith("edge/scratch/")


def test_designs_beyond_the_limits_are_refused_before_training(meshed_store, tmp_path, small, monkeypatch):
    from streamguard.lab.search.rules import Limits

    monkeypatch.setattr(verb, "LIMITS", Limits(1e-9, 10))
    monkeypatch.setattr("streamguard.lab.search.study.MOST_REFUSED", 2)
    trained = []
    monkeypatch.setattr(course.Trainee, "_step", lambda *_: trained.append(1))
    metrics = searched(meshed_store, tmp_path / "run", replace(CONFIG, trials=1))
    rows = rows_of(tmp_path / "run")
    assert {row["state"] for row in rows} == {"refused"}
    assert all("beyond the limit of ms and parameters" in row["reason"] for row in rows)
    assert (trained, metrics["left"]) == ([], 0)


def test_the_papers_search_ends_with_its_winner_trained(made_store, tmp_path, monkeypatch):
    monkeypatch.setattr(verb, "PAPER_EPOCHS", 2)
    monkeypatch.setattr(material, "PAPER_SIZE", 32)
    monkeypatch.setattr(spaces, "PAPER_SIZE", 32)
    config = SearchConfig("paper2025", trials=2, epochs=1, rounds=2, pretrained=False,
                          material=MaterialConfig(couples=4, each=4, batch=2))  # fmt: skip
    metrics = searched(made_store, tmp_path / "run", config)
    assert list(metrics["brackets"]) == ["paper2025/tpe/1"]
    assert metrics["rungs"] == [1]
    assert set(metrics["final"]) == {"loss", "accuracy", "auc of part search"}
    again = searched(made_store, tmp_path / "run", config, resume=True)
    assert again["final"] == metrics["final"]


def test_several_processes_share_the_trials(made_store, tmp_path):
    config = SearchConfig("paper2025", trials=2, epochs=1, rounds=2, pretrained=False, processes=2, minutes=0.0,
                          material=MaterialConfig(couples=4, each=4, batch=4))  # fmt: skip
    assert searched(made_store, tmp_path / "run", config)["left"] == 0


def test_an_unknown_space_is_told():
    with pytest.raises(UsageError, match=r"--space .cloud. is unknown\. Known: paper2025, edge"):
        verb.search(out=None, space="cloud")


def test_what_is_compared_is_never_trained_on(meshed_store, tmp_path):
    edge = Edge(meshed_store, tmp_path, MADE, ("forensic", "forensic+cutout"))
    pool = edge._pools["forensic"]
    assert set(pool.family) == {"dfdc", "self-blended", "two-identity", "poisson"}
    assert {family for of in edge._held.values() for family in of} == {"parts", "openforensics"}
    assert list(edge._pools) == ["forensic"]  # holes come when a couple is drawn
    with pytest.raises(UsageError, match="'magic' is no group"):
        Edge(meshed_store, tmp_path / "other", replace(MADE, compared=("magic",)), ("forensic",))


def test_couples_come_with_where_they_were_changed():
    pictures = np.full((2, 2, 16, 16, 3), 90, np.uint8)
    pictures[:, 1, :8, :8] = 200
    pool = Pool(pictures, np.array(["self-blended", "dfdc"]), np.array(["dfdc", "dfdc"]))
    batch = PooledBatches(pool, 16, 8, 1, cutout=False)[0]
    assert batch.labels.tolist() == [0, 1] * 4
    assert batch.changed[0::2].max() == 0
    known = np.isfinite(batch.changed[1::2]).all((1, 2))
    assert 0 < known.sum() < 4  # of a supplied fake nobody knows
    assert batch.changed[1::2][known].mean() == pytest.approx(0.25)
    holed = PooledBatches(pool, 16, 8, 1, cutout=True)[0].pictures
    assert (holed == 127).any()
    assert PooledBatches(pool, 8, 8, 1, cutout=False)[0].pictures.shape == (8, 8, 8, 3)


def test_every_picture_comes_once_an_epoch():
    pictures = np.arange(8, dtype=np.uint8)[:, None, None, None] * np.ones((1, 16, 16, 3), np.uint8)
    of = Pictures(pictures, np.arange(8, dtype=np.uint8) % 2, np.array(list("abcdefgh")))
    batches = PictureBatches(of, 4, 1, augment=False)
    first = np.concatenate([batches[step].pictures[:, 0, 0, 0] for step in (0, 1)])
    second = np.concatenate([batches[step].pictures[:, 0, 0, 0] for step in (2, 3)])
    assert sorted(first) == sorted(second) == list(range(8))
    assert first.tolist() != second.tolist()
    augmented = PictureBatches(of, 4, 1, augment=True)
    assert not np.array_equal(augmented[0].pictures, batches[0].pictures)
    assert np.array_equal(augmented[0].pictures, augmented[0].pictures)


def test_the_papers_score_is_a_loss_on_pictures_of_known_recordings(made_store, tmp_path):
    paper = PaperMaterial(made_store, tmp_path, MaterialConfig(couples=4, each=4, batch=2))
    assert len(paper._fit.label) == 6
    assert len(paper._rest.label) == 2
    assert not set(paper._honest.group) & {*paper._fit.group, *paper._rest.group}


def test_train_builds_what_the_search_found():
    config = designed(TrainConfig(), scratch(mask=0.25, rate=1e-3, smoothing=0.05))
    assert (config.size, config.rate, config.smoothing, config.mask) == (96, 1e-3, 0.05, 0.25)
    net = net_of(config, pretrained=True)
    assert net.mask is not None
    assert read_design(config.architecture)["block"] == "resnet"
