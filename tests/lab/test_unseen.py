"""``lab unseen``: each net is shown what it should be, and measured on what it was not."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from streamguard.errors import UsageError
from streamguard.inference.engines import load_engine
from streamguard.lab import cli, unseen
from streamguard.lab.data import STILLS
from streamguard.lab.families import FAMILIES, GROUPS
from streamguard.lab.heldout import SETS
from streamguard.lab.train import design_in, load_state
from streamguard.lab.unseen import ALL, FORGERIES, UnseenConfig, grid, leave_out, omissions, summary

WINNER = load_engine("deepfake-nas").folder / "winner.json"
pytestmark = pytest.mark.lab
TINY = UnseenConfig(minutes=None, steps=1, size=32, couples=2, each=4, batch=4, pretrained=False)


def test_every_group_and_source_is_left_out_once():
    nets = {net.name: net for net in omissions()}
    assert len(nets) == 3 + len(GROUPS) + len(STILLS) + 1
    assert [(net.name, net.seed) for net in nets.values() if not net.families] == [
        (ALL, 0), ("all again", 1), ("all a third time", 2)
    ]  # fmt: skip
    assert nets["without blends"].families == frozenset(GROUPS["blends"])
    assert nets["without dfdc"].grounds == frozenset()
    assert nets["without source dfdc"].grounds == {"dfdc"}
    assert nets[FORGERIES].families == frozenset(STILLS)
    assert {family for of in GROUPS.values() for family in of} == {*STILLS, *FAMILIES}


def test_the_driver_trains_measures_and_goes_on(meshed_store, tmp_path, monkeypatch):
    monkeypatch.setattr("streamguard.lab.statistics.RESAMPLES", 5)
    kept = [net for net in omissions() if net.name in ("all", "all again", "without dfdc", FORGERIES)]
    groups = {"dfdc": ("dfdc",)}
    monkeypatch.setattr(unseen, "omissions", lambda: kept)
    monkeypatch.setattr(unseen, "GROUPS", groups)
    monkeypatch.setattr(unseen, "summary", lambda table: {"nets": list(table)})
    real, calls = unseen.fit, []

    def until_second(*args, **more):
        calls.append(args[1].name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(unseen, "fit", until_second)
    with pytest.raises(KeyboardInterrupt):
        leave_out(meshed_store, tmp_path / "run", TINY)
    metrics = leave_out(meshed_store, tmp_path / "run", TINY, resume=True)
    assert calls == ["all", "without-dfdc", "without-dfdc", "forgeries-alone", "all-again"]
    seeds = {name: load_state(tmp_path / "run/nets" / name)["config"]["seed"] for name in calls}
    assert seeds == {"all": 1, "all-again": 2, "without-dfdc": 1, "forgeries-alone": 1}
    assert metrics["nets"] == [net.name for net in kept]
    assert set(metrics["table"]["all"]) == set(SETS)
    assert metrics["steps"] == dict.fromkeys(metrics["nets"], 1)
    assert metrics["hidden"]["without dfdc"] == ["dfdc"]
    assert (tmp_path / "run/matrix.png").is_file()
    assert json.loads((tmp_path / "run/metrics.json").read_text())["verb"] == "unseen"
    with pytest.raises(UsageError, match="Add --resume"):
        leave_out(meshed_store, tmp_path / "run", TINY)


def test_a_searched_design_brings_its_size_and_rate_but_neither_its_augmentation_nor_its_mask():
    design = design_in(WINNER)
    config = UnseenConfig(minutes=None, steps=5, size=design.size, design=design)
    assert design["augment"] == "paper"
    assert design["mask"] > 0
    assert config.training.architecture == config.net == design.text
    assert (config.training.size, config.training.rate) == (design.size, design["rate"])
    assert (config.training.policy, config.training.mask) == ("forensic", 0.0)


def test_a_design_is_trained_at_its_own_size_and_refuses_another(meshed_store, tmp_path, monkeypatch):
    monkeypatch.setattr("streamguard.lab.statistics.RESAMPLES", 5)
    monkeypatch.setattr(unseen, "omissions", lambda: omissions()[:1])
    monkeypatch.setattr(unseen, "summary", lambda table: {
        "families": {"auc": {}}, "sources": {"auc": {}}, "seeds": {"mean": 0.0, "most": 0.0},
    })  # fmt: skip
    monkeypatch.setattr(unseen, "build_store", lambda *_: meshed_store)
    monkeypatch.setattr(unseen.Dataset, "from_environment", lambda: None)
    out = tmp_path / "run"
    words = ["unseen", "--out", str(out), "--design", str(WINNER), "--steps", "1", "--couples", "4", "--each", "4"]
    with pytest.raises(UsageError, match=r"--size 128: the design '.*winner\.json' takes 112 px"):
        cli.run([*words, "--size", "128"])
    assert not out.exists()
    assert cli.run(words) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["size"] == 112
    assert json.loads(metrics["net"])["space"] == "edge/pretrained"
    assert metrics["command"].endswith("--steps 1 --design winner.json --couples 4 --each 4")


def table(**lower):
    """Everything at 0.9 but what ``lower`` says of (net, set)."""
    found = {net.name: {name: {"plain": {"value": 0.9}} for name in SETS} for net in omissions()}
    for net, (name, value) in lower.items():
        found[net.replace("_", " ")][name]["plain"]["value"] = value
    return found


def test_the_summary_speaks_of_what_was_left_out():
    told = summary(table(without_dfdc=("dfdc", 0.6), without_source_stylegan=("stylegan", 0.7), all=("dfdc", 0.1)))
    assert told["families"]["worst"] == "dfdc"
    assert told["families"]["auc"]["dfdc"] == 0.6
    assert told["families"]["mean"] == pytest.approx(0.9 - 0.3 / len(GROUPS), abs=1e-4)
    assert told["sources"]["auc"] == {"dfdc": 0.9, "openforensics": 0.9, "stylegan": 0.7}
    assert told["forgeries"]["dfdc"]["value"] == 0.9
    assert told["seeds"] == {"mean": pytest.approx(0.8 / len(SETS), abs=1e-4), "most": pytest.approx(0.8)}


def test_the_grid_marks_what_was_never_shown():
    names, columns, values, marked = grid(table())
    assert values.shape == marked.shape == (len(names), len(columns))
    assert not marked[names.index(ALL)].any()
    assert marked[names.index("without source dfdc"), columns.index("dfdc")]
    assert marked[names.index(FORGERIES)].sum() == len(STILLS)
