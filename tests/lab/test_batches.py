"""Batches of named families and policies; without a name they are what they were."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

pytest.importorskip("h5py")

from streamguard.errors import InputMissing, UsageError
from streamguard.lab.augment import Chain, Crop
from streamguard.lab.batches import GROUND, Batches, Mixture, _choices, forged_pair
from streamguard.lab.data import FaceStore

pytestmark = pytest.mark.lab
TINY = Crop(size=32)


@pytest.fixture(scope="module")
def meshed(made_store):
    from rich.console import Console

    from streamguard.lab.forge.mesh import fitted
    from streamguard.lab.forge.meshfile import mesh_path

    if not mesh_path(made_store).is_file():
        from streamguard.lab.forge.meshfile import build_meshes

        build_meshes(made_store, lambda rgb, landmarks: fitted(landmarks), Console(quiet=True))
    return made_store


def test_the_default_batch_is_self_blended_through_the_forensic_chain(made_store):
    """The same random numbers in the same order, drawn here by hand."""
    mixture = Mixture(batch=8, crop=TINY, seed=3)
    pictures, labels = Batches(made_store, mixture, 4)[2]
    rng = np.random.default_rng(3 * 1_000_003 + 2)
    expected = []
    for source in _choices(rng, GROUND, 2):
        rows = made_store.find(source, "fit", 0)
        sample = made_store.read(source, int(rows[rng.integers(rows.size)]))
        expected += forged_pair(sample, rng, TINY, Chain)
    assert (pictures[:4] == np.stack(expected)).all()
    assert labels[:4].tolist() == [0, 1, 0, 1]


@pytest.mark.parametrize("policy", ["forensic", "forensic+cutout", "paper"])
def test_all_families_fill_the_pairs(meshed, policy):
    batches = Batches(meshed, Mixture(batch=16, crop=TINY, families="all", policy=policy), steps=2)
    pictures, labels = batches[1]
    assert pictures.shape == (16, 32, 32, 3)
    assert labels.sum() == 8
    again = pickle.loads(pickle.dumps(batches))  # as a worker gets it
    assert (again[1][0] == pictures).all()


def test_a_supplied_source_is_left_out(meshed):
    batches = Batches(meshed, Mixture(batch=8, crop=TINY, families="all,-dfdc"), steps=1)
    assert {source for source, _ in batches._supplied} == {"openforensics", "stylegan"}
    alone = Batches(meshed, Mixture(batch=8, crop=TINY, families="all,-supplied"), steps=1)
    assert not alone._supplied
    assert alone[0][1].tolist() == [0, 1] * 4


def test_families_beyond_the_default_need_their_meshes(made_store, tmp_path):
    (tmp_path / "faces.h5").write_bytes(made_store.path.read_bytes())
    with pytest.raises(InputMissing, match=r"Make them with `streamguard lab forge`"):
        Batches(FaceStore(tmp_path / "faces.h5"), Mixture(batch=8, crop=TINY, families="warp"), steps=1)


@pytest.mark.parametrize("families", ["self-blended", "all"])
def test_twins_show_the_first_pictures_stored_once_more(meshed, families):
    without = Batches(meshed, Mixture(batch=8, crop=TINY, families=families), steps=1)[0]
    pictures, labels = Batches(meshed, Mixture(batch=8, crop=TINY, families=families, twins=4), steps=1)[0]
    assert (pictures[:8] == without[0]).all()
    assert labels.tolist() == [*without[1], 0, 1, 0, 1]
    apart = np.abs(pictures[:4].astype(int) - pictures[8:]).mean(axis=(1, 2, 3))
    others = np.abs(pictures[:4].astype(int) - pictures[4:8]).mean(axis=(1, 2, 3))
    assert (apart > 0).all()
    assert (apart < others / 2).all()


@pytest.mark.parametrize("twins", [3, 6, -2])
def test_a_number_of_twins_that_no_batch_has_is_refused(made_store, twins):
    with pytest.raises(UsageError, match="an even number up to 4"):
        Batches(made_store, Mixture(batch=8, crop=TINY, twins=twins), steps=1)
