"""The head with its nodes, over a network that loses and delays, by a clock that no test waits for."""

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamguard.config import StreamConfig
from streamguard.errors import HeadReplaced
from streamguard.fleet.compatible import settings_of
from streamguard.fleet.lease import MARGIN
from streamguard.fleet.messages import Report
from tests.fleet.world import World, config

LEASE = 20.0
SOON = 5.0  # for orders and reports to come and go
OVER = LEASE * 1.01 + MARGIN + 2.0  # until a head surely believes that a lease is over


def world(nodes="abc", streams=9, seed=0, **fleet):
    made = World(config(streams, lease=LEASE, **fleet), seed)
    for name in nodes:
        made.add(name)
    return made


def everything_runs_once(made, streams=9):
    watched = made.watched()
    assert {stream: len(nodes) for stream, nodes in watched.items()} == {f"s{n}": 1 for n in range(streams)}
    for stream, (node,) in watched.items():
        assert made.head.placement.owner(stream) == node


def test_streams_are_shared_out_once_all_nodes_have_answered():
    made = world()
    made.head.expect("abc", strangers=False)
    made.run(2 * SOON)
    everything_runs_once(made)
    assert [len(made.nodes[name].held) for name in "abc"] == [3, 3, 3]


def test_a_head_that_can_not_know_all_nodes_waits_for_their_leases():
    made = world()
    made.head.expect("abc", strangers=True)
    made.run(LEASE)
    assert made.watched() == {}
    made.run(OVER - LEASE + SOON)
    everything_runs_once(made)


def test_a_quiet_fleet_says_little():
    made = world()
    made.run(OVER + SOON)
    order = made.head.order("a")
    assert order.streams is None
    assert order.settings is None
    before = made.messages
    made.run(30.0)
    assert made.messages - before <= 2 * 3 * 31


def test_a_lost_node_is_replaced_when_its_lease_is_over():
    made = world()
    made.run(OVER + SOON)
    had = set(made.nodes["c"].held)
    made.nodes["c"].cut = made.nodes["c"].hung = True  # its power is off
    made.head.gone("c")
    made.run(SOON)
    assert not had & {stream for name in "ab" for stream in made.nodes[name].held}, "it may still be watching"
    state = {each["name"]: each for each in made.head.state()["streams"]}
    assert {state[stream]["reason"] for stream in had} == {"node 'c' may still watch it"}
    made.run(OVER)
    assert had <= {stream for name in "ab" for stream in made.nodes[name].held}
    assert made.head.placement.moves["lost"] == 3
    assert [node["name"] for node in made.head.state()["nodes"]] == ["a", "b"]


def test_a_node_that_is_cut_off_stops_by_itself_and_one_owner_is_left_when_it_is_back(caplog):
    made = world()
    made.run(OVER + SOON)
    had = set(made.nodes["c"].held)
    made.nodes["c"].cut = True
    made.run(LEASE - 2.0)
    assert set(made.nodes["c"].held) <= had
    made.run(3.0)
    assert made.nodes["c"].held == {}, "it has stopped by itself"
    made.run(OVER)
    assert had <= {stream for name in "ab" for stream in made.nodes[name].held}
    assert "node 'c' has been silent for its lease: its streams go elsewhere" in caplog.messages
    made.nodes["c"].cut = False
    made.run(OVER)
    everything_runs_once(made)
    assert made.nodes["c"].held == {}, "what has moved stays"


def test_a_short_cut_moves_nothing():
    made = world()
    made.run(OVER + SOON)
    before = made.watched()
    made.nodes["b"].cut = True
    made.run(LEASE / 2)
    made.nodes["b"].cut = False
    made.run(OVER)
    assert made.watched() == before
    assert dict(made.head.placement.moves) == {"new": 9}


def test_another_head_finds_what_it_needs_at_the_nodes():
    made = world()
    made.run(OVER + SOON)
    before = {name: dict(node.held) for name, node in made.nodes.items()}
    made.new_head(strangers=False)
    for _ in range(40):
        made.run(0.5)
        assert {name: dict(node.held) for name, node in made.nodes.items()} == before, "nothing stops meanwhile"
    everything_runs_once(made)
    assert dict(made.head.placement.moves) == {}


def test_a_head_that_comes_while_a_node_is_cut_off_gives_nothing_of_it_away_too_early():
    made = world()
    made.run(OVER + SOON)
    had = set(made.nodes["c"].held)
    made.nodes["c"].cut = True
    made.run(1.0)
    made.new_head(strangers=True)
    made.run(LEASE - 3.0)
    assert not had & {stream for name in "ab" for stream in made.nodes[name].held}
    made.run(2 * OVER)
    assert had <= {stream for name in "ab" for stream in made.nodes[name].held}
    made.nodes["c"].cut = False
    made.run(OVER)
    everything_runs_once(made)


def test_an_older_head_is_told_that_it_is_over():
    made = world()
    made.run(OVER + SOON)
    older = made.head
    made.new_head()
    made.run(SOON)
    report = made.nodes["a"].turn(older.order("a"), made.now)
    assert report.term == made.head.term
    with pytest.raises(HeadReplaced, match="another head has taken over: node 'a' obeys term 2, this head's is 1"):
        older.report("a", report)


def test_a_process_that_begins_anew_gets_its_streams_again():
    made = world()
    made.run(OVER + SOON)
    had = set(made.nodes["b"].held)
    made.reboot("b")
    assert made.nodes["b"].held == {}
    made.run(SOON)
    assert set(made.nodes["b"].held) == had, "at once: the process before is known to have ended"


