"""Meshes beside their store: made once, bound to it, gone on with."""

from __future__ import annotations

import pickle
import shutil

import h5py
import numpy as np
import pytest
from rich.console import Console

from streamguard.errors import InputMissing, InputUnreadable, PictureSize
from streamguard.lab.data import SOURCES, FaceStore
from streamguard.lab.forge.mesh import agrees, fitted
from streamguard.lab.forge.meshfile import Meshes, build_meshes, digest_of, mesh_path, skin_in

pytestmark = pytest.mark.lab


@pytest.fixture
def copy(made_store, tmp_path):
    """A store of its own, without meshes."""
    shutil.copy(made_store.path, tmp_path / "faces.h5")
    return FaceStore(tmp_path / "faces.h5")


def shifted(rgb, landmarks):
    """A finder that needs no network: it fails on every other face."""
    return None if int(rgb.sum()) % 2 else fitted(landmarks)


def test_a_real_face_has_its_mesh_and_a_fake_has_none(made_store, meshes):
    for index in made_store.find("talking", "fit", 0)[:5].tolist():
        ground = meshes.ground("talking", index)
        assert ground.measured
        assert agrees(ground.mesh, ground.landmarks)
        assert ground.group.startswith("talking/fit")
    assert np.isnan(meshes.mesh("dfdc", int(made_store.find("dfdc", "fit", 1)[0]))).all()
    assert meshes.lacking("dfdc", made_store.find("dfdc", "fit", 1)) == len(made_store.find("dfdc", "fit", 1))


def test_where_the_network_failed_the_mean_face_is_laid_over(copy):
    meshes = build_meshes(copy, shifted, Console(quiet=True))
    grounds = [meshes.ground("utkface", int(i)) for i in copy.find("utkface", "fit", 0)]
    assert 0 < sum(not g.measured for g in grounds) < len(grounds)
    assert meshes.lacking("utkface", copy.find("utkface", "fit", 0)) == sum(not g.measured for g in grounds)
    for ground in grounds:
        assert np.allclose(ground.mesh, fitted(ground.landmarks), atol=1e-3)


def test_columns_and_skin(copy):
    meshes = build_meshes(copy, lambda rgb, landmarks: fitted(landmarks), Console(quiet=True))
    rows = copy.find("talking", "fit", 0)[[0, 3]]
    points = meshes.points("talking", rows, [0, 4, 17])
    assert points.shape == (2, 3, 2)
    ground = meshes.ground("talking", int(rows[1]))
    assert np.allclose(points[1], ground.mesh[[0, 4, 17]])
    assert np.allclose(meshes.skins("talking", rows)[1], skin_in(ground.rgb, ground.mesh), atol=0.1)


def test_a_broken_run_goes_on_with_what_is_complete(copy):
    calls = []

    def dies(rgb, landmarks):
        calls.append(1)
        if len(calls) > 20:
            raise KeyboardInterrupt
        return fitted(landmarks)

    with pytest.raises(KeyboardInterrupt):
        build_meshes(copy, dies, Console(quiet=True))
    with pytest.raises(InputMissing, match=r"lacks openforensics.*Finish it with `streamguard lab forge`"):
        Meshes(copy)
    done = []
    build_meshes(copy, lambda rgb, landmarks: done.append(1) or fitted(landmarks), Console(quiet=True))
    real = sum(int((copy.rows(s)["label"] == 0).sum()) for s in SOURCES)
    assert len(done) == real - int((copy.rows("dfdc")["label"] == 0).sum())
    build_meshes(copy, dies, Console(quiet=True))  # nothing is left to do


def test_meshes_of_other_faces_are_refused(copy):
    build_meshes(copy, lambda rgb, landmarks: fitted(landmarks), Console(quiet=True))
    anew = copy.path.with_name("anew.h5")
    shutil.copy(copy.path, anew)
    with h5py.File(anew, "r+") as file:
        rows = file["utkface"]["rows"][:]
        rows["box"] += 1
        file["utkface"]["rows"][:] = rows
    anew.replace(copy.path)
    other = FaceStore(copy.path)
    assert digest_of(other) != digest_of(copy)
    for use in (Meshes, build_meshes):
        with pytest.raises(InputUnreadable, match="belongs to other faces than"):
            use(other)


def test_absent_meshes_say_how_they_are_made(copy):
    with pytest.raises(InputMissing, match=r"faces\.mesh\.h5' do not exist. Make them with `streamguard lab forge`"):
        Meshes(copy)
    assert mesh_path(copy).name == "faces.mesh.h5"


def test_a_worker_opens_the_file_anew(meshes):
    meshes.mesh("talking", 0)
    again = pickle.loads(pickle.dumps(meshes))
    assert again._file is None
    assert np.array_equal(again.mesh("talking", 0), meshes.mesh("talking", 0), equal_nan=True)


def test_landmarks_that_are_no_numbers_are_refused_by_name(copy):
    with h5py.File(copy.path, "r+") as file:
        rows = file["utkface"]["rows"][:]
        rows["landmarks"][2] = np.nan
        file["utkface"]["rows"][:] = rows
    store = FaceStore(copy.path)
    meshes = build_meshes(store, lambda rgb, landmarks: fitted(landmarks), Console(quiet=True))
    with pytest.raises(PictureSize, match="face 2 of 'utkface' has landmarks that are no numbers"):
        meshes.ground("utkface", 2)
