"""Self-blends in the family: the demo's forgery, with a mask that keeps its word to the bit."""

from __future__ import annotations

import numpy as np
import pytest

from streamguard.ingest.forgery import SelfBlend
from streamguard.lab.forge.selfblend import SelfBlended

pytestmark = pytest.mark.lab


def test_it_is_the_demos_forgery(face):
    family = SelfBlended.draw(np.random.default_rng(8))
    assert family.blend == SelfBlend.draw(np.random.default_rng(8))
    real, fake, mask = family.blend.pair(face.rgb, face.landmarks)
    made = family.pair(face)
    assert (made.real == real).all()
    assert (made.mask == mask).all()
    assert np.abs(made.fake.astype(int) - fake).max() <= 1
    assert (made.fake == fake)[mask > 0].all()
