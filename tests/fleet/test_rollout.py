"""New settings go through one node at a time, and back."""

from streamguard.fleet.rollout import Rollout, Standing


def standing(**versions):
    return {node: Standing(version, None) for node, version in versions.items()}


def test_every_node_in_turn():
    rollout = Rollout("v1")
    rollout.turn(standing(a="v1", b="v1", c="v1"))
    rollout.propose("v2")
    rollout.turn(standing(a="v1", b="v1", c="v1"))
    assert [rollout.version(node) for node in "abc"] == ["v2", "v1", "v1"]
    assert rollout.under_way == "a"
    rollout.turn(standing(a=None, b="v1", c="v1"))
    assert [rollout.version(node) for node in "abc"] == ["v2", "v1", "v1"], "it is not through"
    rollout.turn(standing(a="v2", b="v1", c="v1"))
    assert [rollout.version(node) for node in "abc"] == ["v2", "v2", "v1"]
    rollout.turn(standing(a="v2", b="v2", c="v1"))
    rollout.turn(standing(a="v2", b="v2", c="v2"))
    assert [rollout.version(node) for node in "abc"] == ["v2", "v2", "v2"]
    assert (rollout.under_way, rollout.refused) == (None, None)


def test_a_node_that_can_not_use_them_takes_all_back():
    rollout = Rollout("v1")
    rollout.propose("v2")
    rollout.turn(standing(a="v1", b="v1"))
    rollout.turn(standing(a="v2", b="v1"))
    rollout.turn({"a": Standing("v2", None), "b": Standing("v1", "v2")})
    assert (rollout.wanted, rollout.refused) == ("v1", "v2")
    assert rollout.version("a") == "v1"
    assert rollout.version("b") in ("v1", "v2"), "one at a time"
    rollout.turn({"a": Standing("v1", None), "b": Standing("v1", "v2")})
    rollout.turn({"a": Standing("v1", None), "b": Standing("v1", "v2")})
    assert [rollout.version(node) for node in "ab"] == ["v1", "v1"]
    assert rollout.under_way is None
    rollout.propose("v3")
    assert rollout.refused is None
    rollout.turn({"a": Standing("v1", None), "b": Standing("v1", "v2")})
    assert rollout.version("a") == "v3", "the next attempt is not held back by the last"


def test_a_node_that_is_lost_on_the_way_holds_nobody_up():
    rollout = Rollout("v1")
    rollout.turn(standing(a="v1", b="v1"))
    rollout.propose("v2")
    rollout.turn(standing(a="v1", b="v1"))
    rollout.turn(standing(b="v1"))
    assert rollout.version("b") == "v2"


def test_a_node_that_joins_gets_the_new_ones_at_once():
    rollout = Rollout("v1")
    rollout.turn(standing(a="v1", b="v1"))
    rollout.propose("v2")
    rollout.turn(standing(a="v1", b="v1", n=None))
    assert rollout.version("n") == "v2"
    assert rollout.version("b") == "v1"


def test_a_node_with_the_settings_of_an_earlier_head_is_changed_in_its_turn():
    rollout = Rollout("v2")
    rollout.turn(standing(a="v1", b="v1"))
    assert [rollout.version(node) for node in "ab"].count("v2") == 1, "one at a time"


def test_settings_that_the_first_node_ever_can_not_use_stay_wanted():
    rollout = Rollout("v1")
    rollout.turn({"a": Standing(None, "v1")})
    assert (rollout.wanted, rollout.refused) == ("v1", None)


def test_a_change_upon_a_change_goes_back_to_what_all_could_use():
    rollout = Rollout("v1")
    rollout.turn(standing(a="v1", b="v1"))
    rollout.propose("v2")
    rollout.turn(standing(a="v1", b="v1"))
    rollout.propose("v3")
    rollout.turn({"a": Standing("v1", "v3"), "b": Standing("v1", None)})
    assert rollout.wanted == "v1"
