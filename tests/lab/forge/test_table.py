"""The table of families and what --families may say."""

from __future__ import annotations

import pytest

from streamguard.errors import UsageError
from streamguard.lab.data import STILLS
from streamguard.lab.forge.table import ALL_GROUPS, DEFAULT, FAMILIES, GROUPS, choose

pytestmark = pytest.mark.lab


def test_every_family_is_in_one_group_and_blends_leave_together():
    assert GROUPS["blends"] == ("self-blended", "two-identity", "poisson")
    assert sorted(name for group in GROUPS.values() for name in group) == sorted(FAMILIES)
    assert ("blends", "resampling", "reconstruction", "parts", "warp", *STILLS) == ALL_GROUPS
    assert sum(row.weight for row in FAMILIES.values()) == pytest.approx(1)
    assert all(row.source for row in FAMILIES.values())


def test_the_default_is_self_blending_alone_and_plain():
    choice = choose(DEFAULT)
    assert choice.plain
    assert dict(choice.families) == {"self-blended": 1.0}
    assert choice.supplied == STILLS
    assert choose("self-blended:3").plain
    assert not choose("blends").plain


@pytest.mark.parametrize(
    ("text", "families"),
    [
        ("all", set(FAMILIES)),
        ("all,-blends", {"resampled", "reconstructed", "parts", "warp"}),
        ("-blends", {"resampled", "reconstructed", "parts", "warp"}),
        ("blends,-poisson", {"self-blended", "two-identity"}),
        ("warp, parts", {"warp", "parts"}),
        ("all,-dfdc", set(FAMILIES)),
    ],
)
def test_names_groups_and_what_is_left_out(text, families):
    choice = choose(text)
    assert set(choice.families) == families
    assert list(choice.families) == [name for name in FAMILIES if name in families]  # whatever was typed first
    assert sum(choice.families.values()) == pytest.approx(1)


def test_weights_scale_the_tables():
    plain, double = choose("self-blended,warp"), choose("self-blended,warp:2")
    ratio = plain.families["warp"] / plain.families["self-blended"]
    assert double.families["warp"] / double.families["self-blended"] == pytest.approx(2 * ratio)


def test_supplied_sources_are_left_out():
    assert choose("all,-dfdc").supplied == ("openforensics", "stylegan")
    assert choose("all,-supplied").supplied == ()
    assert choose("self-blended,-stylegan").plain
    assert choose("self-blended,-stylegan").groups == {"blends", "dfdc", "openforensics"}
    assert choose("all").groups == set(ALL_GROUPS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("blend", "'blend' is unknown. Known: all, blends, resampling"),
        ("dfdc", "'dfdc' is unknown"),
        ("warp,-warp", "leaves no family"),
        ("", "leaves no family"),
        ("warp:0", "'warp:0' is not a number above 0"),
        ("warp:much", "'warp:much' is not a number above 0"),
        ("warp:nan", "'warp:nan' is not a number above 0"),
    ],
)
def test_what_is_not_understood_is_named(text, message):
    with pytest.raises(UsageError, match=message):
        choose(text)
