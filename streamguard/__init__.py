"""StreamGuard: the open deepfake guard for live video.

>>> from streamguard import Guard, Config, open_source
>>> guard = Guard(Config(), on_event=print)      # doctest: +SKIP
>>> guard.add(open_source("interview.mp4"))      # doctest: +SKIP
>>> guard.run()                                  # doctest: +SKIP

The names below load on first use, so that ``import streamguard`` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamguard.errors import (
    BackendError,
    ConfigError,
    EngineDamaged,
    EngineError,
    EngineForeign,
    EngineMissing,
    InputError,
    InputMissing,
    InputUnreadable,
    NoVideo,
    PictureSize,
    SourceDenied,
    SourceLost,
    SourceRefused,
    SourceStalled,
    StreamGuardError,
    UsageError,
)
from streamguard.version import __version__

if TYPE_CHECKING:
    from streamguard.config import Config, load_config
    from streamguard.frames import Box, Face, Frame, Picture, Quality, Score, Segment, State, Track
    from streamguard.ingest.source import open_source
    from streamguard.pipeline import Guard
    from streamguard.scan import FileVerdict, scan

_HOMES = {
    "Guard": "pipeline",
    "open_source": "ingest.source",
    "FileVerdict": "scan",
    "scan": "scan",
    "Config": "config",
    "load_config": "config",
    "Box": "frames",
    "Face": "frames",
    "Frame": "frames",
    "Picture": "frames",
    "Quality": "frames",
    "Score": "frames",
    "Segment": "frames",
    "State": "frames",
    "Track": "frames",
}

__all__ = [
    "BackendError",
    "Box",
    "Config",
    "ConfigError",
    "EngineDamaged",
    "EngineError",
    "EngineForeign",
    "EngineMissing",
    "Face",
    "FileVerdict",
    "Frame",
    "Guard",
    "InputError",
    "InputMissing",
    "InputUnreadable",
    "NoVideo",
    "Picture",
    "PictureSize",
    "Quality",
    "Score",
    "Segment",
    "SourceDenied",
    "SourceLost",
    "SourceRefused",
    "SourceStalled",
    "State",
    "StreamGuardError",
    "Track",
    "UsageError",
    "__version__",
    "load_config",
    "open_source",
    "scan",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'streamguard' has no attribute '{name}'")
    return getattr(import_module(f"streamguard.{_HOMES[name]}"), name)
