"""A YAML file whose every value knows where it stands, so that what is wrong with one can be said by line.

>>> origins = Origins("streamguard.yaml", lines={("streams",): 3})
>>> origins.of(("streams", 0, "uri"))
'streamguard.yaml:3'
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic_core import ErrorDetails

from streamguard.errors import ConfigError

Key = str | int
Place = tuple[Key, ...]

_REFERENCE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_LONGEST: Final = 80


@dataclass(slots=True)
class Origins:
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


def read(path: Path, origins: Origins) -> dict[str, Any]:
    """The mapping in a YAML file; the line of each value goes into ``origins``.

    Raises:
        ConfigError: it can't be read, is no YAML or no mapping, or has a key twice.
    """
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


def _note(node: yaml.Node, place: Place, origins: Origins, parents: tuple[int, ...]) -> None:
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
                    f"{origins.path}:{line}: '{dotted(below)}' was set in line {before} already. Keep one of them."
                )
            origins.lines[below] = line
            _note(value, below, origins, parents)


def expanded(value: Any, place: Place, origins: Origins, environ: Mapping[str, str]) -> Any:
    """``value`` with every string that is wholly ``${NAME}`` replaced by that variable.

    Raises:
        ConfigError: there is no such variable.
    """
    if isinstance(value, dict):
        return {key: expanded(below, (*place, str(key)), origins, environ) for key, below in value.items()}
    if isinstance(value, list):
        return [expanded(below, (*place, index), origins, environ) for index, below in enumerate(value)]
    reference = _REFERENCE.fullmatch(value) if isinstance(value, str) else None
    if reference is None:
        return value
    name = reference[1]
    if name not in environ:
        what = f"'{dotted(place)}' is ${{{name}}}, and no environment variable is called {name}"
        raise ConfigError(f"{origins.of(place)}: {what}. Set it.")
    origins.variables[place] = name
    return environ[name]


def problem(details: ErrorDetails, origins: Origins, schema: Mapping[str, Any]) -> str:
    """One line for one thing pydantic found: where, what, and what was expected. ``schema`` is the file's."""
    known, place = _stand(details["loc"], schema)
    kind, context = details["type"], details.get("ctx", {})
    if kind in ("union_tag_invalid", "union_tag_not_found"):
        place = (*place, "type")
    where, name = origins.of(place), dotted(place)
    message = details["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"{where}: '{name}' is not known; {_advice(str(place[-1]), known)}"
    if kind in ("missing", "union_tag_not_found"):
        return f"{where}: '{name}' is missing."
    if kind == "union_tag_invalid":
        return f"{where}: '{name}' is {_shown(context['tag'])}: expected one of {context['expected_tags']}."
    if not place:
        return f"{where}: {message}."
    if place in origins.variables:  # the value may be a secret
        return f"{where}: '{name}', which the environment variable {origins.variables[place]} gives: {message}."
    if any(below[: len(place)] == place for below in origins.variables):
        return f"{where}: '{name}', which holds a value of the environment: {message}."
    return f"{where}: '{name}' is {_shown(details['input'])}: {message}."


def _advice(key: str, known: list[str]) -> str:
    near = get_close_matches(key, known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known here: {', '.join(known)}."


def _stand(found: Place, schema: Mapping[str, Any]) -> tuple[list[str], Place]:
    """The keys known beside the last of ``found``, and the place as the file has it: without the names of kinds
    that pydantic puts in where a value may be one of several."""
    here: Mapping[str, Any] = schema
    known: list[str] = []
    place: list[Key] = []
    for key in found:
        if "discriminator" in here:
            here = _resolved({"$ref": here["discriminator"]["mapping"][key]}, schema)
            continue
        known = list(here.get("properties", {}))
        place.append(key)
        below = here.get("items", {}) if isinstance(key, int) else here.get("properties", {}).get(key, {})
        here = _resolved(below, schema)
    return known, tuple(place)


def _resolved(here: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in here:
        return here
    found: Mapping[str, Any] = schema["$defs"][here["$ref"].rpartition("/")[2]]
    return found


def dotted(place: Place) -> str:
    """``("streams", 0, "uri")`` as ``streams[0].uri``: a place as messages name it."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)
    return text.removeprefix(".")


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
