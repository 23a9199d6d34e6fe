"""Log lines on standard error, as text or as one JSON object a line. Secrets in URLs are redacted in both."""

from __future__ import annotations

import enum
import json
import logging
import sys
from datetime import UTC, datetime
from typing import Final, TextIO

from streamguard.errors import redact

_TOLD: Final = ("streamguard.readers", logging.ERROR)


class LogFormat(enum.StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


class LogLevel(enum.StrEnum):
    """The least severity that is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class TextLines(logging.Formatter):
    """``12:00:00 WARNING streamguard.pipeline: message``."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s", "%H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        return redact(super().format(record))


class JsonLines(logging.Formatter):
    """``{"time", "level", "logger", "thread", "message"}``, with ``"exception"`` if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": redact(record.getMessage()),
        }
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


class _Lines(logging.StreamHandler[TextIO]):
    """The one handler that this module sets up."""


def set_up(form: LogFormat, level: LogLevel) -> None:
    """Log to standard error from now on; what an earlier call set up is replaced."""
    tear_down()
    root = logging.getLogger()
    lines = _Lines(sys.stderr)
    lines.setFormatter(JsonLines() if form is LogFormat.JSON else TextLines())
    root.addHandler(lines)
    root.setLevel(level.upper())


def tear_down() -> None:
    """Take away what :func:`set_up` put there."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Lines)]:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)


def leave_inputs_to_the_verb() -> None:
    """For verbs that name each failed input themselves: an error line of its reader would say it twice to people."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, _Lines) and isinstance(handler.formatter, TextLines):
            handler.addFilter(lambda record: (record.name, record.levelno) != _TOLD)
