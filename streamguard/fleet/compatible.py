"""Which nodes fit together, and which configuration a fleet can follow."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from streamguard.config import Config, sink_secrets
from streamguard.delivery.sinks import SinkSettings
from streamguard.delivery.sinks.jsonl import JsonlSettings
from streamguard.delivery.sinks.mqtt import MqttSettings
from streamguard.errors import ConfigError, NodeForeign, StreamGuardError, UsageError
from streamguard.fleet.messages import Hello, Settings
from streamguard.inference.engines import load_engine
from streamguard.version import __version__

NODE: Final = "{node}"
"""In a path of the configuration, and in an MQTT client's id: the node's name stands there."""


def settings_of(config: Config) -> Settings:
    """What nodes get of a configuration, with a name that changes when any of it does. Streams come one by one, and
    what the head alone goes by is left out."""
    bare = config.model_copy(update={"streams": (), "fleet": replace(config.fleet, address="auto"), "node": NODE})
    fixed = {"beat", "lease", "capacity", "patience", "settle"}  # the head's; of no concern to a node
    text = bare.model_dump_json(exclude={"fleet": fixed, "listen": True})
    return Settings(hashlib.sha256(text.encode()).hexdigest()[:12], bare)


def of_node(config: Config, name: str) -> Config:
    """The configuration as one node has it: its name, in events and in every path with ``{node}``."""

    def own(path: str | None) -> str | None:
        return None if path is None else path.replace(NODE, name)

    sinks: list[SinkSettings] = []
    for sink in config.sinks:
        if isinstance(sink, JsonlSettings):
            sink = replace(sink, path=sink.path.replace(NODE, name))
        elif isinstance(sink, MqttSettings):
            sink = replace(sink, client_id=own(sink.client_id))
        sinks.append(sink)
    return config.model_copy(
        update={
            "node": name,
            "listen": config.fleet.node_listen,
            "outbox": replace(config.outbox, path=own(config.outbox.path)),
            "evidence": replace(config.evidence, folder=own(config.evidence.folder)),
            "sinks": tuple(sinks),
        }
    )


def check_fleet(config: Config) -> None:
    """Whether a fleet can follow a configuration at all.

    Raises:
        ConfigError: it asks for what one machine alone does.
    """
    if config.events is not None:
        raise ConfigError(
            f"'events' is \"{config.events}\": a fleet's events leave through each node's own sinks. Write "
            'sinks: [{type: jsonl, name: file, path: "/var/lib/streamguard/{node}.jsonl"}].'
        )
    if not config.streams:
        raise UsageError("There is nothing to watch: the configuration has no streams.")


def engines_of(config: Config) -> Mapping[str, str]:
    """SHA-256 of both models that a configuration names.

    Raises:
        EngineError: one is not there, or is damaged.
    """
    engines = (load_engine(config.detector.engine), load_engine(config.classifier.engine))
    return {engine.name: engine.sha256 for engine in engines}


def problems_here(config: Config) -> list[str]:
    """Why this machine can't follow a node's configuration: engines that are absent or damaged, secrets that are not
    where they should be. Nothing is opened."""
    found = []
    try:
        for choice in (config.detector, config.classifier):
            load_engine(choice.engine).model(choice.variant if choice.variant != "auto" else "fp32")
    except KeyError:
        found.append(f"engine '{choice.engine}' has no variant '{choice.variant}'.")
    except StreamGuardError as error:
        found.append(str(error))
    for sink in config.sinks:
        try:
            sink.make(sink_secrets(sink))
        except StreamGuardError as error:
            found.append(str(error))
    return found


def check_node(name: str, hello: Hello, engines: Mapping[str, str]) -> None:
    """Whether a node can belong to this head's fleet. ``engines``: SHA-256 by name, as the head has them.

    Raises:
        NodeForeign: it can't, with what to do there.
    """
    if hello.version != __version__:
        raise NodeForeign(
            f"node '{name}' runs StreamGuard {hello.version}, the head {__version__}. Install the same version on "
            "both, and start Ray there again."
        )
    for engine, sha256 in engines.items():
        found = hello.engines.get(engine)
        if found is not None and found != sha256:
            raise NodeForeign(
                f"node '{name}': its engine '{engine}' has SHA-256 {found[:16]}..., the head's {sha256[:16]}.... "
                "Scores of different models can't be held against one threshold. Install the same engine on both."
            )
    if hello.problems:
        raise NodeForeign(f"node '{name}': {hello.problems[0]}")
