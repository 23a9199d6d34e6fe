"""Which nodes fit together, which configurations a fleet can follow, and what a node makes of one."""

from dataclasses import replace

import pytest

from streamguard.config import ClassifierChoice, Config, StreamConfig, load_config
from streamguard.delivery.evidence import EvidenceSettings
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.delivery.sinks.mqtt import MqttSettings
from streamguard.errors import ConfigError, NodeForeign, UsageError
from streamguard.fleet.compatible import check_fleet, check_node, engines_of, of_node, problems_here, settings_of
from streamguard.fleet.messages import Hello
from streamguard.ownership import FleetSettings
from streamguard.version import __version__

DOOR = (StreamConfig(name="door", uri="demo:"),)
ENGINES = {"face-yolov8n": "a" * 64, "deepfake-steady": "b" * 64}


def test_nodes_that_fit():
    check_node("b", Hello("x", __version__, ENGINES, 4), ENGINES)


@pytest.mark.parametrize(
    ("hello", "message"),
    [
        (
            Hello("x", "0.0.9", ENGINES, 4),
            rf"node 'b' runs StreamGuard 0.0.9, the head {__version__}. Install the same",
        ),
        (
            Hello("x", __version__, ENGINES | {"deepfake-steady": "c" * 64}, 4),
            "node 'b': its engine 'deepfake-steady' has SHA-256 cccccccccccccccc..., the head's bbbbbbbbbbbbbbbb",
        ),
        (Hello("x", __version__, {}, 4, ("engine 'mine' is neither shipped", "more")), "node 'b': engine 'mine' is ne"),
    ],
)
def test_nodes_that_do_not(hello, message):
    with pytest.raises(NodeForeign, match=message):
        check_node("b", hello, ENGINES)


def test_settings_have_another_version_when_what_a_node_does_changes():
    config = Config(streams=DOOR)
    version = settings_of(config).version
    same = [
        config.model_copy(update={"streams": ()}),
        config.model_copy(update={"listen": "127.0.0.1:1"}),
        config.model_copy(update={"node": "elsewhere"}),
        config.model_copy(update={"fleet": FleetSettings(address="10.0.0.1:6379", lease=60.0, capacity=5)}),
    ]
    assert {settings_of(each).version for each in same} == {version}
    other = [
        config.model_copy(update={"operating_point": "strict"}),
        config.model_copy(update={"fleet": FleetSettings(node_listen="0.0.0.0:8081")}),
        config.model_copy(update={"sinks": (JsonlSettings("file", "jsonl", "/tmp/x.jsonl"),)}),
    ]
    assert len({version, *(settings_of(each).version for each in other)}) == 4
    assert settings_of(config).config.streams == ()


def test_a_node_has_its_own_name_and_paths(tmp_path):
    config = Config(
        outbox=OutboxSettings(path="/state/{node}/outbox.db"),
        evidence=EvidenceSettings(folder="/evidence/{node}"),
        sinks=(
            JsonlSettings("file", "jsonl", "/var/{node}.jsonl"),
            MqttSettings("hall", "mqtt", "localhost", client_id="guard-{node}"),
        ),
        fleet=FleetSettings(node_listen="0.0.0.0:8081"),
    )
    own = of_node(settings_of(config).config, "cam-box-7")
    assert own.node == "cam-box-7"
    assert own.listen == "0.0.0.0:8081"
    assert own.outbox.path == "/state/cam-box-7/outbox.db"
    assert own.evidence.folder == "/evidence/cam-box-7"
    assert [own.sinks[0].path, own.sinks[1].client_id] == ["/var/cam-box-7.jsonl", "guard-cam-box-7"]
    assert of_node(Config(), "a").outbox.path is None


def test_what_is_not_there_is_named(tmp_path, damaged_engine, monkeypatch):
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    text = f"""
classifier: {{engine: "{damaged_engine}", variant: fp32}}
sinks:
- {{type: jsonl, name: file, path: "{tmp_path}/nowhere/x.jsonl"}}
- {{type: webhook, name: hook, url: "https://example.org", secret_env: NO_SUCH_TOKEN}}
"""
    (tmp_path / "c.yaml").write_text(text)
    engine, file, hook = problems_here(load_config(tmp_path / "c.yaml", {}))
    assert "engine 'deepfake-steady': " in engine
    assert "has SHA-256" in engine
    assert "sink 'file': there is no folder" in file
    assert "sink 'hook': secret_env 'NO_SUCH_TOKEN': it is not set" in hook


def test_a_variant_that_is_not_there_is_named():
    config = Config(classifier=ClassifierChoice(variant="int3"))
    assert problems_here(config) == ["engine 'deepfake-steady' has no variant 'int3'."]


def test_what_is_there_is_no_problem():
    assert problems_here(Config()) == []
    assert set(engines_of(Config())) == {"face-yolov8n", "deepfake-steady"}


def test_a_fleet_has_streams_and_no_single_file_of_events():
    check_fleet(Config(streams=DOOR))
    with pytest.raises(UsageError, match="There is nothing to watch"):
        check_fleet(Config())
    with pytest.raises(ConfigError, match="'events' is \"-\": a fleet's events leave through each node's own sinks"):
        check_fleet(Config(streams=DOOR, events="-"))


def test_settings_travel(tmp_path):
    import pickle

    settings = settings_of(Config(streams=DOOR, fleet=replace(FleetSettings(), load=0.5)))
    assert pickle.loads(pickle.dumps(settings)) == settings
