"""``lab choose``: both engines are shown the same faces, and the rule decides."""

from __future__ import annotations

import pytest

pytest.importorskip("onnx")
pytest.importorskip("timm")

import typer

from streamguard.inference.engines import load_engine
from streamguard.lab.families import GROUPS
from streamguard.lab.search import choose
from streamguard.lab.search.rules import ROLES, UNSEEN
from tests.lab.conftest import make_engine

pytestmark = pytest.mark.lab


def test_the_unseen_rows_are_of_made_families_that_no_trial_is_trained_on():
    assert set(UNSEEN) <= set(GROUPS)
    assert not set(UNSEEN) & set(ROLES["trained"])


def test_an_engine_is_compared_with_the_default(meshed_store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("streamguard.lab.statistics.RESAMPLES", 5)
    searched, base = make_engine(tmp_path / "searched"), make_engine(tmp_path / "base", gain=-10.0)
    found, rows = choose.compared(meshed_store, load_engine(searched), load_engine(base), 6)
    assert set(rows) == {"reconstructed", "parts", "warp"}
    assert all(row["searched"]["value"] == pytest.approx(1 - row["base"]["value"], abs=1e-3) for row in rows.values())
    assert found.words
    worse = min(("searched", "base"), key=lambda who: sum(row[who]["value"] for row in rows.values()))
    engines = {"searched": searched, "base": base}
    better = engines["base" if worse == "searched" else "searched"]
    monkeypatch.setattr(choose.Dataset, "from_environment", classmethod(lambda _: None))
    monkeypatch.setattr(choose, "build_store", lambda *_: meshed_store)
    with pytest.raises(typer.Exit) as left:
        choose.choose(engines[worse], better, each=6)
    assert left.value.exit_code == 1
    assert "the base stays" in capsys.readouterr().out
