"""streamguard.yaml: one frozen :class:`Config`, composed of each wing's own settings.

This module alone reads the environment: ``STREAMGUARD_NODE`` and ``STREAMGUARD_LISTEN`` override the file, and a
value that is wholly ``${NAME}`` is replaced by that variable, so that a camera's password need not lie in a file.

What is not known is refused, with the place, the value and what was expected::

    streamguard.yaml:7: 'sampling.detect_evry' is not known; did you mean 'detect_every'?
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from streamguard.access import ApiSettings, IceServer, WebRtcSettings
from streamguard.decision.segments import DecisionSettings
from streamguard.delivery.broadcast import PictureSettings
from streamguard.delivery.evidence import EvidenceSettings
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.publish import publish_url
from streamguard.delivery.sinks import SinkSettings
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.delivery.sinks.kafka import KafkaSettings
from streamguard.delivery.sinks.mqtt import MqttSettings
from streamguard.delivery.sinks.nats import NatsSettings
from streamguard.delivery.sinks.postgres import PostgresSettings
from streamguard.delivery.sinks.redis import RedisSettings
from streamguard.delivery.sinks.webhook import WebhookSettings
from streamguard.errors import ConfigError, UsageError
from streamguard.ownership import FleetSettings
from streamguard.renames import RENAMES, brought_up
from streamguard.vision.quality import QualitySettings
from streamguard.vision.sampler import SamplerSettings
from streamguard.vision.tracker import TrackerSettings
from streamguard.yaml_file import Origins, expanded, problem, read

log = logging.getLogger(__name__)

OVERRIDES: Final = {"STREAMGUARD_NODE": "node", "STREAMGUARD_LISTEN": "listen"}
_STREAM_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_STREAM_NAME_SAID: Final = "1 to 64 of A-Z a-z 0-9 . _ - with no dot in front"
RESERVED: Final = ("events", "console")
"""Names of sinks that are not in `sinks:`: what `--events` names, and what people read."""


def stream_name(text: str) -> str:
    """``text``, if it can stand in a URL, a label and a file name as it is.

    Raises:
        ValueError: it can't.
    """
    if not _STREAM_NAME.fullmatch(text):
        raise ValueError(f"expected {_STREAM_NAME_SAID}")
    return text


def parse_listen(text: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``; an IPv6 host stands in brackets.

    Raises:
        ValueError: the text has another form.

    >>> parse_listen("[::1]:8080")
    ('::1', 8080)
    """
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535) or (
        ":" in host and not bracketed
    ):
        raise ValueError("expected HOST:PORT, for instance 127.0.0.1:8080 or [::1]:8080, with a port of 0 to 65535")
    return host[1:-1] if bracketed else host, int(port)


def _listen(text: str) -> str:
    parse_listen(text)
    return text


def _publish(text: str | None) -> str | None:
    try:
        return text if text is None else publish_url(text)
    except UsageError as error:
        raise ValueError(str(error)) from None


class Settings(BaseModel):
    """What all parts of the configuration share: frozen, exact types, no unknown keys."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class StreamConfig(Settings):
    """One stream to watch."""

    name: Annotated[str, AfterValidator(stream_name), Field(json_schema_extra={"pattern": f"^{_STREAM_NAME.pattern}$"})]
    """Its name in events, metrics and URLs: 1 to 64 of A-Z a-z 0-9 . _ - with no dot in front; unique."""
    uri: Annotated[str, Field(min_length=1, repr=False)]
    """Where it comes from: a file, or a URI that `streamguard watch` takes. `${NAME}` is that environment variable."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP media travel."""
    publish: Annotated[str | None, AfterValidator(_publish), Field(repr=False)] = None
    """An RTSP server that the picture is published to, with what is drawn on it. `{stream}` stands for the name."""


class EngineChoice(Settings):
    """A model and what runs it."""

    engine: Annotated[str, Field(min_length=1)]
    """A name of `streamguard engines list`, or a folder with a manifest.json."""
    backend: Literal["openvino", "onnxruntime", "tensorrt", "tensorrt-rtx", "auto"] = "openvino"
    """The library that runs it."""
    variant: Annotated[str, Field(min_length=1)] = "auto"
    """The precision, for instance `fp32` or `int8`; `auto` is the backend's first choice for this engine."""


