"""Hashes that survive recompression and tell scenes apart."""

from __future__ import annotations

from itertools import combinations

import cv2
import numpy as np
import pytest

from streamguard.lab import phash
from streamguard.lab.phash import DUPLICATE, NEIGHBOUR, distances, neighbours
from tests.lab.footage import person

pytestmark = pytest.mark.lab


def test_recompressed_and_resized_pictures_are_duplicates():
    rgb = person(3)
    small = cv2.resize(rgb, (120, 120), interpolation=cv2.INTER_AREA)
    jpeg = cv2.imdecode(cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], cv2.IMREAD_COLOR)
    hashes = np.array([phash.phash(small), phash.phash(jpeg)], np.uint64)
    assert distances(phash.phash(rgb), hashes).max() <= DUPLICATE


def test_other_people_and_mirrors_are_far():
    hashes = [phash.phash(person(number)) for number in range(6)]
    assert min((a ^ b).bit_count() for a, b in combinations(hashes, 2)) > NEIGHBOUR
    assert (phash.phash(person(2)) ^ phash.phash(person(2)[:, ::-1])).bit_count() > NEIGHBOUR


def test_half_of_the_bits_are_set():
    assert phash.phash(person(1)).bit_count() == 32


def test_neighbours_are_all_pairs_across_blocks():
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, 600, np.uint64, endpoint=False)
    hashes[510] = hashes[3] ^ np.uint64(0b1011)  # in another block
    hashes[4] = hashes[3] ^ np.uint64(1 << 63)
    expected = [
        (i, j) for i, j in combinations(range(600), 2) if (int(hashes[i]) ^ int(hashes[j])).bit_count() <= NEIGHBOUR
    ]
    assert sorted(neighbours(hashes, NEIGHBOUR)) == expected
    assert {(3, 4), (3, 510), (4, 510)} <= set(expected)


def test_nothing_has_no_neighbours():
    assert list(neighbours(np.zeros(0, np.uint64), NEIGHBOUR)) == []
