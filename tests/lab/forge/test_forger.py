"""Drawing: families by their shares, partners by their form, and never anybody of the own group or another part."""

from __future__ import annotations

import pickle
from collections import Counter

import numpy as np
import pytest

from streamguard.errors import PictureSize, UsageError
from streamguard.lab.batches import GROUND
from streamguard.lab.forge.forger import Forger, Partners, form, shows
from streamguard.lab.forge.mesh import mean_face
from streamguard.lab.forge.table import FAMILIES, choose

pytestmark = pytest.mark.lab
SOURCES = tuple(GROUND)


@pytest.fixture(scope="module")
def forger(made_store, meshes):
    return Forger(made_store, meshes, "fit", choose("all").families, SOURCES)


@pytest.fixture(scope="module")
def partners(made_store, meshes):
    return Partners(made_store, meshes, "fit", SOURCES)


def test_a_partner_is_of_another_group_and_of_the_same_part(made_store, meshes, partners):
    rng = np.random.default_rng(0)
    people = {f"talking/{group.decode()}" for group in made_store.rows("talking")["group"] if b"fit" in group}
    for index in made_store.find("talking", "fit", 0)[::6].tolist():
        face = meshes.ground("talking", index)
        for _ in range(5):
            other = partners.nearest(face, rng)
            assert other.group != face.group
            source, group = other.group.split("/")
            assert "fit" in group
            assert source != "talking" or other.group in people


def test_the_nearest_is_near(meshes, made_store, partners):
    face = meshes.ground("utkface", int(made_store.find("utkface", "fit", 0)[0]))
    other = partners.nearest(face, np.random.default_rng(1))
    far = np.mean(
        [np.square(form((face.mesh + 0)[None]) - form(p.mesh[None])).sum() for p in _others(meshes, made_store)]
    )
    assert np.square(form(face.mesh[None]) - form(other.mesh[None])).sum() < far


def _others(meshes, store):
    return [meshes.ground("talking", int(i)) for i in store.find("talking", "fit", 0)[::4]]


def test_the_form_knows_no_place_and_no_size():
    face = mean_face()
    forms = form(np.stack((face, face * 50 + 7, face * np.array([0.5, 1], np.float32))))
    assert np.allclose(forms[0], forms[1], atol=1e-4)
    assert np.square(forms[0] - forms[2]).sum() > 0.01


def test_one_identity_alone_is_an_error_that_says_so(made_store, meshes, monkeypatch):
    real = made_store.find
    one = {"utkface": 1}
    monkeypatch.setattr(made_store, "find", lambda s, p, x=None: real(s, p, x)[: one.get(s, 0)])
    for families in ("all", "two-identity", "parts", "warp"):
        with pytest.raises(UsageError, match=r"real faces of utkface/.* alone: no second identity to swap with"):
            Forger(made_store, meshes, "fit", choose(families).families, SOURCES)
    alone = Forger(made_store, meshes, "fit", choose("resampling,reconstruction,self-blended").families, SOURCES)
    assert alone.forge("utkface", 0, np.random.default_rng(0)).partner == ""
    monkeypatch.setattr(made_store, "find", lambda s, p, x=None: real(s, p, x)[:0])
    with pytest.raises(UsageError, match="real faces of nobody alone"):
        Partners(made_store, meshes, "fit", SOURCES)


def test_families_come_by_their_shares(made_store, meshes):
    forger = Forger(made_store, meshes, "fit", {"resampled": 0.75, "self-blended": 0.25}, SOURCES)
    rng = np.random.default_rng(2)
    found = Counter(forger.forge("utkface", 0, rng).name for _ in range(40))
    assert set(found) == {"resampled", "self-blended"}
    assert found["resampled"] > found["self-blended"]


def test_a_forgery_is_its_seed(forger):
    first, second, third = (forger.forge("talking", 1, np.random.default_rng(s)) for s in (5, 5, 6))
    assert first.family == second.family
    assert all((a == b).all() for a, b in zip(first.pair, second.pair, strict=True))
    assert first.family != third.family


@pytest.mark.parametrize("name", list(FAMILIES))
def test_every_family_forges_what_the_store_holds(forger, made_store, name):
    for seed, index in enumerate(made_store.find("talking", "fit", 0)[:3].tolist()):
        made = forger.forge("talking", index, np.random.default_rng(seed), name)
        assert made.name == name
        assert isinstance(made.family, FAMILIES[name].family)
        assert bool(made.partner) == made.family.needs_other
        assert made.partner != made.ground.group
        assert (made.pair.real == made.pair.fake)[made.pair.mask == 0].all()


def test_what_does_not_show_is_drawn_again(forger, made_store, monkeypatch):
    from streamguard.lab.forge.warp import Warped

    rng = np.random.default_rng(1)
    for index in made_store.find("talking", "fit", 0)[:6].tolist():
        made = forger.forge("talking", index, rng, "warp")
        assert shows(made.pair, made.ground.unit)
    nothing = Warped(0.0, 0.0, 0.0, 0.0, 0.0, 0.5, False, True)
    assert not shows(nothing.pair(made.ground), made.ground.unit)
    monkeypatch.setattr(Warped, "draw", classmethod(lambda cls, rng: nothing))
    with pytest.raises(PictureSize, match="face 1 of 'talking' is so soft that 'warp' shows in none of 6 draws"):
        forger.forge("talking", 1, rng, "warp")


def test_a_worker_makes_the_same(forger):
    again = pickle.loads(pickle.dumps(forger))
    made, other = (f.forge("talking", 2, np.random.default_rng(9)) for f in (forger, again))
    assert (made.pair.fake == other.pair.fake).all()


def test_grounds_are_softened_now_and_then(forger, meshes, face, monkeypatch):
    monkeypatch.setattr(type(meshes), "ground", lambda *_: face)
    changed = {}
    for share in (0.0, 1.0):
        monkeypatch.setattr("streamguard.lab.forge.forger.SOFT", share)
        made = [forger.forge("talking", 0, np.random.default_rng(s), "self-blended").ground.rgb for s in range(8)]
        changed[share] = sum(not np.array_equal(rgb, face.rgb) for rgb in made)
    assert changed[0.0] == 0
    assert changed[1.0] > 0  # a softer picture may be drawn than it is already: not all change
