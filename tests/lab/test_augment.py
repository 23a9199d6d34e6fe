"""The chain: the same for both partners, wide enough, and always the size that the net takes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("h5py")

from streamguard.errors import UsageError
from streamguard.frames import Box
from streamguard.lab.augment import Chain, Crop, h264, jpeg, mirrored, plain, softened, surroundings
from streamguard.lab.batches import Batches, Mixture, forged_pair
from streamguard.pixels import sharpness

pytestmark = pytest.mark.lab
TINY = Crop(size=32)


@pytest.fixture(scope="module")
def face(made_store):
    return made_store.read("talking", 0)


def test_a_chain_is_its_seed(face):
    made = [Chain(s).apply(face.rgb, face.box, TINY) for s in (4, 4, 5)]
    assert made[0].shape == (32, 32, 3)
    assert (made[0] == made[1]).all()
    assert (made[0] != made[2]).any()


def test_a_chain_treats_two_pictures_alike(face):
    """Geometry and light depend on the seed alone: an inverted picture stays the mirror image of the other."""
    other = 255 - face.rgb
    for seed in range(10):
        a, b = (Chain(seed).apply(rgb, face.box, TINY).astype(float) for rgb in (face.rgb, other))
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] < -0.6, seed


def test_chains_cover_soft_and_sharp(face):
    found = [sharpness(Chain(seed).apply(face.rgb, face.box, Crop(64))) for seed in range(40)]
    assert max(found) > 8 * min(found)


def test_twins_show_one_picture_in_the_light_of_two_moments(face):
    bright = np.asarray(np.clip(face.rgb.astype(int) + 90, 0, 255), np.uint8)
    pairs = [Chain(seed).twice(bright, face.box, Crop(64)) for seed in range(20)]
    assert all((first == Chain(seed).apply(bright, face.box, Crop(64))).all() for seed, (first, _) in enumerate(pairs))
    assert np.median([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs]) > 0.95
    gains = [np.log(b.mean() / a.mean()) for a, b in pairs]
    assert min(gains) < -0.1 < 0.05 < max(gains)
    whiter = [(b == 255).mean() - (a == 255).mean() for a, b in pairs]
    assert max(whiter) > 0.02, "what passes the white is lost"


def test_codecs_return_the_same_picture_a_little_worse(face):
    rgb = np.ascontiguousarray(face.rgb)
    for worse, better in ((jpeg(rgb, 30), jpeg(rgb, 95)), (h264([rgb] * 3, 40), h264([rgb] * 3, 18))):
        losses = [np.abs(x.astype(int) - rgb).mean() for x in (worse, better)]
        assert 0 < losses[1] < losses[0] < 25


def test_mirrored_and_cut_faces_keep_their_box(face):
    rgb, box = mirrored(*mirrored(face.rgb, face.box))
    assert (rgb == face.rgb).all()
    assert box == pytest.approx(face.box)
    cut, moved = surroundings(face.rgb, face.box, 0.1)
    assert moved.width == face.box.width
    x, y = face.box.x1 - moved.x1, face.box.y1 - moved.y1
    assert (cut == face.rgb[int(y) : int(y) + cut.shape[0], int(x) : int(x) + cut.shape[1]]).all()


def test_softening_keeps_the_size_and_loses_detail(face):
    soft = softened(face.rgb, 400.0, np.random.default_rng(0))
    assert soft.shape == face.rgb.shape
    assert sharpness(soft) < sharpness(face.rgb)


def test_plain_is_the_serving_crop(face):
    assert plain(face.rgb, Box(10, 10, 70, 80), TINY).shape == (32, 32, 3)


def test_partners_share_the_chain(made_store):
    """Outside the forged face the two differ by what compression spreads, no more."""
    sample = made_store.read("utkface", 0)
    for seed in range(6):
        real, fake = forged_pair(sample, np.random.default_rng(seed), Crop(64))
        corners = np.r_[real[:6, :6].ravel(), real[:6, -6:].ravel()].astype(int)
        assert np.abs(corners - np.r_[fake[:6, :6].ravel(), fake[:6, -6:].ravel()]).mean() < 12, seed


def test_a_batch_is_balanced_and_repeatable(made_store):
    batches = Batches(made_store, Mixture(batch=16, crop=TINY), steps=3)
    pictures, labels = batches[1]
    assert pictures.shape == (16, 32, 32, 3)
    assert pictures.dtype == np.uint8
    assert labels.sum() == 8
    assert (batches[1][0] == pictures).all()
    assert (batches[2][0] != pictures).any()
    assert len(batches) == 3


def test_a_source_with_one_label_only_is_not_supplied(made_store, monkeypatch):
    find = made_store.find
    monkeypatch.setattr(made_store, "find", lambda s, p, x=None: find(s, p, x)[: 0 if (s, x) == ("dfdc", 1) else None])
    batches = Batches(made_store, Mixture(batch=8, crop=TINY), steps=1)
    assert {source for source, _ in batches._supplied} == {"openforensics", "stylegan"}


def test_a_store_without_real_faces_is_refused(made_store, monkeypatch):
    monkeypatch.setattr(made_store, "find", lambda *_: np.zeros(0, int))
    with pytest.raises(UsageError, match="no real face of part 'fit'"):
        Batches(made_store, Mixture(), steps=1)
