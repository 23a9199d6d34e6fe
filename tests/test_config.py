"""streamguard.yaml: what is taken, and how what is not is named."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from streamguard.access import IceServer
from streamguard.config import (
    Config,
    EngineChoice,
    StreamConfig,
    config_schema,
    ice_credential,
    load_config,
    outbox_path,
    parse_listen,
    sink_secrets,
)
from streamguard.decision.segments import DecisionSettings
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.errors import ConfigError
from streamguard.vision.sampler import SamplerSettings

DOCS = Path(__file__).parents[1] / "docs" / "config.md"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "streamguard.yaml"


def refusal(path: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """The message that ``text`` is refused with, the folder of the file left out."""
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ or {})
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{path.parent}/", "")


def test_defaults_without_a_file() -> None:
    config = load_config(None, {})
    assert config == Config()
    assert config.node == socket.gethostname()
    assert config.listen == "127.0.0.1:8080"
    assert config.events is None
    assert config.sampling == SamplerSettings(detect_every=5, classify_hz=5.0)
    assert (config.detector.engine, config.classifier.engine) == ("face-yolov8n", "deepfake-steady")
    assert (config.detector.backend, config.detector.variant) == ("openvino", "auto")


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "{}"])
def test_an_empty_file_is_the_defaults(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    assert load_config(path, {}) == Config()


def test_a_whole_file(path: Path) -> None:
    path.write_text(
        """\
node: studio-1
listen: "[::1]:9090"
events: events.jsonl
operating_point: strict
detector: {backend: onnxruntime, variant: fp32}
classifier: {engine: ./my-engine}
sampling: {detect_every: 3, classify_hz: 2}
decision:
  tau: 3
streams:
  - {name: door, uri: "rtsp://cam/1"}
  - {name: gate, uri: /videos/gate.mp4}