class DetectorChoice(EngineChoice):
    """The model that finds faces, and what runs it."""

    engine: Annotated[str, Field(min_length=1)] = "face-yolov8n"
    """A name of `streamguard engines list`, or a folder with a manifest.json."""


class ClassifierChoice(EngineChoice):
    """The model that judges a face, and what runs it."""

    engine: Annotated[str, Field(min_length=1)] = "deepfake-steady"
    """A name of `streamguard engines list`, or a folder with a manifest.json."""


# One line for each transport: pydantic tells them apart by `type`.
SinkChoice = Annotated[
    JsonlSettings | WebhookSettings | MqttSettings | NatsSettings | RedisSettings | KafkaSettings | PostgresSettings,
    Field(discriminator="type"),
]


class Config(Settings):
    """Everything StreamGuard is told. Every key has a default but a stream's `name` and `uri`."""

    node: str = Field(default_factory=socket.gethostname, min_length=1)
    """This machine's name in events; the host name if not set."""
    streams: tuple[StreamConfig, ...] = ()
    """What `streamguard watch` watches when it is given no source."""
    detector: DetectorChoice = DetectorChoice()
    """The model that finds faces."""
    classifier: ClassifierChoice = ClassifierChoice()
    """The model that judges a face."""
    operating_point: Annotated[str, Field(min_length=1)] = "default"
    """Which of the classifier's thresholds, each with its promise, decides."""
    sampling: SamplerSettings = SamplerSettings()
    """How often faces are searched for and scored."""
    tracking: TrackerSettings = TrackerSettings()
    """How faces are joined to tracks."""
    quality: QualitySettings = QualitySettings()
    """What a face must have to be judged."""
    decision: DecisionSettings = DecisionSettings()
    """How scores become segments."""
    evidence: EvidenceSettings = EvidenceSettings()
    """What is kept of each segment, where and for how long."""
    picture: PictureSettings = PictureSettings()
    """What people see of a stream."""
    listen: Annotated[str, AfterValidator(_listen)] | None = "127.0.0.1:8080"
    """Where health and metrics are served, HOST:PORT; port 0 lets the system choose, null serves nothing."""
    api: ApiSettings = ApiSettings()
    """Who may reach the HTTP face, and what may be asked of it."""
    webrtc: WebRtcSettings = WebRtcSettings()
    """How WebRTC peers are met: those who send a stream (WHIP), and those who watch one (WHEP)."""
    events: Annotated[str, Field(min_length=1)] | None = None
    """A file that events are appended to as JSON Lines, or `-` for standard output."""

    outbox: OutboxSettings = OutboxSettings()
    """Where events wait until every sink has them, and for how long."""
    sinks: tuple[SinkChoice, ...] = ()
    """Where else events go."""
    fleet: FleetSettings = FleetSettings()
    """How many machines share the streams; `streamguard fleet` alone reads it."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        named = {"streams": [stream.name for stream in self.streams], "sinks": [sink.name for sink in self.sinks]}
        for key, names in named.items():
            places: dict[str, int] = {}
            for index, name in enumerate(names):
                if (first := places.setdefault(name, index)) != index:
                    raise ValueError(
                        f"'{key}[{first}]' and '{key}[{index}]' are both named '{name}'; give one of them another name"
                    )
        return self

    @model_validator(mode="after")
    def _sinks_can_be_named(self) -> Self:
        for index, sink in enumerate(self.sinks):
            if sink.name in RESERVED:
                raise ValueError(f"'sinks[{index}].name' is '{sink.name}', which is taken; choose another")
            if not _STREAM_NAME.fullmatch(sink.name):
                raise ValueError(f"'sinks[{index}].name' is '{sink.name}': expected {_STREAM_NAME_SAID}")
        return self


def load_config(
    path: Path | str | None = None, environ: Mapping[str, str] | None = None, say: Callable[[str], None] = log.warning
) -> Config:
    """The configuration in the YAML file ``path``, or the defaults; the environment overrides both. Keys of an earlier
    release are read under the names that they have now, and ``say`` gets a line for each.

    Raises:
        ConfigError: the file can't be read, is not YAML, or states what is not known, not of the type
            expected or contradictory. Each problem has a line with the file, the line and the value.
    """
    environ = os.environ if environ is None else environ
    origins = Origins(str(path))
    data = {} if path is None else read(Path(path), origins)
    data, renamed = brought_up(data, origins, RENAMES)
    for line in renamed:
        say(line)
    data = expanded(data, (), origins, environ)
    for variable, key in OVERRIDES.items():
        if variable in environ:
            data[key] = environ[variable]
            origins.lines.pop((key,), None)
            origins.variables[(key,)] = variable
    try:
        return Config.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        schema = Config.model_json_schema()
        problems = [problem(details, origins, schema) for details in error.errors(include_url=False)]
        raise ConfigError("\n".join(problems)) from None


def proxies_bypassed(environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment lets FFmpeg pass by a proxy that it was told to use."""
    return bool((os.environ if environ is None else environ).get("no_proxy"))


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "streamguard.yaml"}