def test_a_stream_that_moves_is_given_up_before_it_is_taken():
    made = world("a", streams=4, patience=5.0)
    made.run(OVER + SOON)
    made.add("b")
    made.run(SOON)
    assert len(made.nodes["a"].held) == 4
    made.nodes["a"].capacity = 2
    made.run(30.0)
    everything_runs_once(made, 4)
    assert len(made.nodes["a"].held) == len(made.nodes["b"].held) == 2
    assert made.head.placement.moves["over"] == 2


def test_streams_come_and_go_with_the_configuration():
    made = world()
    made.run(OVER + SOON)
    fewer = [stream for stream in made.settings.streams if stream.name != "s4"]
    made.head.want([*fewer, StreamConfig(name="s9", uri="rtsp://camera/9")])
    made.run(SOON)
    assert set(made.watched()) == {f"s{number}" for number in range(10)} - {"s4"}
    elsewhere = [stream.model_copy(update={"uri": "rtsp://elsewhere/1"}) for stream in made.settings.streams]
    made.head.want(elsewhere)
    made.run(SOON)
    assert all(
        assigned.stream.uri == "rtsp://elsewhere/1"
        for node in made.nodes.values()
        for assigned in node.tenant.duty(node.clock(made.now)).streams.values()
    )
    everything_runs_once(made)


def test_a_fleet_too_small_names_what_waits():
    made = world("ab", streams=9, capacity=3)
    made.run(OVER + SOON)
    state = made.head.state()
    assert (state["running"], state["unplaced"], state["total"]) == (6, 3, 9)
    waiting = [each for each in state["streams"] if each["node"] is None]
    assert [each["name"] for each in waiting] == ["s6", "s7", "s8"]
    assert {each["reason"] for each in waiting} == {"no node has room for it"}
    made.add("c")
    made.run(SOON)
    everything_runs_once(made)


def test_settings_go_through_the_nodes_one_at_a_time():
    made = world()
    made.run(OVER + SOON)
    before = made.head.settings.version
    changed = settings_of(made.settings.model_copy(update={"operating_point": "strict"}))
    made.head.propose(changed)
    seen = []
    for _ in range(80):
        made.run(0.25)
        seen.append(tuple(made.nodes[name].version for name in "abc"))
    assert sorted(set(seen), key=seen.index) == [
        (before, before, before),
        (changed.version, before, before),
        (changed.version, changed.version, before),
        (changed.version, changed.version, changed.version),
    ]
    everything_runs_once(made)
    made.add("d")
    made.run(SOON)
    assert made.nodes["d"].version == changed.version


def test_a_node_that_is_not_used_is_shown_with_the_reason(caplog):
    made = world("ab")
    made.head.refuse("x", "gpu-1", "node 'gpu-1' runs StreamGuard 0.0.9, the head 0.1.0.")
    made.head.refuse("x", "gpu-1", "node 'gpu-1' runs StreamGuard 0.0.9, the head 0.1.0.")
    shown = {node["name"]: node for node in made.head.state()["nodes"]}["gpu-1"]
    assert (shown["state"], shown["problem"]) == ("refused", "node 'gpu-1' runs StreamGuard 0.0.9, the head 0.1.0.")
    assert len([m for m in caplog.messages if "gpu-1" in m]) == 1, "said once"
    made.head.gone("x")
    assert made.head.refused == {}


def test_of_one_node_its_streams_are_listed():
    made = world()
    made.run(OVER + SOON)
    listed = made.head.state("b")["streams"]
    assert [each["name"] for each in listed] == list(made.head.placement.streams("b"))
    assert made.head.state("nobody")["streams"] == []


def test_reports_from_a_node_that_is_lost_change_nothing(caplog):
    caplog.set_level(logging.ERROR)
    made = world()
    made.run(OVER + SOON)
    made.head.gone("a")
    member = made.nodes["a"]
    made.head.report("a", Report(member.tenant.boot, 1.0, made.head.term, 1, {}, member.version))
    assert made.head.placement.streams("a") == ()
    assert made.head.order("a").heard is None, "its lease is not made longer"


EVENT = st.one_of(
    st.tuples(st.just("cut"), st.sampled_from("abcd"), st.integers(1, 60)),
    st.tuples(st.just("join"), st.sampled_from("abcd"), st.integers(1, 60)),
    st.tuples(st.just("reboot"), st.sampled_from("abcd"), st.integers(1, 30)),
    st.tuples(st.just("hang"), st.sampled_from("abcd"), st.integers(1, 60)),
    st.tuples(st.just("wake"), st.sampled_from("abcd"), st.integers(1, 30)),
    st.tuples(st.just("head"), st.just("a"), st.integers(1, 30)),
    st.tuples(st.just("capacity"), st.sampled_from("abcd"), st.integers(1, 40)),
)


@given(st.lists(EVENT, max_size=12), st.integers(0, 10**6))
@settings(max_examples=40, deadline=None)
def test_no_stream_is_ever_watched_twice_and_all_run_in_the_end(events, seed):
    made = world("abcd", streams=12, seed=seed, patience=5.0, settle=10.0)
    made.run(OVER)
    for kind, name, seconds in events:
        node = made.nodes[name]
        if kind == "cut":
            node.cut = True
        elif kind == "join":
            node.cut = False
        elif kind == "reboot" and not node.cut:
            node.hung = False
            made.reboot(name)
        elif kind == "hang":
            node.hung = True
        elif kind == "wake":
            node.hung = False
        elif kind == "head":
            made.new_head()
        elif kind == "capacity":
            node.capacity = 3 + seconds % 4
        made.run(seconds)
    for node in made.nodes.values():
        node.cut = node.hung = False
        node.capacity = 6
    made.run(3 * OVER)
    everything_runs_once(made, 12)
