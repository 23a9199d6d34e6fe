"""streamguard.yaml: one frozen :class:`Config`, composed of each wing's own settings.

This module alone reads the environment: ``STREAMGUARD_NODE`` and ``STREAMGUARD_LISTEN`` override the file, and a
value that is wholly ``${NAME}`` is replaced by that variable, so that a camera's password need not lie in a file.

What is not known is refused, with the place, the value and what was expected::

    streamguard.yaml:7: 'sampling.detect_evry' is not known; did you mean 'detect_every'?
"""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from streamguard.decision.segments import DecisionSettings
from streamguard.errors import ConfigError
from streamguard.vision.quality import QualitySettings
from streamguard.vision.sampler import SamplerSettings
from streamguard.vision.tracker import TrackerSettings

Key = str | int
Place = tuple[Key, ...]

OVERRIDES: Final = {"STREAMGUARD_NODE": "node", "STREAMGUARD_LISTEN": "listen"}
_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_STREAM_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_LONGEST: Final = 80


def stream_name(text: str) -> str:
    """``text``, if it can stand in a URL, a label and a file name as it is.

    Raises:
        ValueError: it can't.
    """
    if not _STREAM_NAME.fullmatch(text):
        raise ValueError("expected 1 to 64 of A-Z a-z 0-9 . _ - with no dot in front")
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

    engine: Annotated[str, Field(min_length=1)] = "deepfake-base"
    """A name of `streamguard engines list`, or a folder with a manifest.json."""


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
    listen: Annotated[str, AfterValidator(_listen)] | None = "127.0.0.1:8080"
    """Where health and metrics are served, HOST:PORT; port 0 lets the system choose, null serves nothing."""
    events: Annotated[str, Field(min_length=1)] | None = None
    """A file that events are appended to as JSON Lines, or `-` for standard output."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        first: dict[str, int] = {}
        for index, stream in enumerate(self.streams):
            if stream.name in first:
                raise ValueError(
                    f"'streams[{first[stream.name]}]' and 'streams[{index}]' are both named '{stream.name}'; "
                    "give one of them another name"
                )
            first[stream.name] = index
        return self


@dataclass(slots=True)
class _Origins:
    """Where each value was written: ``lines`` in the file, ``variables`` for what the environment gave."""

    path: str
    lines: dict[Place, int] = field(default_factory=dict)
    variables: dict[Place, str] = field(default_factory=dict)

    def of(self, place: Place) -> str:
        """The nearest place known: a missing key is reported where its parent stands."""
        while place not in self.lines and place not in self.variables and place:
            place = place[:-1]
        if place in self.variables and place not in self.lines:
            return f"environment variable {self.variables[place]}"
        return f"{self.path}:{self.lines.get(place, 1)}"


def load_config(path: Path | str | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in the YAML file ``path``, or the defaults; the environment overrides both.

    Raises:
        ConfigError: the file can't be read, is not YAML, or states what is not known, not of the type
            expected or contradictory. Each problem has a line with the file, the line and the value.
    """
    environ = os.environ if environ is None else environ
    origins = _Origins(str(path))
    data = {} if path is None else _read(Path(path), origins)
    data = _expanded(data, (), origins, environ)
    for variable, key in OVERRIDES.items():
        if variable in environ:
            data[key] = environ[variable]
            origins.lines.pop((key,), None)
            origins.variables[(key,)] = variable
    try:
        return Config.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        problems = [_problem(details, origins) for details in error.errors(include_url=False)]
        raise ConfigError("\n".join(problems)) from None


def config_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    schema = Config.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "streamguard.yaml"}


def _read(path: Path, origins: _Origins) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"configuration '{path}' can't be read: {error.strerror}. Name a YAML file.") from error
    try:
        loader = yaml.SafeLoader(text)
        root = loader.get_single_node()
        if root is None:
            return {}
        _note(root, (), origins, ())
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}.") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}.".replace("\n", " ")) from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected keys with values, as in 'node: studio'; found {_shown(data)}.")
    return data


def _note(node: yaml.Node, place: Place, origins: _Origins, parents: tuple[int, ...]) -> None:
    """Note the line of every value below ``node``; refuse a key written twice: YAML would let the last one win."""
    if id(node) in parents:
        raise ConfigError(f"{origins.path}:{node.start_mark.line + 1}: an alias that contains itself.")
    parents = (*parents, id(node))
    origins.lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note(item, (*place, index), origins, parents)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            below = (*place, str(key.value))
            line = key.start_mark.line + 1
            if (before := origins.lines.get(below)) is not None:
                raise ConfigError(
                    f"{origins.path}:{line}: '{_dotted(below)}' was set in line {before} already. Keep one of them."
                )
            origins.lines[below] = line
            _note(value, below, origins, parents)


def _expanded(value: Any, place: Place, origins: _Origins, environ: Mapping[str, str]) -> Any:
    """``value`` with every string that is wholly ``${NAME}`` replaced by that variable."""
    if isinstance(value, dict):
        return {key: _expanded(below, (*place, str(key)), origins, environ) for key, below in value.items()}
    if isinstance(value, list):
        return [_expanded(below, (*place, index), origins, environ) for index, below in enumerate(value)]
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        return value
    name = reference[1]
    if name not in environ:
        what = f"'{_dotted(place)}' is ${{{name}}}, and no environment variable is called {name}"
        raise ConfigError(f"{origins.of(place)}: {what}. Set it.")
    origins.variables[place] = name
    return environ[name]


def _problem(details: ErrorDetails, origins: _Origins) -> str:
    """One line for one thing pydantic found: where, what, and what was expected."""
    place: Place = details["loc"]
    where, name = origins.of(place), _dotted(place)
    message = details["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
    if details["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: '{name}' is not known; {_advice(place)}"
    if details["type"] == "missing":
        return f"{where}: '{name}' is missing."
    if not place:
        return f"{where}: {message}."
    if place in origins.variables:  # the value may be a secret
        return f"{where}: '{name}', which the environment variable {origins.variables[place]} gives: {message}."
    return f"{where}: '{name}' is {_shown(details['input'])}: {message}."


def _advice(place: Place) -> str:
    known = _known_keys(place[:-1])
    near = get_close_matches(str(place[-1]), known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}."


def _known_keys(place: Place) -> list[str]:
    """The keys that may stand at ``place``, from the schema."""
    schema = Config.model_json_schema()
    here = schema
    for key in place:
        here = here["items"] if isinstance(key, int) else here["properties"][key]
        if "$ref" in here:
            here = schema["$defs"][here["$ref"].rpartition("/")[2]]
    return list(here.get("properties", {}))


def _dotted(place: Place) -> str:
    """``("streams", 0, "uri")`` as ``streams[0].uri``."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return text.removeprefix(".")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
