"""Parts that no group straddles, and a face store that goes on where it broke off."""

from __future__ import annotations

import csv

import cv2
import numpy as np
import pytest

pytest.importorskip("h5py")

import h5py

from streamguard.errors import InputMissing, InputUnreadable
from streamguard.frames import Box
from streamguard.lab.data import (
    SOURCES,
    STILLS,
    FaceFinder,
    FaceStore,
    Parts,
    build_store,
    final_part,
    frames_every,
    share_of,
)
from streamguard.lab.dataset import Dataset, Entry
from tests.media import write_video

pytestmark = pytest.mark.lab


def entry(source: str, group: str, *, label: str = "real", split: str = "train", path: str = "") -> Entry:
    return Entry(path or f"{source}/{label}/{group}.jpg", label, source, "none", group, split, None)


def talking(people: int) -> list[Entry]:
    return [
        entry("talking", f"p{i}", split="sample", path=f"talking/{i}_{k}.mp4") for i in range(people) for k in (0, 1)
    ]


def test_a_share_is_the_same_on_every_machine():
    assert share_of("xuvjbhkfqu") == pytest.approx(0.0462237, abs=1e-6)


def test_a_group_never_straddles_two_parts():
    entries = [entry(s, f"g{i}", label=label) for s in STILLS for i in range(300) for label in ("real", "fake")]
    entries += talking(44)
    parts = Parts(entries)
    found: dict[str, set[str | None]] = {}
    for item in entries:
        found.setdefault(item.group if item.source != "talking" else f"t{item.group}", set()).add(parts(item))
    assert all(len(of) == 1 for of in found.values())


def test_stills_are_cut_70_15_15():
    parts = Parts([])
    found = [parts(entry("dfdc", f"g{i}")) for i in range(4000)]
    for part, share in (("fit", 0.70), ("search", 0.15), ("calibration", 0.15)):
        assert found.count(part) / 4000 == pytest.approx(share, abs=0.02)


def test_half_of_the_people_only_measure():
    people = talking(44)
    found = [Parts(people)(e) for e in people[::2]]
    assert [found.count(p) for p in ("measure", "calibration", "fit")] == [22, 6, 16]


def test_the_test_split_and_the_clips_stay_closed():
    parts = Parts(talking(4))
    assert parts(entry("dfdc", "g1", split="val")) is None
    assert parts(entry("talking", "lp_d0", split="sample", path="clips/real/lp_d0.mp4")) is None


def test_the_test_is_val_and_nothing_else():
    assert final_part(entry("dfdc", "g1", split="val")) == "test"
    assert final_part(entry("dfdc", "g1", split="train")) is None
    assert final_part(entry("utkface", "g1", split="val")) is None


@pytest.fixture
def folder(tmp_path):
    """A data folder of twelve still pictures and one short video."""
    rows = []
    rng = np.random.default_rng(0)
    for source in (*STILLS, "utkface"):
        for i in range(3):
            path = tmp_path / source / f"{i}.png"
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 255, (48, 48, 3), np.uint8))
            split = "extra" if source == "utkface" else "train"
            rows.append([f"{source}/{i}.png", "real", source, "none", f"g{i}", split, "", "", "", ""])
    (tmp_path / "talking").mkdir()
    writer = cv2.VideoWriter(str(tmp_path / "talking/a.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for _ in range(10):
        writer.write(rng.integers(0, 255, (64, 64, 3), np.uint8))
    writer.release()
    rows.append(["talking/a.avi", "real", "talking", "none", "a", "sample", "", "", "", ""])
    with (tmp_path / "manifest.csv").open("w", newline="") as file:
        head = ["path", "label", "source", "generator", "group", "split", "face_x", "face_y", "face_w", "face_h"]
        csv.writer(file).writerows([head, *rows])
    return Dataset(tmp_path)


def middle(rgb):
    """Every picture has a face in its middle."""
    height, width = rgb.shape[:2]
    points = np.array([[0.4, 0.4], [0.6, 0.4], [0.5, 0.5], [0.42, 0.6], [0.58, 0.6]]) * [width, height]
    return Box(width * 0.3, height * 0.25, width * 0.7, height * 0.75), points.astype(np.float32)


def test_the_store_holds_pictures_as_they_were(folder, tmp_path):
    store = build_store(folder, tmp_path / "out/faces.h5", finder=middle)
    assert [store.rows(s).size for s in SOURCES] == [3, 3, 3, 3, 5]
    sample = store.read("dfdc", 1)
    assert (sample.rgb == folder.read(next(e for e in folder.manifest if e.path == "dfdc/1.png"))).all()
    assert sample.label == 0
    video = store.rows("talking")
    assert video["pts"] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=0.02)
    face = store.read("talking", 0)
    assert face.box.width == pytest.approx(64 * 0.4, abs=1)
    assert min(face.rgb.shape[:2]) >= 44


def test_a_broken_off_store_goes_on(folder, tmp_path):
    path = tmp_path / "faces.h5"
    build_store(folder, path, sources=("dfdc",), finder=middle)
    with h5py.File(path, "a") as file:
        file.create_group("stylegan").create_dataset("rows", data=np.zeros(1))  # half-written: not complete
    seen = []

    def counting(rgb):
        seen.append(rgb.shape)
        return middle(rgb)

    store = build_store(folder, path, sources=("dfdc", "stylegan"), finder=counting)
    assert len(seen) == 3
    assert store.rows("stylegan").size == 3
    assert build_store(folder, path, sources=("dfdc", "stylegan")).rows("dfdc").size == 3  # asks for no weights


def test_a_complete_store_is_shared(folder, tmp_path):
    path = tmp_path / "faces.h5"
    build_store(folder, path, sources=("dfdc",), finder=middle)
    with h5py.File(path, "r"):  # as a run that reads it holds it
        assert build_store(folder, path, sources=("dfdc",)).rows("dfdc").size == 3


def test_what_is_missing_is_named(folder, tmp_path):
    with pytest.raises(InputMissing, match=r"nowhere\.h5"):
        FaceStore(tmp_path / "nowhere.h5")
    with pytest.raises(InputMissing, match="yunet"):
        FaceFinder(tmp_path / "yunet.onnx")
    path = tmp_path / "faces.h5"
    build_store(folder, path, sources=("dfdc",), finder=middle)
    with h5py.File(path, "a") as file:
        file["dfdc"]["pictures"][0] = np.zeros(9, np.uint8)
    with pytest.raises(InputUnreadable, match="face 0 of 'dfdc'"):
        FaceStore(path).read("dfdc", 0)


def test_frames_come_every_half_second(tmp_path):
    path = write_video(tmp_path / "a.mp4", [np.full((64, 64, 3), 10 * i, np.uint8) for i in range(15)], fps=10)
    shown = [round(float(rgb.mean()) / 10) for _, rgb in frames_every(0.5, path)]
    assert shown == [0, 5, 10]