def outbox_path(config: Config, environ: Mapping[str, str] | None = None) -> Path | None:
    """Where events wait on disk: what `outbox.path` says; with `sinks:`, the state folder of the service manager or
    of the user (XDG base directories); None where neither asks for one."""
    if config.outbox.path is not None:
        return Path(config.outbox.path)
    return _state_folder(os.environ if environ is None else environ) / "outbox.db" if config.sinks else None


def _state_folder(environ: Mapping[str, str]) -> Path:
    if environ.get("STATE_DIRECTORY"):  # systemd.exec(5): several are separated by colons
        return Path(environ["STATE_DIRECTORY"].partition(":")[0])
    state = environ.get("XDG_STATE_HOME", "")
    home = Path(environ["HOME"]) if "HOME" in environ else Path.home()
    return (Path(state) if os.path.isabs(state) else home / ".local" / "state") / "streamguard"


class ServiceManager(NamedTuple):
    """Where the service manager listens, and the seconds in which it wants to hear of a running service (sd_notify(3),
    sd_watchdog_enabled(3)); None where there is none or it does not want to."""

    address: str | None = None
    watchdog: float | None = None


def service_manager(environ: Mapping[str, str] | None = None) -> ServiceManager:
    """What the service manager says of itself in the environment."""
    environ = os.environ if environ is None else environ
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(os.getpid()))
    wanted = usec.isdecimal() and int(usec) > 0 and pid == str(os.getpid())
    return ServiceManager(environ.get("NOTIFY_SOCKET") or None, int(usec) / 1e6 if wanted else None)


def sink_secrets(settings: SinkSettings, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The secrets of a sink, read from where its settings say: ``token_file: /run/t`` gives ``{"token": ...}``,
    ``token_env: NAME`` likewise. A line end at the end of a file is no part of the secret.

    Raises:
        ConfigError: a file that can't be read, a variable that is not set, an empty secret, or both ways at once.
    """
    return _secrets(f"sink '{settings.name}'", asdict(settings), environ)


def ice_credential(server: IceServer, environ: Mapping[str, str] | None = None) -> str | None:
    """The password of a TURN server, read from where its settings say; None if they name none.

    Raises:
        ConfigError: as of :func:`sink_secrets`.
    """
    return _secrets(f"ice server '{server.urls[0]}'", asdict(server), environ).get("credential")


def _secrets(whose: str, settings: Mapping[str, Any], environ: Mapping[str, str] | None) -> dict[str, str]:
    environ = os.environ if environ is None else environ
    found: dict[str, str] = {}
    for setting, where in settings.items():
        what, _, way = setting.rpartition("_")
        if way not in ("file", "env") or where is None:
            continue
        said = f"{whose}: {setting} '{where}'"
        if what in found:
            raise ConfigError(f"{said}: {what} is given twice. Keep {what}_file or {what}_env.")
        secret = _secret_of_file(Path(where), said) if way == "file" else environ.get(where, "")
        if not secret:
            raise ConfigError(f"{said}: it is {'empty' if way == 'file' else 'not set'}. Put the {what} there.")
        found[what] = secret
    return found


def _secret_of_file(path: Path, said: str) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{said}: it can't be read: {error.strerror}. Name a file with the secret alone.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{said}: it is no text. Name a file with the secret alone.") from error
