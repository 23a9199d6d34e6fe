"""The fleet over HTTP: the state of a real head, with no node behind it."""

import json
from importlib.resources import files

import jsonschema
import pytest
import yaml
from prometheus_client import CollectorRegistry

from streamguard.access import ApiSettings
from streamguard.metrics import Metrics
from streamguard.server.app import Server
from streamguard.server.auth import Role, TokenFile
from streamguard.server.fleet import PATH, FleetView
from tests.fleet.world import World, config
from tests.serving import LOCAL, WELL, Served


@pytest.fixture
def world():
    made = World(config(7))
    made.add("a", capacity=3)
    made.add("b", capacity=3)
    made.head.refuse("x", "old", "node 'old' runs StreamGuard 0.0.1, the head 0.1.0.")
    made.run(60.0)
    return made


@pytest.fixture
def served(tmp_path, world):
    tokens = TokenFile(tmp_path / "tokens.json")
    viewer = tokens.add("anna", Role.VIEWER)
    settings = ApiSettings(tokens=str(tmp_path / "tokens.json"))
    metrics = Metrics(CollectorRegistry())
    with Server(metrics, WELL, LOCAL, settings, FleetView(world.head.state)) as server:
        yield Served(server, None, metrics, viewer, "")


def fits(value):
    description = yaml.safe_load(files("streamguard.server").joinpath("openapi.yaml").read_text())
    schema = {"$ref": "#/components/schemas/Fleet", "components": description["components"]}
    jsonschema.validate(value, json.loads(json.dumps(schema)))


def test_the_fleet_is_shown_as_described(served):
    answer = served.ask("GET", PATH, served.viewer)
    assert answer.status == 200
    fits(answer.json)
    nodes = {node["name"]: node for node in answer.json["nodes"]}
    assert {name: node["state"] for name, node in nodes.items()} == {"a": "up", "b": "up", "old": "refused"}
    assert nodes["a"]["running"] == nodes["b"]["running"] == 3
    assert (answer.json["running"], answer.json["unplaced"], answer.json["total"]) == (6, 1, 7)


def test_the_streams_of_one_node(served, world):
    answer = served.ask("GET", f"{PATH}?node=b", served.viewer)
    fits(answer.json)
    assert [each["name"] for each in answer.json["streams"]] == list(world.head.placement.streams("b"))
    assert {each["node"] for each in answer.json["streams"]} == {"b"}


@pytest.mark.parametrize(
    ("query", "detail"), [("nod=b", "'nod' is not known; known here: node"), ("node=a&node=b", "a key is given twice")]
)
def test_another_question_is_refused(served, query, detail):
    answer = served.ask("GET", f"{PATH}?{query}", served.viewer)
    assert (answer.status, answer.problem) == (400, "query")
    assert detail in answer.json["detail"]


def test_nobody_sees_it_without_a_token(served):
    answer = served.ask("GET", PATH)
    assert (answer.status, answer.problem) == (401, "token")


def test_the_probes_and_metrics_are_there_too(served):
    assert served.ask("GET", "/livez").status == 200
    assert b"streamguard_fleet_moves_total" in served.ask("GET", "/metrics").body
