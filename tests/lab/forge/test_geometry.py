"""Outlines, soft edges and maps."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from streamguard.lab.forge.base import Window, window_of
from streamguard.lab.forge.geometry import (
    FITS,
    HULLS,
    Edge,
    apply,
    bent,
    displaced,
    enlarged,
    fit,
    laid_over,
    mirrored,
    nodes,
    outline,
    polygons,
)
from streamguard.lab.forge.mesh import LEFT_BROW, LIPS, OVAL, RIGHT_EYE, five_of

pytestmark = pytest.mark.lab
PLAIN = Edge(seed=1, elastic=0.0, grow=0.0, soften=0.03)


def test_the_hulls_are_what_they_are_called(face):
    masks = {kind: outline(kind, face.mesh, (200, 200)) > 0.5 for kind in HULLS}
    area = {kind: int(mask.sum()) for kind, mask in masks.items()}
    assert area["oval"] > area["brows"] > area["lower"] > area["parts"] > 0
    for kind in ("brows", "lower", "parts"):
        assert (masks[kind] & ~masks["oval"]).sum() < 0.02 * area[kind], kind
    x, y = face.mesh[list(LEFT_BROW)].mean(0).astype(int)
    assert masks["brows"][y, x]
    assert not masks["lower"][y, x]
    x, y = face.mesh[list(LIPS)].mean(0).astype(int)
    assert all(mask[y, x] for mask in masks.values())


def test_kept_parts_alone_are_outlined(face):
    mouth = outline("parts", face.mesh, (200, 200), keep=("mouth",))
    x, y = face.mesh[list(RIGHT_EYE)].mean(0).astype(int)
    assert mouth[y, x] == 0
    assert 0 < mouth.sum() < outline("parts", face.mesh, (200, 200)).sum()


def test_polygons_are_antialiased():
    square = np.array([[10.5, 10.5], [20.5, 10.5], [20.5, 20.5], [10.5, 20.5]], np.float32)
    mask = polygons([square], (32, 32))
    assert mask[15, 15] == 1
    assert mask[0, 0] == 0
    assert mask.dtype == np.float32


def test_an_edge_grows_shrinks_and_softens(face):
    hard = outline("brows", face.mesh, (200, 200))
    size = {grow: float(replace(PLAIN, grow=grow).apply(hard, face.unit).sum()) for grow in (-0.15, 0.0, 0.1)}
    assert size[-0.15] < size[0.0] < size[0.1]
    soft = replace(PLAIN, soften=0.15).apply(hard, face.unit)
    assert soft.max() == pytest.approx(1)
    assert ((soft > 0.1) & (soft < 0.9)).sum() > 2 * (
        (lambda m: (m > 0.1) & (m < 0.9))(PLAIN.apply(hard, face.unit))
    ).sum()
    bent_edge = replace(PLAIN, elastic=0.1).apply(hard, face.unit)
    assert np.abs(bent_edge - PLAIN.apply(hard, face.unit)).max() > 0.3
    assert (bent_edge == replace(PLAIN, elastic=0.1).apply(hard, face.unit)).all()


@pytest.mark.parametrize("kind", ["similarity", "affine"])
def test_a_map_is_found_again(kind):
    rng = np.random.default_rng(3)
    points = rng.uniform(0, 100, (12, 2)).astype(np.float32)
    truth = (
        np.array([[1.2, -0.4, 7], [0.4, 1.2, -3]])
        if kind == "similarity"
        else np.array([[1.1, 0.3, 5], [-0.2, 0.8, 9]])
    )
    assert np.allclose(fit(points, apply(truth, points), kind), truth, atol=1e-4)


@pytest.mark.parametrize("kind", FITS)
def test_another_face_lies_over_this_one(kind, face, other):
    window = window_of(face, 0.2)
    picture, moved = laid_over(other, face, window, kind)
    assert picture.shape == (*window.size[::-1], 3)
    apart = np.hypot(*(five_of(moved) - five_of(face.mesh - window.origin)).T)
    assert apart.mean() < {"similarity": 0.2, "affine": 0.15, "piecewise": 0.01}[kind] * face.unit


def test_a_mesh_bent_onto_itself_changes_nothing(face):
    assert np.abs(bent(face.rgb, face.mesh, face.mesh).astype(int) - face.rgb).max() <= 1


def test_bending_follows_the_mesh(face):
    """A blob painted on the lips arrives where the lips are to be."""
    target = face.mesh.copy()
    lips = list(LIPS)
    target[lips] += np.array([0, 6], np.float32)
    rgb = np.zeros_like(face.rgb)
    x, y = face.mesh[0]  # the upper lip's middle
    cv2.circle(rgb, (round(float(x)), round(float(y))), 3, (255, 255, 255), -1)
    ys, xs = np.nonzero(bent(rgb, face.mesh, target)[..., 0] > 100)
    assert np.hypot(xs.mean() - target[0, 0], ys.mean() - target[0, 1]) < 2.5


def test_a_coarse_field_is_enlarged_where_it_was_computed():
    step, width, height = 7, 50, 33
    points = nodes(width, height, step)
    field = points * np.array([0.5, -0.25], np.float32)
    fine = enlarged(field, width, height, step)
    assert fine.shape == (height, width, 2)
    xs, ys = np.meshgrid(np.arange(width), np.arange(height))
    assert np.allclose(fine, np.stack((0.5 * xs, -0.25 * ys), -1), atol=0.06)


def test_displacement_points_to_where_a_pixel_comes_from(face):
    field = np.zeros((200, 200, 2), np.float32)
    field[..., 0] = 5
    moved = displaced(face.rgb, field, cv2.INTER_LINEAR)
    assert (moved[:, :190] == face.rgb[:, 5:195]).all()


def test_a_mirrored_face_keeps_its_names(face):
    other = mirrored(face)
    width = face.rgb.shape[1]
    assert (other.rgb[:, ::-1] == face.rgb).all()
    right = other.mesh[list(RIGHT_EYE)].mean(0)
    assert right[0] < width / 2  # the person's right eye is on the left again
    assert np.hypot(*(five_of(other.mesh) - other.landmarks).T).max() < 0.25 * face.unit
    again = mirrored(other)
    assert np.allclose(again.mesh, face.mesh)
    assert np.allclose(again.landmarks, face.landmarks)
    assert again.box == face.box


def test_the_oval_goes_round_once():
    assert len(set(OVAL)) == len(OVAL) == 36
    assert Window(1, 2, 4, 8).size == (3, 6)
