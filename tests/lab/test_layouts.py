"""Every layout read from its folders: labels, people, recordings, hints; what is wrong is named."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("h5py")

from streamguard.errors import InputMissing, UsageError
from streamguard.lab.layouts import persons, read_layout

pytestmark = pytest.mark.lab

HEAD = "path,label,source,generator,group,split,face_x,face_y,face_w,face_h\n"


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def by_key(root, layout="auto"):
    name, clips = read_layout(root, layout)
    assert [clip.key for clip in clips] == sorted(clip.key for clip in clips)
    return name, {clip.key: clip for clip in clips}


def test_celeb_df(tmp_path):
    touch(
        tmp_path, "Celeb-real/id0_0000.mp4", "Celeb-real/id1_0003.mp4", "YouTube-real/00012.mp4",
        "Celeb-synthesis/id0_id1_0000.mp4",
    )  # fmt: skip
    (tmp_path / "List_of_testing_videos.txt").write_text("1 YouTube-real/00012.mp4\n0 Celeb-synthesis/x.mp4\n")
    name, clips = by_key(tmp_path)
    assert name == "celeb-df-v2"
    swap = clips["Celeb-synthesis/id0_id1_0000.mp4"]
    assert (swap.label, swap.identities) == ("fake", ("celeb/id0", "celeb/id1"))
    assert swap.original == "Celeb-real/id0_0000.mp4"
    assert clips["Celeb-real/id0_0000.mp4"].identities == ("celeb/id0",)
    assert persons(clips["YouTube-real/00012.mp4"]) == ("recording:YouTube-real/00012.mp4",)
    assert (clips["YouTube-real/00012.mp4"].hint, swap.hint) == ("test", "train")


def test_faceforensics(tmp_path):
    made = "manipulated_sequences"
    touch(
        tmp_path, "original_sequences/youtube/c23/videos/000.mp4", "original_sequences/youtube/c40/videos/000.mp4",
        "original_sequences/actors/c23/videos/01__kitchen.mp4", f"{made}/Deepfakes/c40/videos/000_003.mp4",
        f"{made}/FaceSwap/c23/videos/000_003.mp4", f"{made}/Deepfakes/masks/videos/000_003.mp4",
        f"{made}/DeepFakeDetection/c23/videos/01_02__kitchen__ABC.mp4",
    )  # fmt: skip
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/val.json").write_text(json.dumps([["000", "003"]]))
    name, clips = by_key(tmp_path)
    assert name == "ffpp"
    assert len(clips) == 6  # the mask is no video of a face
    swap = clips[f"{made}/Deepfakes/c40/videos/000_003.mp4"]
    assert swap.identities == ("ffpp/youtube000", "ffpp/youtube003")
    assert (swap.source, swap.generator, swap.hint) == ("ffpp/c40", "Deepfakes", "val")
    reals = [clips[f"original_sequences/youtube/{c}/videos/000.mp4"] for c in ("c23", "c40")]
    assert {clip.original for clip in (*reals, swap)} == {"youtube/000"}
    acted = clips[f"{made}/DeepFakeDetection/c23/videos/01_02__kitchen__ABC.mp4"]
    assert acted.original == clips["original_sequences/actors/c23/videos/01__kitchen.mp4"].original
    assert acted.identities == ("ffpp/actor01", "ffpp/actor02")


def test_dfdc_in_parts(tmp_path):
    for part, names in (("part_0", "ab"), ("part_1", "cd")):
        (tmp_path / part).mkdir()
        real, fake = (f"{letter}.mp4" for letter in names)
        rows = {real: {"label": "REAL", "split": "train"}, fake: {"label": "FAKE", "split": "train", "original": real}}
        (tmp_path / part / "metadata.json").write_text(json.dumps(rows))
    name, clips = by_key(tmp_path)
    assert name == "dfdc"
    assert clips["part_1/d.mp4"].original == "part_1/c.mp4"
    assert persons(clips["part_1/d.mp4"]) == persons(clips["part_1/c.mp4"]) != persons(clips["part_0/a.mp4"])
    assert clips["part_0/a.mp4"].hint == "train"


def test_plain_folders(tmp_path):
    touch(tmp_path, "real/ann/1.mp4", "real/2.mp4", "fake/ann/1.mkv", "fake/3.mp4", "fake/notes.txt")
    name, clips = by_key(tmp_path)
    assert (name, len(clips)) == ("plain", 4)
    assert clips["fake/ann/1.mkv"].identities == clips["real/ann/1.mp4"].identities == ("plain/ann",)
    assert clips["fake/ann/1.mkv"].original == "real/ann/1.mp4"
    assert clips["fake/3.mp4"].original == "fake/3.mp4"


def test_the_supplied_folder_keeps_its_test_closed(tmp_path):
    rows = [
        "dfdc/real/a.jpg,real,dfdc,none,g1,train,,,,", "dfdc/fake/b.jpg,fake,dfdc,swap,g1,train,1,2,30,40",
        "dfdc/real/c.jpg,real,dfdc,none,g2,val,,,,", "clips/real/d.mp4,real,talking,none,p1,sample,,,,",
        "talking/e.mp4,real,talking,none,p2,sample,,,,",
    ]  # fmt: skip
    (tmp_path / "manifest.csv").write_text(HEAD + "\n".join(rows) + "\n")
    name, clips = by_key(tmp_path)
    assert name == "supplied"
    assert set(clips) == {"dfdc/real/a.jpg", "dfdc/fake/b.jpg", "talking/e.mp4"}
    fake = clips["dfdc/fake/b.jpg"]
    assert (fake.source, fake.generator, fake.identities, fake.hint) == ("dfdc", "swap", ("dfdc/g1",), "train")
    assert fake.entry is not None
    assert fake.entry.face == (1, 2, 31, 42)


@pytest.mark.parametrize(
    ("names", "layout", "says"),
    [
        (["real/1.mp4", "real/2.mp4", "fake/notes.txt"], "auto", "no fakes"),
        (["fake/1.mp4", "fake/2.mp4"], "plain", "no real videos"),
        (["real/ann/1.mp4", "fake/ann/1.mp4"], "plain", "one identity only .'plain/ann'"),
        (["videos/1.mp4"], "auto", "none of the known layouts"),
        (["real/1.mp4", "fake/2.mp4"], "ffpp", "not laid out as ffpp: expected original_sequences"),
        (["real/1.mp4"], "vimeo", "layout 'vimeo' is not known"),
        (["Celeb-real/anna.mp4", "Celeb-synthesis/id0_id1_0000.mp4"], "auto", r"anna\.mp4' is not named as in Celeb"),
        (["manipulated_sequences/Deepfakes/c23/videos/x.mp4"], "auto", r"x\.mp4' is not named as in FaceF"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, names, layout, says):
    touch(tmp_path, *names)
    with pytest.raises(UsageError, match=says):
        read_layout(tmp_path, layout)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("manifest.csv", "file,is_fake\n1.mp4,1\n", "foreign: it lacks the columns face_h"),
        ("manifest.csv", HEAD + "a.jpg,spoof,x,y,g,train,,,,\n", "foreign: label 'spoof'"),
        ("metadata.json", '{"a.mp4": {"fake": true}}', r"foreign metadata\.json"),
        ("metadata.json", "{", "no readable JSON"),
    ],
)
def test_a_foreign_manifest_is_named(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=says):
        read_layout(tmp_path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputMissing, match="nowhere"):
        read_layout(tmp_path / "nowhere")
