"""Parts that share no person, video, recording or scene, and families that keep to theirs."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.errors import InputUnreadable, UsageError
from streamguard.lab import cli
from streamguard.lab.facefile import FaceFile
from streamguard.lab.split import PARTS, SHARES, Components, Facts, Settings, draw, read_split, rows_of
from tests.lab.footage import Made, face_file

pytestmark = pytest.mark.lab


def facts(videos):
    """One face a video, hashes far apart unless given: (name, label, people, original, generator, hash)."""
    rng = np.random.default_rng(5)
    rows = [(*row, *("", "none", None)[len(row) - 3 :]) for row in videos]
    return Facts(
        video=[r[0] for r in rows],
        identities=[tuple(r[2].split()) for r in rows],
        original=[r[3] or r[0] for r in rows],
        source=["made"] * len(rows),
        generator=[r[4] for r in rows],
        fake=np.array([r[1] == "fake" for r in rows]),
        hashes=np.array([r[5] or int(rng.integers(2**64 - 1, dtype=np.uint64)) for r in rows], np.uint64),
    )


def people(count):
    """Each person in a real video and a fake of it."""
    reals = [(f"r{n}", "real", f"p{n}") for n in range(count)]
    return reals + [(f"f{n}", "fake", f"p{n}", f"r{n}", "gan" if n % 2 else "swap") for n in range(count)]


def straddlers(made, found):
    parts = defaultdict(set)
    for row, video in enumerate(made.video):
        if found["videos"][video]:
            for node in made.nodes(row):
                parts[node].add(found["videos"][video])
    return {node for node, of in parts.items() if len(of) > 1}


def test_components_are_named_by_their_least_member():
    components = Components()
    for one, other in (("d", "c"), ("b", "a"), ("d", "b"), ("y", "x")):
        components.join(one, other)
    assert [components.find(name) for name in "abcdxyz"] == ["a", "a", "a", "a", "x", "x", "z"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=25), st.integers(0, 3))
def test_nothing_straddles_whoever_is_swapped_with_whom(swaps, seed):
    made = facts(people(40) + [(f"s{i}", "fake", f"p{a} p{b}", f"r{a}") for i, (a, b) in enumerate(swaps)])
    found = draw(made, Settings(seed, balance=True))
    assert not straddlers(made, found)
    assert None not in found["videos"].values()


def test_shares_are_held():
    found = draw(facts(people(3000)), Settings())
    for part, share in SHARES.items():
        assert found["counts"][part]["real"] / 3000 == pytest.approx(share, abs=0.03)
    balanced = draw(facts(people(100)), Settings(balance=True))
    assert [balanced["counts"][part]["identities"] for part in PARTS] == [55, 15, 10, 20]


def test_a_split_is_the_same_on_every_machine_and_stable():
    found = draw(facts(people(60)), Settings(seed=4))
    assert found == draw(facts(people(60)), Settings(seed=4))
    assert found["videos"] != draw(facts(people(60)), Settings(seed=5))["videos"]
    grown = draw(facts(people(90)), Settings(seed=4))["videos"]  # more people move none of the others
    assert all(grown[video] == part for video, part in found["videos"].items())
    assert {part: list(found["videos"].values()).count(part) for part in PARTS} == {
        "fit": 54, "search": 14, "calibration": 16, "test": 36
    }  # fmt: skip


def test_both_people_of_a_swap_are_one_component():
    made = facts([*people(60), ("s", "fake", "p1 p2", "r1")])
    videos = draw(made, Settings())["videos"]
    assert len({videos[name] for name in ("r1", "f1", "r2", "f2", "s")}) == 1


def test_neighbours_stay_together():
    rows = people(60)
    rows[0] = (*rows[0], "", "none", 0b1110000 << 40)
    rows[59] = (*rows[59], "", "none", 0b0001111 << 40)
    made = facts(rows)
    videos = draw(made, Settings())["videos"]
    assert videos["r0"] == videos["r59"]
    alone = draw(facts(people(60)), Settings())["videos"]
    assert alone["r0"] != alone["r59"]


def test_dropping_swaps_keeps_people_apart():
    swaps = [(f"s{a}{b}", "fake", f"p{a} p{b}", f"r{a}") for a in range(40) for b in (a + 1, a + 7) if b < 40]
    made = facts(people(40) + swaps)
    with pytest.raises(UsageError, match=r"gets no real face: the largest component, 'clip:f0', holds \d+ of"):
        draw(made, Settings(balance=True))
    found = draw(made, Settings(balance=True, swaps="drop"))
    assert not straddlers(made, found)
    assert found["dropped"].keys() == {"swap that straddles"}
    kept = [name for name, *_ in swaps if found["videos"][name]]
    assert len(kept) + found["dropped"]["swap that straddles"] == len(swaps)
    assert kept
    assert [found["counts"][part]["real"] for part in PARTS] == [22, 6, 4, 8]


def test_dropping_swaps_drops_what_resembles_another_part():
    rows = people(40)
    fitted = next(n for n in range(40) if draw(facts(rows), Settings(swaps="drop"))["videos"][f"r{n}"] == "fit")
    tested = next(n for n in range(40) if draw(facts(rows), Settings(swaps="drop"))["videos"][f"r{n}"] == "test")
    rows[fitted] = (*rows[fitted], "", "none", 0b111 << 30)
    rows[40 + tested] = (*rows[40 + tested], 0b101 << 30)
    found = draw(facts(rows), Settings(swaps="drop"))
    assert found["videos"][f"f{tested}"] is None
    assert found["videos"][f"r{fitted}"] == "fit"
    assert found["dropped"] == {"fake that resembles a face of another part": 1}


def test_families_keep_to_their_part():
    found = draw(facts(people(100)), Settings(families={"gan": "test"}))
    gans = {video: found["videos"][video] for video in (f"f{n}" for n in range(1, 100, 2))}
    assert set(gans.values()) == {"test", None}
    assert found["dropped"] == {"family of test": list(gans.values()).count(None)}
    assert {found["videos"][f"r{n}"] for n in range(1, 100, 2)} == set(PARTS)  # real faces stay
    with pytest.raises(UsageError, match=r"families warp are not in the file. It has: gan, swap"):
        draw(facts(people(100)), Settings(families={"warp": "test"}))


def test_a_part_without_fakes_is_an_error():
    with pytest.raises(UsageError, match="part 'fit' gets no fake face"):
        draw(facts(people(100)), Settings(families={"gan": "test", "swap": "search"}))
    with pytest.raises(UsageError, match="gets no"):
        draw(facts(people(3)), Settings())


@pytest.fixture
def made_file(tmp_path):
    videos = [Made(f"r{n}", "real", (f"p{n}",)) for n in range(20)]
    return face_file(
        tmp_path / "faces.h5", videos + [Made(f"f{n}", "fake", (f"p{n}",), f"r{n}", generator="gan") for n in range(20)]
    )


def test_the_command_writes_a_split_of_that_file(made_file, tmp_path, capsys):
    out = tmp_path / "split.json"
    assert cli.run(["split", str(made_file.path), "--out", str(out), "--balance"]) == 0
    shown = capsys.readouterr().out
    assert "20 components" in shown
    assert "no swap straddles" in shown
    found = read_split(out, made_file)
    assert (found["seed"], found["faces_sha256"]) == (1, made_file.sha256())
    assert {part: len(rows) for part, rows in rows_of(found, made_file).items()} == {
        "fit": 22, "search": 6, "calibration": 4, "test": 8
    }  # fmt: skip
    with h5py.File(made_file.path, "r+") as raw:
        raw["label"][0] = 1
    with pytest.raises(UsageError, match=r"split\.json' is of another face file"):
        read_split(out, made_file)


def test_wrong_use_is_named(made_file, tmp_path):
    out = tmp_path / "split.json"

    def run(*more):
        return cli.run(["split", str(made_file.path), "--out", str(out), *more])

    with pytest.raises(UsageError, match="--swaps keep is not known"):
        run("--swaps", "keep")
    with pytest.raises(UsageError, match="families gan are declared for search and for test"):
        run("--families-test", "gan", "--families-search", "gan")
    with h5py.File(made_file.path, "r+") as raw:
        raw.attrs["complete"] = False
    with pytest.raises(UsageError, match=r"faces\.h5' is half-written"):
        run()
    assert not out.exists()


def test_a_foreign_split_is_named(made_file, tmp_path):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"videos": {}}))
    with pytest.raises(UsageError, match=r"split\.json' is no split"):
        read_split(path, FaceFile(made_file.path))
    path.write_text("{")
    with pytest.raises(InputUnreadable, match=r"split\.json' can't be read"):
        read_split(path, made_file)
