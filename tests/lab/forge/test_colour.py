"""Colour transfer and lost detail."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from streamguard.lab.forge.colour import coarser, recoloured, skin_of
from streamguard.pixels import sharpness

pytestmark = pytest.mark.lab


def test_colours_are_taken_over_under_the_weight(face):
    target = np.clip(face.rgb * np.array([0.6, 0.9, 1.1]), 0, 255).astype(np.uint8)
    weight = np.zeros((200, 200), np.float32)
    weight[60:150, 60:140] = 1
    wanted = skin_of(target, weight)
    assert np.abs(skin_of(face.rgb, weight) - wanted).max() > 5
    assert np.abs(skin_of(recoloured(face.rgb, target, weight, 1.0), weight) - wanted).max() < 1.5
    half = skin_of(recoloured(face.rgb, target, weight, 0.5), weight)
    assert np.allclose(half, (skin_of(face.rgb, weight) + wanted) / 2, atol=1.5)


def test_a_flat_picture_does_not_turn_into_noise(face):
    rng = np.random.default_rng(0)
    flat = np.clip(120 + rng.normal(0, 1, face.rgb.shape), 0, 255).astype(np.uint8)
    made = recoloured(flat, face.rgb, np.ones((200, 200), np.float32), 1.0)
    assert made.std((0, 1)).max() < 4 * flat.std((0, 1)).max()


def test_nothing_weighed_nothing_changed(face):
    nothing = np.zeros((200, 200), np.float32)
    assert recoloured(face.rgb, 255 - face.rgb, nothing, 1.0) is face.rgb
    assert np.isnan(skin_of(face.rgb, nothing)).all()


def test_detail_is_lost_by_the_unit(face):
    soft = coarser(face.rgb, 44, 15)
    assert soft.shape == face.rgb.shape
    assert sharpness(soft) < sharpness(coarser(face.rgb, 44, 30)) < sharpness(face.rgb)
    assert coarser(face.rgb, 44, 0) is face.rgb
    assert coarser(face.rgb, 44, 60) is face.rgb
    blocky = coarser(face.rgb, 44, 15, cv2.INTER_NEAREST)
    assert (blocky != soft).any()
