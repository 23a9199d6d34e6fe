"""Figures, operating points and the card."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("torch")

from streamguard.decision.statistics import SPREAD
from streamguard.errors import UsageError
from streamguard.lab import calibrate as calibrate_module
from streamguard.lab.augment import Crop
from streamguard.lab.batches import Mixture
from streamguard.lab.calibrate import HIGHEST, Maxima, Rule, calibrate, operating_points
from streamguard.lab.card import card
from streamguard.lab.probe import probe, quality_features
from streamguard.lab.scoring import Track, faces_of, peak, tracks_of
from streamguard.lab.statistics import auc, ece, interval, platt, poisson, wilson

pytestmark = pytest.mark.lab


def test_auc_counts_ties_half():
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auc([1, 1, 1, 1], [0, 1, 0, 1]) == 0.5
    with pytest.raises(UsageError, match="2 real and 0 fake"):
        auc([1, 2], [0, 0])


def test_ece_is_nil_for_honest_shares():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-logits))
    assert ece(logits, labels) < 0.01
    assert ece(logits * 4, labels) > 0.08


def test_platt_undoes_scale_and_shift():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, 40_000)
    labels = rng.random(40_000) < 1 / (1 + np.exp(-logits))
    temperature, bias = platt((logits - 1) * 3, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    assert bias == pytest.approx(1, abs=0.06)
    with pytest.raises(UsageError, match="learnt nothing"):
        platt(-logits, labels)
    with pytest.raises(UsageError, match="both classes"):
        platt([1.0, 2.0], [1, 1])


def test_an_interval_widens_with_dependence():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 2
    scores = labels + rng.normal(0, 1.2, 400)
    alone, twins = (interval(auc, scores, labels, np.arange(400) // k) for k in (1, 40))
    assert alone[0] < auc(scores, labels) < alone[1]
    assert alone[1] - alone[0] < 0.12
    assert twins != alone


def test_wilson_at_the_edges():
    assert wilson(0, 20) == pytest.approx((0.0, 0.161), abs=1e-3)
    assert wilson(20, 20)[1] == 1.0
    with pytest.raises(UsageError):
        wilson(0, 0)


def test_poisson_bounds_are_garwoods():
    assert poisson(0) == pytest.approx((0.0, 3.689), abs=1e-3)
    assert poisson(3) == pytest.approx((0.619, 8.767), abs=1e-3)
    with pytest.raises(UsageError, match="a count of -1"):
        poisson(-1)


def brightness(pictures):
    return pictures.reshape(len(pictures), -1).mean(1).astype(np.float32) / 40 - 3


def test_faces_are_the_same_each_time(made_store):
    first, second = (faces_of(made_store, "search", Crop(32), each=4) for _ in range(2))
    assert (first.pictures == second.pictures).all()
    assert set(first.kind) == {"plain", "chain", "forged"}
    assert first.where("plain", "dfdc").size == 8
    assert first.label[first.where("forged")].mean() == 0.5


def test_tracks_end_with_the_video(made_store):
    tracks = tracks_of(made_store, "calibration", Crop(32))
    assert [len(t.pts) for t in tracks] == [12, 12]
    assert tracks[0].pictures.shape == (12, 32, 32, 3)


def test_the_peak_follows_the_statistic():
    times = np.arange(40, dtype=np.float32) / 5
    level, rise = peak(times, np.full(40, 3.0))
    assert level == pytest.approx(2.9, abs=0.1)
    assert rise < 0.1
    assert peak(times, np.full(40, -3.0))[0] < 0
    assert peak(times, np.where(times < 5, -3.0, 0.0))[1] > 1.5  # the level stays low, but it is no longer the track's
    assert peak(times[:3], np.full(3, 9.0)) == (-np.inf, -np.inf)  # less than a second says nothing


def maxima(level, rise):
    return Maxima(np.array(level, np.float64), np.array(rise, np.float64))


def test_thresholds_lie_above_what_real_faces_reached():
    real, talking = np.linspace(-4, 1, 1000), maxima([-1.0, 0.3], [0.1, 0.4])
    quiet = maxima(np.linspace(-3, 0, 2000), np.linspace(0, 0.2, 2000))
    points = operating_points(real, talking, quiet)
    assert points["sensitive"]["threshold"] <= points["default"]["threshold"] <= points["strict"]["threshold"]
    assert points["default"]["threshold"] >= 0.8
    assert points["default"]["rise"] == pytest.approx(0.4 + SPREAD)
    assert "nothing is guaranteed" in points["default"]["promise"]
    assert operating_points(real, maxima([3.9], [0.0]), quiet)["default"]["threshold"] == HIGHEST


def test_minutes_raise_both_floors_by_as_much_as_few_of_them_pass():
    real, talking = np.linspace(-4, -3, 100), maxima([-3.0], [0.1])
    floors = operating_points(real, talking, maxima(np.full(99, -4.0), np.zeros(99)))["default"]
    assert (floors["threshold"], floors["rise"]) == (pytest.approx(-2.5), pytest.approx(0.1 + SPREAD))
    steps = np.arange(99) / 100
    for loud in (
        maxima(floors["threshold"] + steps, np.zeros(99)),
        maxima(np.full(99, -4.0), floors["rise"] + steps),
        maxima(np.where(np.arange(99) % 2, floors["threshold"] + steps, -4.0), floors["rise"] + steps),
    ):
        points = operating_points(real, talking, loud)
        assert points["default"]["threshold"] == pytest.approx(floors["threshold"] + 0.98, abs=0.002)
        assert points["default"]["rise"] == pytest.approx(floors["rise"] + 0.98, abs=0.002)
        assert loud.flagged(points["default"]["threshold"], points["default"]["rise"]) <= 1
        assert "strict" not in points  # 0.1 % needs ten times as many
    with pytest.raises(UsageError, match="98 simulated minutes are too few"):
        operating_points(real, talking, maxima(loud.level[:98], loud.rise[:98]))


def test_a_fresh_minute_passes_as_seldom_as_is_promised():
    """Minutes whose level and rise have nothing to do with each other: 1 % is the share of both together."""
    rng = np.random.default_rng(4)
    real, talking = np.linspace(-4, -3, 100), maxima([-3.0], [0.1])
    shares = []
    for _ in range(1000):
        seen, fresh = (maxima(rng.normal(-2, 1, n), rng.exponential(0.4, n)) for n in (200, 2000))
        point = operating_points(real, talking, seen)["default"]
        shares.append(fresh.flagged(point["threshold"], point["rise"]) / 2000)
    assert 0.009 < np.mean(shares) < 0.0105


def test_calibration_needs_a_track(made_store, monkeypatch):
    monkeypatch.setattr(calibrate_module, "POINTS", {"default": Rule(0.9, 0.98, 0.5, 1.0)})
    faces = faces_of(made_store, "calibration", Crop(32), each=4)
    short = Track("a", np.array([0.0, 0.2], np.float32), faces.pictures[:2])
    scorer = lambda pictures: brightness(pictures) * 0 + np.resize([0.0, 1.0, -0.5], len(pictures))  # noqa: E731
    labels = np.resize([0, 1, 0], len(faces.label)).astype(np.uint8)
    object.__setattr__(faces, "label", labels)
    times = np.arange(40, dtype=np.float32) / 5
    filmed = [(times, np.full(40, raw, np.float32)) for raw in (-1.0, 0.0)]
    with pytest.raises(UsageError, match=r"no real track of the calibration part lasts 2\.0 s"):
        calibrate(scorer, faces, [short], filmed)
    found = calibrate(scorer, faces, tracks_of(made_store, "calibration", Crop(32)), filmed)
    assert found.temperature > 0
    assert set(found.points) == {"default"}


def test_the_probe_sees_quality_and_only_that(made_store):
    rng = np.random.default_rng(0)
    assert quality_features(rng.integers(0, 255, (32, 32, 3), np.uint8)).shape == (16,)
    found = probe(made_store, Mixture(batch=8, crop=Crop(32)), batches=6)
    assert set(found) == {"pairs", "supplied"}
    assert all(0 <= value <= 1 for value in found.values())


def stage(families="all", policy="forensic", twins=0):
    return {"steps": 9, "rate": 5e-4, "families": families, "policy": policy, "twins": twins}


def lineage(*stages, engines=(), whole=True):
    return {"stages": list(stages), "seconds": 60.0, "engines": list(engines), "whole": whole}


@pytest.fixture
def metrics():
    figure = {"value": 0.9, "low": 0.85, "high": 0.94}
    point = {"threshold": 1.0, "rise": 0.9, "promise": "Observed, not guaranteed."}
    row = {"people": "measure", "variant": "fp32", "tracks": 9, "scores": 99, "above_zero": 0.1, "above_default": 0.0}
    words = ("name", "version", "date", "net", "pretrained", "machine", "command", "resampler", "cores")
    numbers = ("parameters", "steps", "minutes", "batch", "size", "margin", "bins", "people", "people_fit", "ms_fp32")
    more = ("people_calibration", "people_measure", "probe_supplied", "probe_pairs", "ms_int8", "ece_fp32")
    return {
        "lineage": lineage(stage()), "searched": False,
        **dict.fromkeys(words, "word"), **dict.fromkeys((*numbers, *more), 1.5), "int8_loss": 0.001, "int8_ships": True,
        "data": [{"source": "dfdc", "used": "both", "faces": 9}], "tracks": [{**row, "flagged": 0}],
        "figures": [{"name": "plain, dfdc", "n": 9, "fp32": figure, "int8": figure}],
        "points": {"fp32": {"default": point}},
    }  # fmt: skip


def test_the_card_holds_the_figures(metrics):
    text = card(metrics)
    assert "| plain, dfdc | 9 | 0.900 (0.850-0.940) |" in text
    assert "Observed, not guaranteed." in text
    assert "{" not in text
    assert "does not ship" in card({**metrics, "int8_ships": False, "int8_loss": 0.02})


def test_the_card_says_what_the_net_was_shown_and_what_never(metrics):
    text = card(metrics)
    assert "No family or source of forgeries that the lab has was left out." in text
    assert "**A first cut**" in text
    narrow = stage("all,-warp,-parts,-stylegan", "paper")
    text = card({**metrics, "lineage": lineage(narrow), "searched": True})
    assert "**Never shown**, neither forged nor supplied: `parts`, `warp`, `stylegan`." in text
    assert "`paper`: flips" in text
    assert "search.md" in text
    assert "augmentation: 9 at 0.0005 on `all,-warp,-parts,-stylegan` (`paper`)." in text
    assert "A first cut" not in text
    both = card({**metrics, "lineage": lineage(narrow, stage("self-blended,-supplied", twins=8))})
    assert "`parts`, `warp`, `stylegan`" in both, "what neither run was shown"
    assert "`paper`: flips" in both
    assert "`forensic`: resizing" in both
    assert "Each run went on from the one before (`--start`); steps, " in both
    assert "9 at 0.0005 on `self-blended,-supplied` (`forensic`, 8 twins a step)" in both


def test_the_card_names_the_engines_that_training_went_on_from(metrics):
    assert "Training went on" not in card(metrics)
    text = card({**metrics, "lineage": lineage(stage(), engines=["one 1.0 (abc)", "two 2.0 (def)"])})
    assert "Training went on from weights of `one 1.0 (abc)`, then of `two 2.0 (def)`." in text
    narrow = lineage(stage("all,-warp"), engines=["one 1.0 (abc)"], whole=False)
    text = card({**metrics, "lineage": narrow})
    assert "`one 1.0 (abc)`, whose own training is not written down and not counted here." in text
    assert "What the engine that training went on from was shown is not written down." in text
    assert "Never shown" not in text


def test_the_card_refuses_what_was_not_measured(metrics):
    for name in metrics:
        with pytest.raises(UsageError, match=name.split("_")[0]):
            card({k: v for k, v in metrics.items() if k != name})
    with pytest.raises(UsageError, match=r"metrics\.lineage\.stages"):
        card({**metrics, "lineage": lineage()})
    for bad in ("", " ", None, float("nan"), []):
        with pytest.raises(UsageError, match=r"metrics\.date"):
            card({**metrics, "date": bad})
    broken = json.loads(json.dumps(metrics))
    broken["figures"][0]["int8"]["low"] = float("nan")
    with pytest.raises(UsageError, match=r"figures\[0\]\.int8\.low"):
        card(broken)
