"""Baselines that learn what can be learnt, and a MesoNet that is the published one."""

from __future__ import annotations

import cv2
import h5py
import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.errors import InputMissing, InputUnreadable, UsageError
from streamguard.lab import baselines
from streamguard.lab.augment import Crop
from streamguard.lab.model import MOBILENET, TWO_CONVOLUTIONS, build
from streamguard.lab.pool import Pool, PoolConfig
from streamguard.lab.statistics import auc

pytestmark = pytest.mark.lab
SMALL = PoolConfig(size=32, each=20)


@pytest.fixture(scope="module")
def pool():
    """Couples of noise, the fakes enlarged from half the size: a trace in the spectrum and in sharpness."""
    rng = np.random.default_rng(0)
    reals = rng.integers(60, 190, (80, 32, 32, 3), np.uint8)
    fakes = [cv2.resize(picture[::2, ::2], (32, 32), interpolation=cv2.INTER_LINEAR) for picture in reals]
    return Pool(np.stack((reals, np.stack(fakes)), axis=1), np.array(["a"] * 80), np.array(["b"] * 80))


@pytest.mark.parametrize("made", [baselines.quality, baselines.forensic])
def test_a_regression_finds_what_was_enlarged(pool, made):
    subject = made(Pool(pool.pictures[:60], pool.family[:60], pool.ground[:60]), SMALL)
    held = pool.pictures[60:].reshape(-1, 32, 32, 3)
    assert auc(subject.score(held), np.tile([0, 1], 20)) > 0.95
    assert subject.crop == Crop(32)
    assert subject.score(held[:0]).shape == (0,)


def test_forensic_features_are_finite_and_tell_a_flat_face(pool):
    flat = baselines.forensic_features(np.full((32, 32, 3), 90, np.uint8))
    assert flat.shape == (73,)
    assert np.isfinite(flat).all()
    assert np.abs(flat - baselines.forensic_features(pool.pictures[0, 0])).max() > 1


def test_a_constant_says_nothing():
    subject = baselines.constant(Crop(32))
    scores = subject.calibrated(subject.score(np.zeros((4, 32, 32, 3), np.uint8)))
    assert scores.tolist() == [0, 0, 0, 0]
    assert auc(scores, [0, 1, 0, 1]) == 0.5


@pytest.mark.parametrize("name", list(baselines.NETS))
def test_a_small_net_trains_through_the_loop_and_is_kept(pool, name, tmp_path):
    net = baselines.NetConfig(steps=2, batch=4)
    subject = baselines.trained_net(name, pool, SMALL, net, tmp_path / "net")
    pictures = pool.pictures[:2, 0]
    assert subject.name == name
    again = baselines.trained_net(name, pool, SMALL, net, tmp_path / "net")
    assert np.allclose(subject.score(pictures), again.score(pictures))
    assert len((tmp_path / "net/log.jsonl").read_text().splitlines()) == 1  # not trained twice


def test_the_two_convolutions_have_the_size_that_the_paper_names():
    net = build(pretrained=False, architecture=TWO_CONVOLUTIONS, size=128)
    assert sum(p.numel() for p in net.parameters()) == 265_409
    with pytest.raises(UsageError, match=f"no package here has ImageNet weights for '{MOBILENET}'"):
        build(architecture=MOBILENET)


def weights(path, rng):
    """A file of the published form, with other numbers in it."""
    shapes = [(3, 3, 3, 8), (5, 5, 8, 8), (5, 5, 8, 16), (5, 5, 16, 16)]
    with h5py.File(path, "w") as file:

        def put(layer, **tensors):
            for name, tensor in tensors.items():
                file[f"{layer}/{layer}/{name}:0"] = np.asarray(tensor, np.float32)

        for number, shape in enumerate(shapes, 5):
            put(f"conv2d_{number}", kernel=rng.normal(0, 0.2, shape), bias=rng.normal(0, 0.1, shape[3]))
            put(f"batch_normalization_{number}", moving_mean=rng.normal(0, 0.1, shape[3]),
                moving_variance=rng.uniform(0.5, 2, shape[3]), gamma=rng.uniform(0.5, 2, shape[3]),
                beta=rng.normal(0, 0.1, shape[3]))  # fmt: skip
        put("dense_3", kernel=rng.normal(0, 0.1, (1024, 16)), bias=rng.normal(0, 0.1, 16))
        put("dense_4", kernel=rng.normal(0, 1, (16, 1)), bias=[0.25])
    return path


def test_mesonet_gives_a_logit_a_face_whatever_the_batch(tmp_path):
    rng = np.random.default_rng(0)
    net = baselines.MesoNet(weights(tmp_path / "meso.h5", rng))
    pictures = rng.integers(0, 256, (3, 256, 256, 3), np.uint8)
    together, alone = net(pictures), np.concatenate([net(picture[None]) for picture in pictures])
    assert together.shape == (3,)
    assert np.allclose(together, alone, atol=1e-4)
    assert np.ptp(together) > 0
    assert net(pictures[:0]).shape == (0,)


def test_mesonet_turns_realness_into_fakeness(tmp_path):
    path = weights(tmp_path / "meso.h5", np.random.default_rng(0))
    with h5py.File(path, "a") as file:
        file["dense_4/dense_4/kernel:0"][...] = 0  # only the bias is left: its net says 0.25 towards real
    assert baselines.MesoNet(path)(np.zeros((1, 256, 256, 3), np.uint8)).tolist() == [-0.25]


def test_other_weights_are_named(tmp_path):
    with pytest.raises(InputMissing, match=r"meso\.h5"):
        baselines.MesoNet(tmp_path / "meso.h5")
    (tmp_path / "text.h5").write_text("no weights")
    with pytest.raises(InputUnreadable, match="holds no Meso4"):
        baselines.MesoNet(tmp_path / "text.h5")
    h5py.File(tmp_path / "other.h5", "w").close()
    with pytest.raises(InputUnreadable, match="holds no Meso4"):
        baselines.MesoNet(tmp_path / "other.h5")
