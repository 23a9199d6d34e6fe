"""``lab evaluate`` on made faces: tables, plots, resuming, and a test that is not opened unnoticed."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.errors import UsageError
from streamguard.lab import cli, evaluate, evaluate_faces
from streamguard.lab.data import STILLS
from streamguard.lab.dataset import Dataset
from streamguard.lab.evaluate import Asked, examine, examine_finally
from streamguard.lab.families import FAMILIES
from tests.lab.conftest import make_engine, make_store

pytestmark = pytest.mark.lab
HEAD = "path,label,source,generator,group,split,face_x,face_y,face_w,face_h\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("streamguard.lab.statistics.RESAMPLES", 10)
    monkeypatch.setattr("streamguard.lab.robustness._RESAMPLES", 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "manifest.csv").write_text(HEAD + "dfdc/a.jpg,real,dfdc,none,g,val,,,,\n")
    return Dataset(root)


@pytest.fixture(scope="module")
def asked(meshed_store, tiny_engine):
    return Asked(engine=tiny_engine, parts=("faces",), faces=meshed_store.path, each=4, backend="onnxruntime")


@pytest.fixture(scope="module")
def run(data, asked, tmp_path_factory):
    """A finished development evaluation of everything on faces but the baselines."""
    out = tmp_path_factory.mktemp("runs") / "evaluate"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("streamguard.lab.statistics.RESAMPLES", 10)
        patch.setattr("streamguard.lab.robustness._RESAMPLES", 5)
        examine(data, out, Asked(**{**vars_of(asked), "parts": ("faces", "corruptions", "proxies")}))
    return out


def vars_of(asked):
    return {name: getattr(asked, name) for name in asked.__slots__}


def test_every_set_is_measured_in_both_dresses(run):
    metrics = json.loads((run / "metrics.json").read_text())
    rows = metrics["faces"]["rows"]
    assert {(row["set"], row["dress"]) for row in rows} == {
        (s, d) for s in (*STILLS, *FAMILIES) for d in ("plain", "chain")
    }
    supplied = [row for row in rows if row["set"] in STILLS and row["dress"] == "plain"]
    assert all(row["subjects"]["fp32"]["auc"]["value"] == 1.0 for row in supplied)  # the engine knows inverted faces
    assert all((row["real"], row["fake"]) == (4, 4) for row in supplied)
    assert all(0 <= row["subjects"]["fp32"]["ece"]["value"] <= 1 for row in rows)
    assert metrics["part"] == "search"
    assert "--parts faces,corruptions,proxies" in metrics["commands"]["faces"]
    assert {p.name for p in run.glob("*.png")} == {"roc.png", "reliability.png", "scores.png", "corruptions.png"}


def test_corruptions_cost_what_they_cost(run):
    found = json.loads((run / "metrics.json").read_text())["corruptions"]
    of = found["subjects"]["fp32"]
    assert of["clean"] == 1.0
    assert len(of["auc"]) == len(found["steps"]) == 15
    assert of["worst"]["points"] == max(of["worst_loss"].values())
    assert of["mean"] == pytest.approx(np.mean(list(of["mean_loss"].values())), abs=0.01)
    low, value, high = (of["compression"][key] for key in ("low", "value", "high"))
    assert low <= value <= high


def test_false_alarms_are_counted_by_thirds(run):
    found = json.loads((run / "metrics.json").read_text())["proxies"]
    assert found["faces"] == 3 * 4 + 4
    for thirds in found["proxies"].values():
        assert sum(third["of"] for third in thirds) == found["faces"]
        assert sum(third["count"] for third in thirds) == found["above"]
        assert thirds[0]["to"] <= thirds[1]["to"] <= thirds[2]["from"] or thirds[1]["from"] <= thirds[2]["from"]


def test_a_broken_run_goes_on_and_parts_may_follow(run, data, asked, tmp_path, monkeypatch):
    real, calls = evaluate_faces._scores, []

    def until_third(*args):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(evaluate_faces, "_scores", until_third)
    with pytest.raises(KeyboardInterrupt):
        examine(data, tmp_path / "broken", asked)
    metrics = examine(data, tmp_path / "broken", asked, resume=True)
    whole = json.loads((run / "metrics.json").read_text())
    assert metrics["faces"] == whole["faces"]
    assert len(calls) == 1 + 2 * len((*STILLS, *FAMILIES))
    more = examine(data, tmp_path / "broken", Asked(**{**vars_of(asked), "parts": ("proxies",)}), resume=True)
    assert more["faces"] == metrics["faces"]
    assert more["commands"]["faces"] == metrics["commands"]["faces"]
    assert more["proxies"] == whole["proxies"]


def test_baselines_stand_in_the_same_table(data, asked, tmp_path, monkeypatch):
    from streamguard.lab import baselines

    monkeypatch.setattr(baselines, "mesonet", lambda root: baselines.constant(baselines._MESO_CROP))
    monkeypatch.setattr(baselines, "NETS", {"two convolutions": baselines.TWO_CONVOLUTIONS})
    few = Asked(**{**vars_of(asked), "parts": ("baselines",), "steps": 2, "pool": 6})
    found = examine(data, tmp_path / "out", few)["baselines"]
    assert found["subjects"] == ["constant", "quality probe", "FFT, DCT, SRM features", "constant", "two convolutions"]
    for row in found["rows"]:
        assert row["subjects"]["constant"]["auc"]["value"] == 0.5
        assert set(row["subjects"]) == set(found["subjects"])


def test_a_run_folder_is_evaluated_too(data, meshed_store, asked, tmp_path):
    from streamguard.lab.train import TrainConfig
    from streamguard.lab.train import run as train

    train(meshed_store, tmp_path / "net", TrainConfig(size=32, batch=4, steps=1, pretrained=False))
    of_run = Asked(run=tmp_path / "net", parts=("faces",), faces=meshed_store.path, each=4)
    metrics = examine(data, tmp_path / "out", of_run)
    assert metrics["faces"]["subjects"] == ["fp32"]
    assert metrics["version"] == "a run"
    with pytest.raises(UsageError, match="streams and proxies speak of thresholds"):
        examine(data, tmp_path / "other", Asked(run=tmp_path / "net", parts=("proxies",)))


def test_wrong_use_is_named(data, asked, tmp_path):
    with pytest.raises(UsageError, match="--engine FOLDER or --run FOLDER, one of them"):
        examine(data, tmp_path / "out", Asked())
    with pytest.raises(UsageError, match=r"'frames' is unknown\. Known: faces, corruptions"):
        examine(data, tmp_path / "out", Asked(**{**vars_of(asked), "parts": ("faces", "frames")}))
    with pytest.raises(UsageError, match="--because TEXT"):
        examine_finally(data, tmp_path / "out", asked, " ")
    with pytest.raises(UsageError, match="--final is for an engine"):
        examine_finally(data, tmp_path / "out", Asked(run=tmp_path), "release")
    assert not (asked.engine / "openings.jsonl").exists()
    assert not (tmp_path / "out").exists()


def test_the_test_is_opened_once_and_logged_first(data, asked, tmp_path, monkeypatch):
    engine, out = make_engine(tmp_path / "tiny"), tmp_path / "final"
    out.mkdir()
    make_store(out / "test.h5", ("test",))
    of_engine = Asked(**{**vars_of(asked), "engine": engine, "parts": Asked().parts})
    real = evaluate._faces

    def broken(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "_faces", broken)
    with pytest.raises(KeyboardInterrupt):
        examine_finally(data, out, of_engine, "release 0.2")
    assert "| release 0.2 | broken off |" in (engine / "CARD.md").read_text()
    monkeypatch.setattr(evaluate, "_faces", real)
    metrics = examine_finally(data, out, of_engine, "release 0.2", resume=True)
    assert {row["set"] for row in metrics["faces"]["rows"]} == set(STILLS)  # no forgeries are made of the test
    assert (metrics["part"], metrics["opening"]) == ("test", 1)
    assert metrics["commands"]["faces"].endswith("engines/tiny --out OUT --final --because TEXT"), "faces alone"
    assert len(metrics["manifest_sha256"]) == 64
    lines = [json.loads(line) for line in (engine / "openings.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines] == ["opened", "measured"]
    assert lines[1]["figures"]["dfdc"]["value"] == 1.0
    assert "| release 0.2 | dfdc 1.000" in (engine / "CARD.md").read_text()
    examine_finally(data, out, of_engine, "release 0.2", resume=True)
    assert len((engine / "openings.jsonl").read_text().splitlines()) == 2


def test_the_command_prints_its_table(data, asked, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STREAMGUARD_DATA", str(data.root))
    words = ["--engine", str(asked.engine), "--faces", str(asked.faces), "--each", "4", "--backend", "onnxruntime"]
    assert cli.run(["evaluate", "--out", str(tmp_path / "out"), *words, "--parts", "faces"]) == 0
    shown = capsys.readouterr().out
    assert "faces: AUC on the part 'search'" in shown
    assert "openforensics" in shown
    with pytest.raises(UsageError, match="Add --resume"):
        cli.run(["evaluate", "--out", str(tmp_path / "out"), *words, "--parts", "faces"])
