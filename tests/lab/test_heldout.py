"""Sets of held-out faces: repeatable, of one part, the same faces in every crop."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.lab.augment import Crop
from streamguard.lab.families import FAMILIES
from streamguard.lab.heldout import Drawn, faces_in, held

pytestmark = pytest.mark.lab
SEARCH = Drawn("search", 4)


def test_a_supplied_set_is_of_its_part(meshed_store):
    found = held(meshed_store, "dfdc", SEARCH, "plain", [Crop(32), Crop(48)])
    assert found.label.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert all(group.startswith("dfdc/dfdcsearch") for group in found.group)
    assert found.pictures[Crop(32)].shape == (8, 32, 32, 3)
    assert found.pictures[Crop(48)].shape == (8, 48, 48, 3)
    again = held(meshed_store, "dfdc", SEARCH, "plain", [Crop(32)])
    assert (again.pictures[Crop(32)] == found.pictures[Crop(32)]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_gives_pairs_of_real_faces(meshed_store, family):
    faces = list(faces_in(meshed_store, family, Drawn("search", 8)))
    assert faces
    for real, fake in zip(faces[::2], faces[1::2], strict=True):
        assert (real.label, fake.label) == (0, 1)
        assert (real.group, real.seed, real.box) == (fake.group, fake.seed, fake.box)
        assert (real.rgb != fake.rgb).any()
        assert "search" in real.group
    chain, plain = (held(meshed_store, family, Drawn("search", 8), dress, [Crop(32)]) for dress in ("chain", "plain"))
    assert (chain.label == plain.label).all()
    assert (chain.pictures[Crop(32)] != plain.pictures[Crop(32)]).any()


def test_a_part_without_such_faces_gives_none(meshed_store):
    found = held(meshed_store, "dfdc", Drawn("test", 8), "chain", [Crop(32)])
    assert found.label.size == 0
    assert found.pictures[Crop(32)].shape == (0, 32, 32, 3)
    assert np.unique(found.group).size == 0
