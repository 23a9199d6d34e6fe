"""Dossiers: whole or not there; every change to a file is named."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

import pytest

from streamguard.delivery.dossier import (
    Dossier,
    delete,
    dossiers,
    folder_of,
    read_manifest,
    safe_name,
    size_of,
    sweep,
)
from streamguard.errors import EvidenceDamaged, EvidenceMissing

WHERE = PurePosixPath("door", "run.1")


@pytest.fixture
def folder(tmp_path):
    with Dossier(tmp_path, WHERE) as dossier:
        dossier.write("a.txt", b"hello")
        dossier.write("b.bin", bytes(1000))
        dossier.publish({"written_at": "now"})
    return dossier.folder


def test_a_dossier_is_whole(folder, tmp_path):
    document = read_manifest(folder)
    assert document["format"] == "streamguard.evidence.v1"
    assert document["written_at"] == "now"
    assert {name: file["bytes"] for name, file in document["files"].items()} == {"a.txt": 5, "b.bin": 1000}
    assert list(dossiers(tmp_path)) == [folder]
    assert size_of(folder) == 1005 + (folder / "manifest.json").stat().st_size
    assert sorted(path.name for path in folder.parent.iterdir()) == ["run.1"]


def test_what_is_not_published_is_not_there(tmp_path):
    with Dossier(tmp_path, WHERE) as dossier:
        dossier.write("a.txt", b"hello")
        assert list(dossiers(tmp_path)) == []
        assert dossier.digests() == {"a.txt": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"}
    assert list((tmp_path / "door").iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path):
    def twice():
        with Dossier(tmp_path, WHERE) as dossier:
            dossier.write("a.txt", b"hello")
            dossier.write("a.txt", b"again")

    with pytest.raises(FileExistsError):
        twice()
    assert list((tmp_path / "door").iterdir()) == []


def test_crashes_are_swept_up(folder, tmp_path):
    for name in (".run.2.part", ".run.3.gone"):
        (tmp_path / "door" / name).mkdir()
        (tmp_path / "door" / name / "clip.mp4").write_bytes(b"half")
    assert list(dossiers(tmp_path)) == [folder]
    assert sweep(tmp_path) == 2
    assert sorted(path.name for path in (tmp_path / "door").iterdir()) == ["run.1"]


def test_deleting_takes_the_streams_empty_folder_with_it(folder, tmp_path):
    with Dossier(tmp_path, folder_of("door", "run.2")) as other:
        other.write("a.txt", b"hello")
        other.publish({})
    delete(folder)
    assert list(dossiers(tmp_path)) == [other.folder]
    delete(other.folder)
    assert list(tmp_path.iterdir()) == []


def test_every_change_is_named(folder):
    (folder / "a.txt").write_bytes(b"hellO")
    (folder / "b.bin").write_bytes(bytes(999))
    (folder / "c.txt").touch()
    with pytest.raises(EvidenceDamaged) as error:
        read_manifest(folder)
    assert "'a.txt' has SHA-256" in str(error.value)
    assert "'b.bin' has 999 bytes, the manifest states 1000" in str(error.value)
    assert "'c.txt' is not in the manifest" in str(error.value)


def test_what_is_absent_is_named(folder, tmp_path):
    (folder / "a.txt").unlink()
    with pytest.raises(EvidenceMissing, match=r"'a\.txt' is absent"):
        read_manifest(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(EvidenceMissing, match=r"manifest\.json' is absent"):
        read_manifest(folder)
    with pytest.raises(EvidenceMissing, match="is no folder"):
        read_manifest(tmp_path / "nothing")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"format": "other"}', '{"format": "streamguard.evidence.v1"}'])
def test_a_manifest_that_is_none(folder, text):
    (folder / "manifest.json").write_text(text)
    with pytest.raises(EvidenceDamaged, match=r"manifest\.json"):
        read_manifest(folder)


@pytest.mark.parametrize("name", ["../door/x", "/etc/hostname", "sub/file", ".."])
def test_a_manifest_can_name_no_file_elsewhere(folder, name):
    document = json.loads((folder / "manifest.json").read_text())
    document["files"] = {name: {"bytes": 1, "sha256": "0"}}
    (folder / "manifest.json").write_text(json.dumps(document))
    with pytest.raises(EvidenceDamaged, match="is no file of this folder"):
        read_manifest(folder)


def test_a_link_is_no_file_of_the_folder(folder, tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"hello")
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EvidenceDamaged, match=r"'a\.txt' is no file of this folder"):
        read_manifest(folder)


NAMES = [
    "door",
    "a b",
    "..",
    ".",
    "../../etc",
    "/etc",
    "a/b",
    "a\\b",
    "",
    ".hidden",
    "x" * 500,
    "x" * 501,
    "ü",
    "a\0b",
    "~2e",
]


def test_no_name_leaves_its_folder_and_no_two_meet(tmp_path):
    safe = [safe_name(name) for name in NAMES]
    assert len(set(safe)) == len(NAMES)
    for name in safe:
        (tmp_path / name).mkdir()
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert not name.startswith(".")
    assert safe[0] == "door"
