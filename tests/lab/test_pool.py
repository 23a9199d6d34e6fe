"""One pool of couples for many nets."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from streamguard.lab import pool as pools
from streamguard.lab.data import STILLS
from streamguard.lab.families import FAMILIES
from streamguard.lab.pool import Pool, PoolBatches, PoolConfig, build_pool

pytestmark = pytest.mark.lab
TINY = PoolConfig(size=32, each=3)


@pytest.fixture(scope="module")
def made(meshed_store, tmp_path_factory):
    out = tmp_path_factory.mktemp("pool")
    return out, build_pool(meshed_store, out, TINY)


def test_a_pool_has_couples_of_every_source_and_family(made):
    _, pool = made
    assert set(pool.family) == {*STILLS, *FAMILIES}
    assert all((pool.family == name).sum() <= 3 for name in FAMILIES)
    assert all((pool.family == name).sum() == 3 for name in STILLS)
    supplied = np.isin(pool.family, STILLS)
    assert (pool.family[supplied] == pool.ground[supplied]).all()
    assert pool.pictures.shape == (len(pool.family), 2, 32, 32, 3)
    assert (pool.pictures[:, 0] != pool.pictures[:, 1]).any((1, 2, 3)).all()


def test_a_pool_is_made_once(made, meshed_store, monkeypatch):
    out, pool = made
    monkeypatch.setattr(pools, "_chunk", lambda *_: pytest.fail("made twice"))
    again = build_pool(meshed_store, out, TINY)
    assert (again.pictures == pool.pictures).all()


def test_the_same_seed_gives_the_same_pool(made, meshed_store, tmp_path):
    assert (build_pool(meshed_store, tmp_path, TINY).pictures == made[1].pictures).all()


def couples():
    families, grounds = np.array(["a", "a", "b", "c"]), np.array(["x", "y", "y", "z"])
    pictures = np.zeros((4, 2, 4, 4, 3), np.uint8)
    pictures[:] = np.arange(8).reshape(4, 2, 1, 1, 1)
    return Pool(pictures, families, grounds)


def test_what_is_left_out_is_not_shown():
    pool = couples()
    assert pool.without(frozenset("a"), frozenset()).tolist() == [2, 3]
    assert pool.without(frozenset("c"), frozenset("y")).tolist() == [0]
    batches = PoolBatches(pool, pool.without(frozenset("a"), frozenset()), 8, seed=1)
    shown = {int(value) for step in range(20) for value in np.unique(batches[step][0])}
    assert shown == {4, 5, 6, 7}


def test_a_batch_holds_both_of_each_couple_and_depends_on_its_step_alone():
    pool = couples()
    batches = PoolBatches(pool, np.arange(4), 8, seed=1)
    pictures, labels = batches[5]
    assert labels.tolist() == [0, 1] * 4
    assert (pictures[1::2, 0, 0, 0] - pictures[::2, 0, 0, 0] == 1).all()
    assert (PoolBatches(pool, np.arange(4), 8, seed=1)[5][0] == pictures).all()
    firsts = np.concatenate([batches[step][0][::2, 0, 0, 0] for step in range(200)])
    share = np.isin(firsts, [0, 2]).mean()  # family a has half of the couples and a third of the batches
    assert 0.25 < share < 0.42
