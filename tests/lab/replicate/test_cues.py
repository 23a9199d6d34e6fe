"""Cues of the related work: each finds what it looks for, and none earns a place by chance."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("timm")

import torch

from streamguard.errors import UsageError
from streamguard.lab.augment import Crop
from streamguard.lab.pool import Pool, PoolConfig
from streamguard.lab.replicate import films, motion
from streamguard.lab.replicate.cues import UNIFORM, GanConfig, discriminator, gan_subject, generator, lbp, lbp_subject
from streamguard.lab.replicate.cues import train_gan as trained_gan
from streamguard.lab.replicate.gain import Both, gain
from streamguard.lab.replicate.motion import LENGTH, Recurrent, Windows, change, change_scores, recurrent_scores
from streamguard.lab.statistics import auc

pytestmark = pytest.mark.lab


def test_uniform_patterns_are_58_and_the_rest():
    assert sorted(set(UNIFORM.tolist())) == list(range(59))
    assert UNIFORM[0b00001111] != 58
    assert UNIFORM[0b01010101] == 58


def test_lbp_knows_texture_and_not_light():
    rng = np.random.default_rng(0)
    picture = rng.integers(20, 120, (32, 32, 3), np.uint8)
    assert lbp(picture).shape == (944,)
    assert np.allclose(lbp(picture), lbp(picture + 100))
    assert np.abs(lbp(picture) - lbp(cv2.GaussianBlur(picture, (0, 0), 2))).sum() > 5
    assert lbp(picture).reshape(16, 59).sum(1) == pytest.approx(np.ones(16))


def test_an_lbp_subject_finds_what_was_blurred():
    rng = np.random.default_rng(0)
    reals = rng.integers(60, 190, (60, 32, 32, 3), np.uint8)
    couples = np.stack([np.stack((real, cv2.GaussianBlur(real, (0, 0), 0.8))) for real in reals])
    subject = lbp_subject(Pool(couples[:40], np.array(["a"] * 40), np.array(["b"] * 40)), PoolConfig(size=32))
    assert auc(subject.score(couples[40:].reshape(-1, 32, 32, 3)), np.tile([0, 1], 20)) > 0.9


def test_a_discriminator_is_trained_once_and_calls_noise_made(tmp_path):
    ramp = np.linspace(0, 200, 32).astype(np.uint8)
    rng = np.random.default_rng(0)
    reals = np.tile(ramp[None, None, :, None], (64, 32, 1, 3)) + rng.integers(0, 20, (64, 1, 1, 3)).astype(np.uint8)
    config = GanConfig(steps=25, batch=8, width=8, noise=8)
    judge = trained_gan(reals, config, tmp_path / "d.pt")
    score = gan_subject(judge, Crop(32)).score
    noise = rng.integers(0, 256, (16, 32, 32, 3), np.uint8)
    assert auc(np.concatenate((score(reals[:16]), score(noise))), np.repeat([0, 1], 16)) > 0.9
    again = gan_subject(trained_gan(reals, config, tmp_path / "d.pt"), Crop(32)).score
    assert np.array_equal(again(noise), score(noise))
    assert score(noise[:0]).shape == (0,)
    made = generator(8, 8)(torch.randn(2, 8, 1, 1))
    assert made.shape == (2, 3, 32, 32)
    assert discriminator(8)(made).shape == (2, 1)


def test_windows_are_pairs_of_successive_crops_of_one_person(made_store):
    of = Windows(**motion.windows(made_store, "fit", 32, 1))
    assert of.pictures.shape[1:] == (LENGTH, 32, 32, 3)
    assert of.label.tolist() == [0, 1] * (len(of.label) // 2)
    assert len(of.label) == 2 * 2 * 2  # two people, twelve crops each: two windows
    assert set(of.group) == {"fit0", "fit1"}
    assert (of.pictures[0] != of.pictures[1]).any()
    with pytest.raises(UsageError, match="no talking face of 8 successive crops in part 'search'"):
        motion.windows(Empty(), "search", 32, 1)


class Empty:
    """A store without talking people in the part that is asked for."""

    path = "faces.h5"

    def rows(self, _):
        return {}

    def find(self, *_):
        return []


def moving(count, seed):
    """Windows of one still: half of them with a ring that flickers."""
    rng = np.random.default_rng(seed)
    pictures = np.tile(rng.integers(60, 180, (count, 1, 32, 32, 3), np.uint8), (1, LENGTH, 1, 1, 1))
    label = np.arange(count) % 2
    flicker = rng.integers(0, 40, (count, LENGTH, 1, 1, 3)) * label[:, None, None, None, None]
    pictures[:, :, :6] = pictures[:, :, :6] + flicker.astype(np.uint8)
    return Windows(pictures, label.astype(np.uint8), np.array([f"p{i}" for i in range(count)]))


def test_the_rate_of_change_finds_an_edge_that_flickers():
    train, test = moving(20, 1), moving(20, 2)
    assert auc(change_scores(train, test), test.label) > 0.95
    still = np.tile(train.pictures[0, :1], (LENGTH, 1, 1, 1))
    assert change(still).tolist() == [0.0] * 8


@pytest.mark.parametrize("memory", motion.MEMORIES)
def test_a_net_over_windows_gives_a_logit_each(memory, tmp_path):
    train, test = moving(8, 1), moving(6, 2)
    scores = recurrent_scores(memory, train, test, 2, tmp_path / memory)
    assert scores.shape == (6,)
    assert np.isfinite(scores).all()
    assert np.allclose(scores, recurrent_scores(memory, train, test, 2, tmp_path / memory))  # kept, not trained twice


def test_memory_sees_order_and_the_mean_does_not():
    torch.manual_seed(0)
    x = torch.randn(LENGTH, 3, 16, 16)
    turned = x.flip(0)
    for memory in motion.MEMORIES:
        net = Recurrent(memory).eval()
        with torch.no_grad():
            same = torch.allclose(net(x), net(turned), atol=1e-6)
        assert same == (memory == "mean")


def test_a_cue_that_knows_something_earns_its_place_and_noise_does_not():
    rng = np.random.default_rng(0)
    label = np.arange(400) % 2
    base, good, noise = label + rng.normal(0, 2, 400), label + rng.normal(0, 0.5, 400), rng.normal(0, 1, 400)
    half = slice(0, 200), slice(200, 400)
    found = {}
    for name, cue in (("good", good), ("noise", noise)):
        both = Both(base[half[0]], cue[half[0]], label[half[0]])
        found[name] = gain(base[half[1]], both(base[half[1]], cue[half[1]]), label[half[1]], np.arange(200))
    assert found["good"]["earns"]
    assert found["good"]["low"] > 0.1
    assert not found["noise"]["earns"]
    assert abs(found["noise"]["value"]) < 0.05


def test_films_are_of_one_face_each_and_labelled_by_a_coin(made_store):
    of = films.films(made_store, 4, 32, 1)
    assert of["pictures"].shape == (4 * films.FRAMES, 32, 32, 3)
    assert of["label"].sum() == 2 * films.FRAMES
    assert len(set(of["group"])) == 4
    assert all(len(set(of["label"][of["group"] == name])) == 1 for name in set(of["group"]))
    with pytest.raises(UsageError, match="9999 films need as many real faces"):
        films.films(made_store, 9999, 32, 1)