""",
        encoding="utf-8",
    )
    config = load_config(path, {})
    assert config.node == "studio-1"
    assert config.detector.model_dump() == {"engine": "face-yolov8n", "backend": "onnxruntime", "variant": "fp32"}
    assert config.classifier.engine == "./my-engine"
    assert config.sampling == SamplerSettings(detect_every=3, classify_hz=2.0)
    assert config.decision == DecisionSettings(tau=3.0)
    assert [(stream.name, stream.uri) for stream in config.streams] == [
        ("door", "rtsp://cam/1"),
        ("gate", "/videos/gate.mp4"),
    ]


def test_it_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Config().node = "other"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nod: a\n", "streamguard.yaml:1: 'nod' is not known; did you mean 'node'?"),
        (
            "node: a\nsampling:\n  detect_evry: 5\n",
            "streamguard.yaml:3: 'sampling.detect_evry' is not known; did you mean 'detect_every'?",
        ),
        (
            "detector:\n  zzz: 5\n",
            "streamguard.yaml:2: 'detector.zzz' is not known; known here: engine, backend, variant.",
        ),
        (
            "streams:\n- name: a\n  uri: b\n  url: c\n",
            "streamguard.yaml:4: 'streams[0].url' is not known; did you mean 'uri'?",
        ),
        (
            "sampling:\n  detect_every: '5'\n",
            "streamguard.yaml:2: 'sampling.detect_every' is \"5\": expected a valid integer.",
        ),
        ("node: 12\n", "streamguard.yaml:1: 'node' is 12: expected a valid string."),
        ("node: ''\n", "streamguard.yaml:1: 'node' is \"\": String should have at least 1 character."),
        ("sampling: 5\n", "streamguard.yaml:1: 'sampling' is 5: expected an object."),
        ("streams: door\n", "streamguard.yaml:1: 'streams' is \"door\": expected a valid array."),
        (
            "detector:\n  backend: tpu\n",
            "streamguard.yaml:2: 'detector.backend' is \"tpu\": "
            "expected 'openvino', 'onnxruntime', 'tensorrt', 'tensorrt-rtx' or 'auto'.",
        ),
        (
            "sampling:\n  detect_every: 0\n",
            "streamguard.yaml:1: 'sampling' is {\"detect_every\": 0}: detect_every is 0; expected 1 or more frames.",
        ),
        (
            "\ndecision:\n  tau: -1\n",
            "streamguard.yaml:2: 'decision' is {\"tau\": -1}: tau is -1.0; expected a finite number from 0.001.",
        ),
        (
            "decision:\n  tau: .nan\n",
            "streamguard.yaml:2: 'decision.tau' is NaN: expected a finite number.",
        ),
        ("\n\nstreams:\n\n- name: a\n", "streamguard.yaml:5: 'streams[0].uri' is missing."),
        (
            "streams:\n- name: a b\n  uri: c\n",
            "streamguard.yaml:2: 'streams[0].name' is \"a b\": "
            "expected 1 to 64 of A-Z a-z 0-9 . _ - with no dot in front.",
        ),
        (
            "listen: 8080\n",
            "streamguard.yaml:1: 'listen' is 8080: expected a valid string.",
        ),
        (
            "listen: '8080'\n",
            "streamguard.yaml:1: 'listen' is \"8080\": expected HOST:PORT, for instance 127.0.0.1:8080 "
            "or [::1]:8080, with a port of 0 to 65535.",
        ),
        (
            "streams:\n- {name: a, uri: b}\n- {name: c, uri: d}\n- {name: a, uri: e}\n",
            "streamguard.yaml:1: 'streams[0]' and 'streams[2]' are both named 'a'; give one of them another name.",
        ),
        ("node: a\nnode: b\n", "streamguard.yaml:2: 'node' was set in line 1 already. Keep one of them."),
        (
            "streams:\n- name: a\n  uri: b\n  name: c\n",
            "streamguard.yaml:4: 'streams[0].name' was set in line 2 already. Keep one of them.",
        ),
        ("- a\n", "streamguard.yaml:1: expected keys with values, as in 'node: studio'; found [\"a\"]."),
        ("node: [a\n", "streamguard.yaml:2: not valid YAML: expected ',' or ']', but got '<stream end>'."),
        ("node:\n\t- a\n", "streamguard.yaml:2: not valid YAML: found character '\\t' that cannot start any token."),
        ("a: 1\n--- \nb: 2\n", "streamguard.yaml:2: not valid YAML: but found another document."),
        ("node: *x\n", "streamguard.yaml:1: not valid YAML: found undefined alias 'x'."),
        ("streams: &x [*x]\n", "streamguard.yaml:1: an alias that contains itself."),
        (
            "node: !!python/object/apply:os.getcwd []\n",
            "streamguard.yaml:1: not valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.getcwd'.",
        ),
    ],
)
def test_what_is_refused_and_how(path: Path, text: str, message: str) -> None:
    assert refusal(path, text) == message


SINK = "sinks:\n- name: a\n  type: jsonl\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SINK, "streamguard.yaml:2: 'sinks[0].path' is missing."),
        (SINK + "  pth: x\n  path: x\n", "streamguard.yaml:4: 'sinks[0].pth' is not known; did you mean 'path'?"),
        (SINK + "  path: 5\n", "streamguard.yaml:4: 'sinks[0].path' is 5: expected a valid string."),
        (
            f"{SINK}  path: x\n- {{name: a, type: jsonl, path: y}}\n",
            "streamguard.yaml:1: 'sinks[0]' and 'sinks[1]' are both named 'a'; give one of them another name.",
        ),
        (
            "sinks: [{name: console, type: jsonl, path: x}]\n",
            "streamguard.yaml:1: 'sinks[0].name' is 'console', which is taken; choose another.",
        ),
        (
            "sinks: [{name: a b, type: jsonl, path: x}]\n",
            "streamguard.yaml:1: 'sinks[0].name' is 'a b': expected 1 to 64 of A-Z a-z 0-9 . _ - with no dot in front.",
        ),
    ],
)
def test_sinks_that_are_refused(path: Path, text: str, message: str) -> None:
    assert refusal(path, text) == message


def test_a_secret_inside_a_sink_that_is_refused_is_not_shown(path: Path) -> None:
    text = "sinks:\n- name: hook\n  type: webhook\n  url: ${HOOK}\n"
    message = refusal(path, text, {"HOOK": "ftp://far.example/a-made-up-secret"})
    assert message == (
        "streamguard.yaml:2: 'sinks[0]', which holds a value of the environment: "
        "the address can't be used: expected https://HOST, or http://HOST."
    )


def test_where_the_outbox_is() -> None:
    sinks = (JsonlSettings("a", "jsonl", "x"),)
    user = {"HOME": "/home/a"}
    assert outbox_path(Config(), user) is None
    assert outbox_path(Config(sinks=sinks), user) == Path("/home/a/.local/state/streamguard/outbox.db")
    assert outbox_path(Config(sinks=sinks), user | {"XDG_STATE_HOME": "relative"}) == Path(
        "/home/a/.local/state/streamguard/outbox.db"
    )
    user["XDG_STATE_HOME"] = "/state"
    assert outbox_path(Config(sinks=sinks), user) == Path("/state/streamguard/outbox.db")
    user["STATE_DIRECTORY"] = "/var/lib/streamguard:/var/lib/other"
    assert outbox_path(Config(sinks=sinks), user) == Path("/var/lib/streamguard/outbox.db")
    assert outbox_path(Config(outbox=OutboxSettings(path="o.db")), user) == Path("o.db")


@dataclass(frozen=True)
class Secretive:
    """Settings of a sink that has a secret."""

    token_file: str | None = None
    token_env: str | None = None
    name: str = "hook"
    type: str = "made"


def test_secrets_come_from_a_file_or_a_variable(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("not a real one\r\n")
    assert sink_secrets(Secretive(), {}) == {}
    assert sink_secrets(Secretive(token_file=str(path)), {}) == {"token": "not a real one"}
    assert sink_secrets(Secretive(token_env="T"), {"T": "made up"}) == {"token": "made up"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Secretive(token_env="T"), "sink 'hook': token_env 'T': it is not set. Put the token there."),
        (Secretive(token_file="empty"), "sink 'hook': token_file 'empty': it is empty. Put the token there."),
        (Secretive(token_file="nowhere"), "sink 'hook': token_file 'nowhere': it can't be read: No such file"),
        (Secretive(token_file="binary"), "sink 'hook': token_file 'binary': it is no text."),
        (Secretive("full", "SET"), "sink 'hook': token_env 'SET': token is given twice. Keep token_file or token_env."),
    ],
)
def test_secrets_that_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Secretive, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    Path("full").write_text("made up")
    Path("binary").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as caught:
        sink_secrets(settings, {"SET": "made up"})
    assert str(caught.value).startswith(message)
    assert "made up" not in str(caught.value)


def test_the_password_of_a_turn_server_lies_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "turn"
    path.write_text("made up\n")
    urls = ("turn:turn.example.org",)
    assert ice_credential(IceServer(urls), {}) is None
    assert ice_credential(IceServer(urls, "ann", credential_file=str(path)), {}) == "made up"
    assert ice_credential(IceServer(urls, "ann", credential_env="T"), {"T": "made up"}) == "made up"
    with pytest.raises(ConfigError, match=r"ice server 'turn:turn\.example\.org': credential_env 'T': it is not set"):
        ice_credential(IceServer(urls, "ann", credential_env="T"), {})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("addresses: [here]", "addresses: 'here' is no IP address"),
        ("ice_servers: [{urls: []}]", "urls is empty"),
        ("ice_servers: [{urls: ['http://a']}]", "urls: 'http://a' is none of stun:HOST:PORT"),
        ("ice_servers: [{urls: ['turn:a'], credential: b}]", "'webrtc.ice_servers[0].credential' is not known"),
        ("relay_only: true", "relay_only is true; expected a turn: server"),
        ("most: 0", "most is 0; expected 1 or more"),
        ("silence: 0", "silence is 0.0; expected more than 0"),
        ("bitrate: {least: 3000}", "least 3000, start 2500, most 4000; expected them to rise"),
    ],
)
def test_webrtc_that_can_not_be_meant(path: Path, text: str, message: str) -> None:
    assert message in refusal(path, f"webrtc: {{{text}}}\n")


@pytest.mark.parametrize("origin", ["meet.example.org", "https://a/b", "https://a b", ""])
def test_what_is_no_origin(path: Path, origin: str) -> None:
    assert f"cors_origins: '{origin}' is no origin" in refusal(path, f"api: {{cors_origins: ['{origin}']}}\n")


def test_origins(path: Path) -> None:
    path.write_text(
        "api: {cors_origins: ['https://meet.example.org', 'http://localhost:8000', 'chrome-extension://a', '*']}"
    )
    assert len(load_config(path, {}).api.cors_origins) == 4


def test_all_problems_at_once(path: Path) -> None:
    text = "node: 1\nlisten: x\nsampling:\n  classify_hz: often\nlisteners: 3\n"
    lines = refusal(path, text).splitlines()
    assert [line.partition(" is")[0] for line in lines] == [
        "streamguard.yaml:1: 'node'",
        "streamguard.yaml:4: 'sampling.classify_hz'",
        "streamguard.yaml:2: 'listen'",
        "streamguard.yaml:5: 'listeners'",
    ]


def test_a_missing_file(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"streamguard\.yaml' can't be read: No such file .* Name a YAML file"):
        load_config(path, {})


def test_bytes_that_are_no_text(path: Path) -> None:
    path.write_bytes(b"node: \xff\xfe\x00\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_config(path, {})


@pytest.mark.parametrize("name", ["door", "Door-1", "a.b_c", "x" * 64, "0"])
def test_stream_names(name: str) -> None:
    assert StreamConfig(name=name, uri="x").name == name


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "x" * 65, "a/b", "a b", "tür", "a\n", "a{b}"])
def test_stream_names_that_could_not_be_a_label_or_a_path(name: str) -> None:
    with pytest.raises(ValidationError):
        StreamConfig(name=name, uri="x")


def test_the_environment_overrides(path: Path) -> None:
    path.write_text("node: a\nlisten: 127.0.0.1:1\n", encoding="utf-8")
    config = load_config(path, {"STREAMGUARD_NODE": "b", "STREAMGUARD_LISTEN": "0.0.0.0:80", "STREAMGUARD_X": "y"})
    assert (config.node, config.listen) == ("b", "0.0.0.0:80")


def test_a_wrong_override_is_named(path: Path) -> None:
    message = refusal(path, "listen: 127.0.0.1:1\n", {"STREAMGUARD_LISTEN": "80"})
    assert message.startswith("environment variable STREAMGUARD_LISTEN: 'listen'")


def test_a_uri_from_the_environment(path: Path) -> None:
    path.write_text("streams:\n- {name: a, uri: '${CAMERA_URI}'}\n- {name: b, uri: 'x${CAMERA_URI}'}\n")
    config = load_config(path, {"CAMERA_URI": "rtsp://bob:hunter2@cam/1"})
    assert [stream.uri for stream in config.streams] == ["rtsp://bob:hunter2@cam/1", "x${CAMERA_URI}"]
    assert "hunter2" not in repr(config)


def test_a_variable_that_is_not_set(path: Path) -> None:
    message = refusal(path, "streams:\n- name: a\n  uri: ${CAMERA_URI}\n")
    assert message == (
        "streamguard.yaml:3: 'streams[0].uri' is ${CAMERA_URI}, "
        "and no environment variable is called CAMERA_URI. Set it."
    )


def test_a_secret_is_not_shown(path: Path) -> None:
    message = refusal(path, "streams:\n- name: ${SECRET}\n  uri: b\n", {"SECRET": "hunter 2"})
    assert "hunter" not in message
    assert message.startswith("streamguard.yaml:2: 'streams[0].name', which the environment variable SECRET gives: ")


def test_a_url_in_a_message_is_redacted(path: Path) -> None:
    message = refusal(path, "streams: rtsp://bob:hunter2@cam/1\n")
    assert message == "streamguard.yaml:1: 'streams' is \"rtsp://***@cam/1\": expected a valid array."


def test_merge_keys_are_no_duplicates(path: Path) -> None:
    path.write_text("streams:\n- &first {name: a, uri: x}\n- {<<: *first, name: b}\n", encoding="utf-8")
    assert [(stream.name, stream.uri) for stream in load_config(path, {}).streams] == [("a", "x"), ("b", "x")]


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:8080", ("127.0.0.1", 8080)), ("[::1]:0", ("::1", 0)), ("localhost:65535", ("localhost", 65535))],
)
def test_listen(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["", "8080", ":8080", "host:", "host:x", "host:-1", "host:65536", "::1:80", "h:٣"])
def test_listen_of_another_form(text: str) -> None:
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        parse_listen(text)


def test_the_schema_takes_what_the_loader_takes() -> None:
    schema = config_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert validator.is_valid({})
    assert validator.is_valid({"streams": [{"name": "a", "uri": "b"}], "sampling": {"detect_every": 3}})
    assert not validator.is_valid({"nod": "a"})
    assert not validator.is_valid({"streams": [{"name": "a b", "uri": "c"}]})
    assert not validator.is_valid({"sampling": {"detect_every": "3"}})
    assert json.loads(json.dumps(schema)) == schema


def stated(key: str, wing: object) -> Iterator[tuple[str, str, object]]:
    """Every default below ``key``, with the section of the page that states it."""
    for setting in fields(wing):  # type: ignore[arg-type]
        value = getattr(wing, setting.name)
        if is_dataclass(value):
            yield from stated(f"{key}.{setting.name}", value)
        else:
            yield key, setting.name, value


WINGS = [entry for key, wing in Config() if is_dataclass(wing) for entry in stated(key, wing)]


@pytest.mark.parametrize(("wing", "key", "default"), WINGS)
def test_the_page_states_every_default(wing: str, key: str, default: object) -> None:
    section = DOCS.read_text(encoding="utf-8").partition(f"\n`{wing}`: ")[2].partition("\n\n`")[0]
    assert f"| `{key}` | {'none' if default in (None, ()) else default} |" in section


@pytest.mark.parametrize("key", [*Config.model_fields, *StreamConfig.model_fields, *EngineChoice.model_fields])
def test_the_page_names_every_key(key: str) -> None:
    assert f"`{key}`" in DOCS.read_text(encoding="utf-8")


def test_the_example_of_the_page_is_taken(path: Path) -> None:
    example = DOCS.read_text(encoding="utf-8").partition("```yaml\n")[2].partition("```")[0]
    path.write_text(example, encoding="utf-8")
    config = load_config(path, {"DOOR_URI": "door.mp4"})
    assert [stream.uri for stream in config.streams] == ["door.mp4", "demo:?seed=3"]
