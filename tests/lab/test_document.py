"""Figures into a document: whole, between their markers, or not at all."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("torch")

from streamguard.errors import InputMissing, InputUnreadable, UsageError
from streamguard.lab import cli
from streamguard.lab.document import fill
from streamguard.lab.document_tables import TABLES

pytestmark = pytest.mark.lab
BETWEEN = {"value": 0.91234, "low": 0.9, "high": 0.95}
SHARE = {"count": 1, "of": 4, "low": 0.05, "high": 0.7}
RATE = {"count": 0, "seconds": 600.0, "value": 0.0, "low": 0.0, "high": 22.1}
OF = {"family": "warp", "found": SHARE, "soon": SHARE, "median_delay": 4.25, "mean_iou": 0.5}


def row(**subjects):
    return {"set": "dfdc", "dress": "plain", "real": 9, "fake": 8, "groups": 7, "subjects": subjects}


def recording(name, state):
    return {"set": "clips", "name": name, "seconds": 9.0, "state": state, "reason": None}


METRICS = {
    "verb": "evaluate", "name": "tiny", "version": "0.0.1", "sha256": "abcdef0123456789" * 4, "part": "search",
    "date": "2026-01-01", "machine": "a test",
    "commands": dict.fromkeys(TABLES, "streamguard lab evaluate X"),
    "faces": {"rows": [row(fp32={"auc": BETWEEN, "ece": BETWEEN}, int8={"auc": BETWEEN, "ece": BETWEEN})],
              "losses": {"int8": {"mean": 0.25, "worst": 0.5}}, "subjects": ["fp32", "int8"]},
    "baselines": {"rows": [row(constant={"auc": BETWEEN, "ece": "no scale fits"})], "subjects": ["constant"],
                  "steps": 300, "couples": 40},
    "corruptions": {
        "faces": 20, "sources": ["dfdc"], "steps": {"jpeg": {"unit": "quality", "steps": [95, 75]}},
        "subjects": {"fp32": {"clean": 0.95, "auc": {"jpeg": [0.94, 0.9]}, "mean_loss": {"jpeg": 3.0},
                              "worst_loss": {"jpeg": 5.0}, "mean": 3.0,
                              "worst": {"points": 5.0, "where": "jpeg, severity 2"}, "compression": BETWEEN}}},
    "proxies": {"faces": 30, "above": 2, "proxies": {"sharpness": [
        {"third": "x", "from": 0.5, "to": 1.5, "count": 1, "of": 10, "low": 0.01, "high": 0.4}] * 3}},
    "streams": {
        "simulated": {"families": [OF], "all": {**OF, "family": "all"}, "false_alarms": RATE, "real_streams": SHARE,
                      "inconclusive": SHARE},
        "recordings": {"real": {"both": {"flagged": SHARE, "inconclusive": SHARE, "false_alarms": RATE}}, "short": 2,
                       "not_clear": [recording("a.mp4", "flagged")], "fake": [recording("b.mp4", "clear")]}},
}  # fmt: skip
UNSEEN = {
    "verb": "unseen", "command": "streamguard lab unseen", "date": "2026-01-01", "machine": "a test", "size": 128,
    "net": "tf_efficientnet_lite0", "couples": 40, "each": 9, "steps": {"all": 5},
    "table": {"all": {"dfdc": {"plain": BETWEEN}}},
    "hidden": {"all": ["dfdc"]}, "families": {"auc": {"dfdc": 0.75}, "mean": 0.75, "worst": "dfdc"},
    "sources": {"auc": {"dfdc": 0.7}, "mean": 0.7, "worst": "dfdc"}, "forgeries": {"dfdc": BETWEEN},
    "seeds": {"mean": 0.012, "most": 0.034},
}  # fmt: skip


@pytest.fixture
def into(tmp_path):
    """A document with a place for every section."""
    places = "\n\n".join(f"## {name}\n\n<!-- figures: {name} -->\n\n<!-- end: {name} -->" for name in TABLES)
    file = tmp_path / "docs/models.md"
    file.parent.mkdir()
    file.write_text(f"# Models\n\n{places}\n\nThe end.\n")
    return file


def run_of(folder, metrics):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("roc", "reliability", "scores", "corruptions", "matrix"):
        (folder / f"{name}.png").write_bytes(b"a plot")
    return folder


def test_every_section_states_its_figures(tmp_path, into):
    assert fill(run_of(tmp_path / "run", METRICS), into) == ["faces", "baselines", "corruptions", "proxies", "streams"]
    text = into.read_text()
    assert "`streamguard lab evaluate X`; 2026-01-01, a test, tiny 0.0.1 (`abcdef0123456789`), part `search`." in text
    assert "| dfdc, plain | 9 / 8 | 7 | 0.912 (0.900-0.950) | 0.912 (0.900-0.950) |" in text
    assert "int8 loses 0.25 points, 0.50 at worst" in text
    assert "| tiny fp32: AUC | constant: AUC |" in text  # the engine beside its baselines
    assert "no scale fits" in text
    assert "| jpeg (quality) | 95, 75 | 0.940 0.900 | 3.0, 5.0 |" in text
    assert "5.0 (jpeg, severity 2)" in text
    assert "0.5 to 1.5: 1 of 10 (1.0%-40.0%)" in text
    assert "| warp | 4 | 1 of 4 (5%-70%) | 1 of 4 (5%-70%) | 4.2 | 0.50 |" in text
    assert "0 in 10.0 min: 0.0 an hour (0.0-22.1)" in text
    assert "clips/b.mp4, **fake**, 9 s: clear." in text
    assert "![faces: roc](models/roc.png)" in text
    assert "| AUC of dfdc | 0.912 | at least 0.955 | **not met** |" in text
    assert "| points of AUC lost by int8 | 0.25 | at most 0.5 | met |" in text
    assert "| share of simulated passages found within 10 s | 0.25 | at least 0.6 | **not met** |" in text
    assert (into.parent / "models/corruptions.png").read_bytes() == b"a plot"
    assert text.startswith("# Models\n")
    assert text.endswith("The end.\n")


def test_a_second_filling_replaces_the_first(tmp_path, into):
    run = run_of(tmp_path / "run", METRICS)
    fill(run, into)
    first = into.read_text()
    fill(run, into)
    assert into.read_text() == first
    fill(run_of(tmp_path / "later", {**METRICS, "date": "2026-02-02"}), into)
    assert "2026-01-01" not in into.read_text()


def test_unseen_and_the_test_have_their_own_places(tmp_path, into):
    assert fill(run_of(tmp_path / "unseen", UNSEEN), into) == ["unseen"]
    only = {key: value for key, value in METRICS.items() if key not in TABLES}
    assert fill(run_of(tmp_path / "final", {**only, "part": "test", "faces": METRICS["faces"]}), into) == ["final"]
    text = into.read_text()
    assert "| all | 5 | **0.912** |" in text
    assert "Mean **0.750**, worst **0.750** (dfdc)" in text
    assert "By the seed alone, nets shown everything lie **0.012** apart" in text
    assert "| families left out, mean AUC | 0.750 | at least 0.85 | **not met** |" in text
    assert "| families left out, worst AUC | 0.750 | at least 0.7 | met |" in text
    assert "part `test`" in text


@pytest.mark.parametrize("bad", [None, "", [], {}, float("nan")])
def test_an_empty_figure_is_refused_by_name(tmp_path, into, bad):
    before = into.read_text()
    metrics = copy.deepcopy(METRICS)
    metrics["corruptions"]["subjects"]["fp32"]["mean"] = bad
    with pytest.raises(UsageError, match=r"corruptions\.subjects\.fp32\.mean is empty"):
        fill(run_of(tmp_path / "run", metrics), into)
    assert into.read_text() == before


def test_a_missing_figure_is_refused_by_name(tmp_path, into):
    metrics = copy.deepcopy(METRICS)
    del metrics["proxies"]["above"]
    with pytest.raises(UsageError, match="lacks 'above', which section 'proxies' must state"):
        fill(run_of(tmp_path / "run", metrics), into)


def test_what_is_not_there_is_named(tmp_path, into):
    with pytest.raises(InputMissing, match=r"no metrics\.json: nothing was finished there"):
        fill(tmp_path, into)
    run = run_of(tmp_path / "run", METRICS)
    with pytest.raises(InputMissing, match=r"other\.md' does not exist"):
        fill(run, tmp_path / "other.md")
    into.write_text("# Models\n")
    with pytest.raises(UsageError, match="has no '<!-- figures: faces -->'"):
        fill(run, into)
    (run / "metrics.json").write_text("{")
    with pytest.raises(InputUnreadable, match=r"metrics\.json' is damaged"):
        fill(run, into)
    with pytest.raises(UsageError, match="of `lab train`"):
        fill(run_of(run, {"verb": "train"}), into)


def test_a_lost_plot_is_named(tmp_path, into):
    run = run_of(tmp_path / "run", UNSEEN)
    (run / "matrix.png").unlink()
    with pytest.raises(InputMissing, match=r"matrix\.png' does not exist"):
        fill(run, into)


def test_the_command_takes_several_runs(tmp_path, into):
    runs = [run_of(tmp_path / "a", METRICS), run_of(tmp_path / "b", UNSEEN)]
    assert cli.run(["document", *map(str, runs), "--into", str(into)]) == 0
    assert "Forgeries alone, no supplied fake: dfdc 0.912" in into.read_text()
