"""lab forge: a run folder that depends on its seed alone, goes on after a break, and names what is wrong."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from rich.console import Console

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab import cli
from streamguard.lab.forge import verb
from streamguard.lab.forge.verb import Settings, run

pytestmark = pytest.mark.lab
QUIET = Console(quiet=True)
TINY = Settings(families="self-blended,two-identity,warp", each=5, size=48)


@pytest.fixture(scope="module")
def straight(made_store, meshes, tmp_path_factory):
    out = tmp_path_factory.mktemp("forge") / "straight"
    return out, run(made_store, meshes, out, TINY, resume=False, console=QUIET)


def test_a_run_folder_holds_what_it_says(straight):
    out, metrics = straight
    names = ["self-blended", "two-identity", "warp"]
    expected = {"config.json", "log.jsonl", "metrics.json"} | {f"{n}.{kind}" for n in names for kind in ("png", "json")}
    assert {file.name for file in out.iterdir()} == expected
    assert json.loads((out / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    assert list(metrics["families"]) == names
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [*range(5)] * 3
    for line in lines:
        assert line["partner"] != line["group"]
        assert 0 < line["covered"] <= 1
    for name, found in metrics["families"].items():
        assert found["made"] == 5
        assert found["changed_outside_mask"] == 0
        assert found["milliseconds"]["median"] > 0
        assert found["probe"]["auc"] is None or 0 <= found["probe"]["auc"] <= 1
        assert cv2.imread(str(out / f"{name}.png")) is not None
    assert metrics["families"]["warp"]["group"] == "warp"


def test_a_broken_run_goes_on_and_ends_the_same(made_store, meshes, straight, tmp_path, monkeypatch):
    real, calls = verb._Family.add, []

    def dies(self, number):
        calls.append(number)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(self, number)

    monkeypatch.setattr(verb._Family, "add", dies)
    with pytest.raises(KeyboardInterrupt):
        run(made_store, meshes, tmp_path / "run", TINY, resume=False, console=QUIET)
    monkeypatch.setattr(verb._Family, "add", real)
    with (tmp_path / "run/log.jsonl").open("a") as log:
        log.write('{"family": "two-iden')  # killed within a line
    metrics = run(made_store, meshes, tmp_path / "run", TINY, resume=True, console=QUIET)
    for name, found in straight[1]["families"].items():
        again = metrics["families"][name]
        assert {k: v for k, v in again.items() if k != "milliseconds"} == {
            k: v for k, v in found.items() if k != "milliseconds"
        }
        assert (tmp_path / f"run/{name}.png").read_bytes() == (straight[0] / f"{name}.png").read_bytes()
    assert len((tmp_path / "run/log.jsonl").read_text().splitlines()) == 15


def test_a_run_folder_is_not_overwritten_nor_mixed(made_store, meshes, straight):
    with pytest.raises(UsageError, match="holds a run already"):
        run(made_store, meshes, straight[0], TINY, resume=False, console=QUIET)
    with pytest.raises(UsageError, match="was begun with other values of each, seed"):
        run(made_store, meshes, straight[0], Settings(TINY.families, 6, 2, size=48), resume=True, console=QUIET)


def test_refusals_are_counted_and_too_many_end_it(made_store, meshes, tmp_path, monkeypatch):
    from streamguard.errors import PictureSize
    from streamguard.lab.forge.forger import Forger

    real, calls = Forger.forge, []

    def picky(self, *arguments):
        calls.append(1)
        if len(calls) % 2:
            raise PictureSize("a face of 'x' can't be forged")
        return real(self, *arguments)

    monkeypatch.setattr(Forger, "forge", picky)
    settings = Settings("self-blended", 3, size=48)
    metrics = run(made_store, meshes, tmp_path / "a", settings, resume=False, console=QUIET)
    assert sum(metrics["families"]["self-blended"]["refused"].values()) == 3

    def never(self, *arguments):
        raise PictureSize("a face of 'x' can't be forged")

    monkeypatch.setattr(Forger, "forge", never)
    with pytest.raises(InputUnreadable, match=r"50 faces in a row can't be forged by 'self-blended'.*'x'"):
        run(made_store, meshes, tmp_path / "b", settings, resume=False, console=QUIET)


def test_a_part_without_real_faces_is_named(made_store, meshes, tmp_path, monkeypatch):
    monkeypatch.setattr(made_store, "find", lambda *_: np.zeros(0, np.intp))
    with pytest.raises(InputUnreadable, match=r"part 'fit' of .* holds no real face"):
        run(made_store, meshes, tmp_path / "run", TINY, resume=False, console=QUIET)


def test_a_family_that_leaves_its_mask_fails_the_run(made_store, meshes, tmp_path, monkeypatch):
    from streamguard.lab.forge.selfblend import SelfBlended

    real = SelfBlended.pair

    def leaks(self, face, other=None):
        pair = real(self, face, other)
        return pair._replace(fake=255 - pair.fake)

    monkeypatch.setattr(SelfBlended, "pair", leaks)
    with pytest.raises(InputUnreadable, match=r"'self-blended' changed .* values outside its masks"):
        run(made_store, meshes, tmp_path / "run", Settings("self-blended", 2, size=48), resume=False, console=QUIET)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--families", "blur"], "'blur' is unknown"),
        (["--policy", "none"], "--policy 'none' is unknown. Known: forensic, forensic.cutout, paper"),
        (["--part", "val"], "--part 'val' is unknown. Known: fit, search, calibration, measure"),
    ],
)
def test_wrong_options_end_it_before_any_data_is_read(options, message, tmp_path, monkeypatch):
    monkeypatch.setenv("STREAMGUARD_DATA", str(tmp_path / "nothing"))
    with pytest.raises(UsageError, match=message):
        cli.run(["forge", "--out", str(tmp_path / "run"), *options])
