"""SIGHUP: read the configuration again, and add and remove streams while the others go on."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from streamguard.errors import StreamGuardError, UsageError

if TYPE_CHECKING:
    from streamguard.config import Config, StreamConfig
    from streamguard.ingest.source import Source
    from streamguard.pipeline import Guard

log = logging.getLogger(__name__)


class StreamChanges(NamedTuple):
    """What a new configuration asks for; a stream with another address or transport is removed and added."""

    removed: tuple[str, ...]
    added: tuple[StreamConfig, ...]


def stream_changes(before: Config, after: Config) -> StreamChanges:
    """Streams that are gone, and streams that are new, in the order of the files."""
    known, wanted = set(before.streams), set(after.streams)
    removed = tuple(stream.name for stream in before.streams if stream not in wanted)
    return StreamChanges(removed, tuple(stream for stream in after.streams if stream not in known))


def fixed_changes(before: Config, after: Config) -> list[str]:
    """Keys other than the streams that a new configuration changes: they are read at start alone."""
    return [key for key, value in after if key != "streams" and value != getattr(before, key)]


def source_of(stream: StreamConfig) -> Source:
    """The source that a stream of the configuration names."""
    from streamguard.ingest.source import SourceOptions, open_source

    return open_source(stream.uri, name=stream.name, options=SourceOptions(transport=stream.transport))


class Reloader:
    """Applies a configuration file to a running Guard."""

    def __init__(self, path: Path, config: Config, guard: Guard) -> None:
        self._path = path
        self._config = config
        self._guard = guard
        self._turn = threading.Lock()

    def __call__(self) -> None:
        """Read the file; a mistake in it changes nothing and is logged."""
        from streamguard.config import load_config

        with self._turn:
            try:
                after = load_config(self._path)
                changes = stream_changes(self._config, after)
                added = [(source_of(stream), stream.publish) for stream in changes.added]
            except StreamGuardError as error:
                log.error("configuration not reloaded: %s", error)
                return
            for name in changes.removed:
                self._guard.remove(name)
            for source, publish in added:
                try:
                    self._guard.add(source)
                    if publish is not None:
                        self._guard.publish(source.name, publish)
                except UsageError as error:  # the API has given the name away meanwhile
                    log.error("stream '%s' not added: %s", source.name, error)
            self._config, before = after, self._config
            if fixed := fixed_changes(before, after):
                log.warning("changed, and taken up at the next start alone: %s", ", ".join(fixed))
            log.warning("configuration reloaded: %d streams removed, %d added", len(changes.removed), len(added))


@contextmanager
def reloaded_by_signal(*actions: Callable[[], None]) -> Iterator[None]:
    """While inside, SIGHUP calls each of ``actions``, in order."""
    if not actions or threading.current_thread() is not threading.main_thread():
        yield
        return

    def reload() -> None:
        for action in actions:
            action()

    def ask(number: int, frame: FrameType | None) -> None:
        # In a thread: what the main thread holds at this moment, a handler may not wait for.
        threading.Thread(target=reload, name="reload").start()

    before = signal.signal(signal.SIGHUP, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
