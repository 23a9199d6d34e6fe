"""Tables of the search and of the replicated paper, out of their metrics alone."""

from __future__ import annotations

import copy
import json

import pytest

pytest.importorskip("h5py")

from streamguard.errors import InputMissing, UsageError
from streamguard.lab.document import fill

pytestmark = pytest.mark.lab
BETWEEN = {"value": 0.91234, "low": 0.9, "high": 0.95}
SEARCH = {
    "verb": "search", "space": "edge", "command": "streamguard lab search --space edge", "date": "2026-01-01",
    "machine": "a test", "score": "AUC on families never shown", "design": '{"space": "edge/scratch"}',
    "winner": {"name": "edge/scratch/tpe/1/4", "score": 0.7123, "ms": 1.25, "parameters": 1_250_000},
    "brackets": {"edge/scratch/tpe/1": {"finished": 2.0, "stopped": 3.0, "epochs": 21.0, "seconds": 9.5},
                 "edge/scratch/random/1": {"finished": 1.0, "stopped": 4.0, "epochs": 15.0, "seconds": 7.0}},
    "designs": {"edge/scratch": 1_234_567}, "importances": {"edge/scratch": {}}, "left": 0,
    "reference_ms": 3.5, "difference": {
        "edge/scratch": {"tpe": [0.7, 0.71], "random": [0.69, 0.7], "mean": 0.01, "low": -0.02, "high": 0.04}},
    "agreement": {"edge/scratch": [{"from": 1, "to": 3, "trials": 9, "tau": 0.5}, {"from": 3, "to": 9, "trials": 2}]},
    "proxies": {"edge/scratch": {"trials": 12, "parameters": 0.25, "naswot": -0.1}},
}  # fmt: skip
FIGURES = dict.fromkeys(("accuracy", "precision", "recall", "F1", "AUC"), BETWEEN)
CASE = {"case": "case 1", "pictures": "OpenForensics, whole", "protocol": "paper", "net": "efficient",
        "trained on": 480, "tested on": 120, "test pictures with kin in training": 0.25, "missed": [0, 3],
        "figures": FIGURES, "curves": {"test loss": [0.5]}}  # fmt: skip
REPLICATE = {
    "verb": "replicate", "command": "streamguard lab replicate", "date": "2026-01-01", "machine": "a test",
    "title": "600 pictures, 128 px, 20 epochs", "told": {"case 1": 0.895, "case 2": 0.9881},
    "cases": [CASE, {**CASE, "net": "framing only", "curves": {}}],
    "films": [{"cut": "by frame", "films": 40, "trained on": 256, "tested on": 64, "figures": FIGURES}],
    "arms": [
        {"arm": "LBP histogram", "looks at": "one picture", "seen": BETWEEN, "unseen": BETWEEN,
         "adds": {"value": 0.01, "low": -0.01, "high": 0.03, "earns": False}},
        {"arm": "CNN + GRU", "looks at": "a track", "held out": BETWEEN, "people": [9, 22], "windows": 80},
    ],
}  # fmt: skip


@pytest.fixture
def into(tmp_path):
    """A document with a place for all."""
    names = ("search-edge", "search-paper2025", "replicate")
    places = "\n\n".join(f"<!-- figures: {name} -->\n<!-- end: {name} -->" for name in names)
    file = tmp_path / "models.md"
    file.write_text(places)
    return file


def run_of(folder, metrics):
    folder.mkdir(exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    for name in ("history", "pareto", "importances", "curves-openforensics-case1", "curves-openforensics-case2",
                 "curves-dfdc-case2"):  # fmt: skip
        (folder / f"{name}.png").write_bytes(b"a plot")
    return folder


def test_a_search_is_told_whatever_its_sign(tmp_path, into):
    assert fill(run_of(tmp_path / "run", SEARCH), into) == ["search-edge"]
    text = into.read_text()
    assert "AUC on families never shown **0.7123**, 1.25 ms a face (EfficientNet-Lite0 at 176 px: 3.50), 1.25 M" in text
    assert "| edge/scratch/tpe/1 | 2 | 3 | 0 | 0 | 21 |" in text
    assert "mean over 2 seeds: +0.0100 (-0.0200 to +0.0400)" in text
    assert "Rungs 1 and 3 agree: Kendall's tau 0.50 (9 trials)." in text
    assert "Rungs 3 and 9 agree: too few to tell (2 trials)." in text
    assert "12 trials: parameters +0.25, naswot -0.10" in text
    assert "(models/search-edge-pareto.png)" in text
    assert "under way" not in text


def test_a_search_that_was_cut_off_says_so(tmp_path, into):
    fill(run_of(tmp_path / "run", {**SEARCH, "left": 7}), into)
    assert "7 trials were under way when the search was ended." in into.read_text()


def test_a_paper_search_has_a_place_of_its_own_and_no_second_sampler(tmp_path, into):
    metrics = {**copy.deepcopy(SEARCH), "space": "paper2025", "final": {"loss": 0.25, "accuracy": 0.9}}
    del metrics["brackets"]["edge/scratch/random/1"]
    assert fill(run_of(tmp_path / "run", metrics), into) == ["search-paper2025"]
    text = into.read_text()
    assert "random search" not in text
    assert "trained anew for 20 epochs: loss 0.2500, accuracy 0.9000" in text
    assert "(models/search-paper2025-history.png)" in text
    assert "pareto" not in text


def test_a_bracket_that_did_not_finish_is_not_compared(tmp_path, into):
    metrics = copy.deepcopy(SEARCH)
    metrics["difference"]["edge/scratch"] = {"tpe": [0.7], "random": []}
    metrics["agreement"]["edge/scratch"] = []
    fill(run_of(tmp_path / "run", metrics), into)
    assert "TPE and random search: not both finished." in into.read_text()


def test_the_papers_table_stands_beside_the_paper(tmp_path, into):
    assert fill(run_of(tmp_path / "run", REPLICATE), into) == ["replicate"]
    text = into.read_text()
    assert "**600 pictures, 128 px, 20 epochs**" in text
    assert "| case 1 | OpenForensics, whole | paper | efficient | 480 / 120 | 25% | 0.912 (0.900-0.950) |" in text
    assert "| 89.5% |" in text
    assert "| by frame | 256 / 64 |" in text
    assert "+0.010 (-0.010 to +0.030): no" in text
    assert "a track (80 windows of 22 people)" in text
    assert "(models/curves-dfdc-case2.png)" in text


def test_a_search_without_a_winner_is_no_figure(tmp_path, into):
    metrics = {key: value for key, value in SEARCH.items() if key not in ("winner", "design")}
    with pytest.raises(UsageError, match="lacks 'winner'"):
        fill(run_of(tmp_path / "run", metrics), into)
    folder = run_of(tmp_path / "run", SEARCH)
    (folder / "pareto.png").unlink()
    with pytest.raises(InputMissing, match=r"pareto\.png"):
        fill(folder, into)
