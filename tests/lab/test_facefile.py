"""A face file that grows by videos, loses what a broken run left, and refuses what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py

from streamguard.errors import InputMissing, InputUnreadable, UsageError
from streamguard.frames import Box
from streamguard.lab.facefile import COLUMNS, Done, FaceCut, FaceFile
from streamguard.lab.layouts import Clip

pytestmark = pytest.mark.lab


def cut(number: int) -> FaceCut:
    picture = np.full((32, 32, 3), number, np.uint8)
    return FaceCut(picture, Box(1, 2, 3, 4), Box(5, 6, 7, 8), number, number / 10, 1, 0.9, 2**63 + number)


def clip(name: str, label: str = "real") -> Clip:
    return Clip(name, label, "made", "none", ("p1", "p2"), name, "", Path(name))


def add(file: FaceFile, name: str, *numbers: int) -> None:
    file.append(clip(name), [cut(n) for n in numbers], Done(name, "real", len(numbers), {"no face": 1}))


@pytest.fixture
def file(tmp_path):
    made = FaceFile.create(tmp_path / "out/faces.h5", {"margin": 0.4}, 32)
    add(made, "a.mp4", 1, 2)
    add(made, "b.mp4")
    add(made, "c.mp4", 3)
    return made


def test_every_column_comes_back(file):
    assert list(file.column("video")) == ["a.mp4", "a.mp4", "c.mp4"]
    assert list(file.column("identity")) == ["p1|p2"] * 3
    assert file.column("box").tolist() == [[1, 2, 3, 4]] * 3
    assert file.hashes().tolist() == [2**63 + n for n in (1, 2, 3)]
    assert [int(p[0, 0, 0]) for p in file.pictures([2, 0])] == [3, 1]
    assert [(d.video, d.kept, d.dropped) for d in file.done()] == [
        ("a.mp4", 2, {"no face": 1}), ("b.mp4", 0, {"no face": 1}), ("c.mp4", 1, {"no face": 1}),
    ]  # fmt: skip
    assert {len(file.column(name)) for name in COLUMNS} == {3}
    with h5py.File(file.path) as raw:
        assert raw["pictures"].chunks == (1, 32, 32, 3)


def test_what_a_broken_run_left_is_cut_off(file):
    with h5py.File(file.path, "r+") as raw:  # killed between its faces and its mark, and amid its columns
        raw["pictures"].resize(5, axis=0)
        raw["video"].resize(4, axis=0)
        raw["done/rows"].resize(4, axis=0)
    assert [d.video for d in FaceFile(file.path).repair()] == ["a.mp4", "b.mp4", "c.mp4"]
    add(file, "d.mp4", 7)
    assert list(file.column("video")) == ["a.mp4", "a.mp4", "c.mp4", "d.mp4"]
    assert int(file.pictures([3])[0][0, 0, 0]) == 7


def test_complete_is_kept(file):
    assert not file.complete
    file.finish()
    assert FaceFile(file.path).complete


def test_a_split_is_bound_to_the_bytes(file):
    before = file.sha256()
    assert file.sha256() == before
    add(file, "d.mp4", 9)
    assert file.sha256() != before


def test_what_is_no_face_file_is_named(tmp_path, file):
    with pytest.raises(InputMissing, match=r"nowhere\.h5"):
        FaceFile(tmp_path / "nowhere.h5")
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = 1
    with pytest.raises(UsageError, match=r"other\.h5' is a foreign HDF5 file"):
        FaceFile(tmp_path / "other.h5")
    data = file.path.read_bytes()
    file.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputUnreadable, match=r"faces\.h5' can't be opened: it is damaged"):
        FaceFile(file.path)


def test_a_short_column_is_damage(file):
    with h5py.File(file.path, "r+") as raw:
        raw["label"].resize(1, axis=0)
    with pytest.raises(InputUnreadable, match="'label' is short"):
        file.repair()
