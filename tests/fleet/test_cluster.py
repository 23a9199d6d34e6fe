"""A real Ray cluster of four machines, one of them the head: a node is killed, settings roll, the head is killed.

It takes minutes: `NIGHTLY=true pytest tests/fleet/test_cluster.py`; `make nightly` does.
"""

import os
import signal

import pytest

from tests import rtsp_server
from tests.fleet import machines, network, scenes


@pytest.fixture(scope="module")
def fleet(tmp_path_factory, flags_everything):
    machines.require()
    rtsp_server.require()
    # Ray's sockets lie in the folder, and their names may have 107 characters.
    with scenes.Fleet(tmp_path_factory.mktemp("f"), flags_everything) as running:
        yield running


pytestmark = [
    pytest.mark.servers,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.environ.get("NIGHTLY") != "true", reason="takes minutes: NIGHTLY=true, or `make nightly`"),
]


def test_nine_streams_run_three_on_each_of_three_nodes(fleet):
    state = fleet.client.until(fleet.all_run)
    assert [(node["name"], node["state"], node["running"]) for node in state["nodes"]] == [
        ("a", "up", 3),
        ("b", "up", 3),
        ("c", "up", 3),
    ]
    fleet.until_all_close_segments()


def test_the_streams_of_a_killed_node_run_again_and_no_segment_is_lost(fleet):
    seconds = scenes.kill_a_node(fleet, "c")
    assert seconds["streams"] == 3
    fleet.until_all_close_segments()
    scenes.return_a_node(fleet, "c")
    assert scenes.unclosed(fleet, "c") == set(), "what was open is closed by what its outbox kept"
    assert scenes.closed_twice(fleet) == []
    reasons = {e["data"]["reason"] for e in fleet.events() if e["type"].endswith("segment.closed.v1")}
    assert reasons <= {None, "restart"}, reasons


def test_settings_roll_through_and_bad_ones_change_no_node(fleet):
    before = fleet.client.until(fleet.all_run)["settings"]["version"]
    refused = "configuration not reloaded, no node was changed"
    for changes, why in (
        ({"quality": "{sise: 50.0}"}, "'quality.sise' is not known; did you mean 'size'?"),
        ({"sinks": "/nowhere/{node}.jsonl"}, "sink 'file': there is no folder '/nowhere'"),
    ):
        fleet.configure(**changes)
        fleet.process.send_signal(signal.SIGHUP)
        fleet.client.until(lambda state, why=why: refused in fleet.log() and why in fleet.log())
        assert {node["settings"] for node in fleet.client.state()["nodes"]} == {before}
    fleet.configure(quality="{size: 50.0}")
    fleet.process.send_signal(signal.SIGHUP)
    state = fleet.client.until(lambda state: len({n["settings"] for n in state["nodes"]} - {before, None}) == 1)
    state = fleet.client.until(lambda state: before not in {n["settings"] for n in state["nodes"]})
    assert state["settings"]["version"] != before
    fleet.client.until(fleet.all_run)
    fleet.until_all_close_segments()


def test_the_head_is_killed_and_the_nodes_go_on(fleet):
    scenes.replace_head(fleet, 600.0)  # a lease that no slow machine outlasts
    downs = {node: scenes.sessions(fleet, node) for node in fleet.nodes}
    scenes.restart_the_head(fleet)
    assert {node: scenes.sessions(fleet, node) for node in fleet.nodes} == downs, "no stream was interrupted"
    fleet.until_all_close_segments()


def test_what_the_configuration_drops_is_closed_everywhere(fleet):
    scenes.drop_all_but_one(fleet)
    assert scenes.closed_twice(fleet) == []


def test_a_partition_leaves_one_owner_of_each_stream(tmp_path_factory, flags_everything):
    """Both sides of a cut cable have power and streams: the side without the head stops by itself."""
    machines.require()
    rtsp_server.require()
    network.require()
    folder = tmp_path_factory.mktemp("p")
    # Ray is not to notice: its own way out of a partition, to end the node, is not what is shown here.
    patient = {"RAY_health_check_failure_threshold": "1000"}
    with (
        network.Network(("b",)) as net,
        scenes.Fleet(folder, flags_everything, nodes=("a", "b"), streams=4, settings=patient, net=net) as fleet,
    ):
        scenes.cut_off(fleet, net, "b")
        state = fleet.client.until(fleet.all_run)
        assert scenes.owners(state) == {f"s{number}": "a" for number in range(4)}, "what has moved stays"
        assert fleet.client.state("b")["streams"] == []
        assert scenes.watched_twice(fleet) == [], "nor was any of them watched twice meanwhile"
