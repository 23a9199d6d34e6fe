"""One Guard with all that stands round it on a node: outbox, sinks, its own HTTP face."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from prometheus_client import CollectorRegistry

from streamguard.config import Config, StreamConfig, outbox_path, parse_listen
from streamguard.delivery.events import Event
from streamguard.delivery.post import Post, posting
from streamguard.errors import StreamGuardError
from streamguard.fleet.messages import Assigned, Grant
from streamguard.ingest.source import SourceOptions, open_source
from streamguard.metrics import Metrics
from streamguard.outgoing import patient
from streamguard.pipeline import Guard, StreamReport
from streamguard.server.api import Api
from streamguard.server.app import Address, Health, Server
from streamguard.server.evidence import EvidenceFolder

log = logging.getLogger(__name__)


class Station:
    """Open as long as the block lasts. ``config``: the node's own. :meth:`keep` belongs to one thread.

    Raises:
        StreamGuardError: an engine, a sink, the outbox or the address can't be used.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._stack = ExitStack()
        self._watched: dict[str, Assigned] = {}
        self._ended: dict[str, str | None] = {}  # streams that ended by themselves, with why
        self._lock = threading.Lock()
        self._metrics = Metrics(CollectorRegistry())
        self._server: Server | None = None
        self._guard: Guard | None = None
        self._post: Post | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            config = self._config
            api = self._serve(stack)
            sinks = patient(config)
            post = stack.enter_context(
                posting(outbox_path(config), config.outbox, sinks, self._metrics, lambda sink: None)
            )

            def take(event: Event) -> None:
                post.take(event)
                if api is not None:
                    api.take(event)

            guard = Guard(config, metrics=self._metrics, on_event=take, on_end=self._end)
            self._post, self._guard = post, stack.enter_context(guard)
            self._stack = stack.pop_all()
        return self

    def _serve(self, stack: ExitStack) -> Api | None:
        config = self._config
        if config.listen is None:
            return None
        kept = config.evidence.folder
        api = Api(config.api, lambda: self._guard, None if kept is None else EvidenceFolder(kept))
        health = Health(alive=self.troubles, ready=self._not_ready, started=self._not_ready)
        self._server = stack.enter_context(
            Server(self._metrics, health, Address(*parse_listen(config.listen)), config.api, api)
        )
        return api

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Every stream ends, its segments close, what waits in the outbox goes out or stays on the disk."""
        self._stack.close()

    # What shall be.

    def keep(self, wanted: Mapping[str, Assigned]) -> None:
        """Watch these streams and no others; one whose address has changed is removed and added."""
        guard = self._running()
        for name in [name for name, has in self._watched.items() if not _same(has, wanted.get(name))]:
            guard.remove(name)
            with self._lock:
                del self._watched[name]
                self._ended.pop(name, None)
        for name, assigned in wanted.items():
            if name not in self._watched:
                self._add(guard, assigned)
            else:
                self._watched[name] = assigned

    def _add(self, guard: Guard, assigned: Assigned) -> None:
        stream = assigned.stream
        with self._lock:
            self._watched[stream.name] = assigned
        try:
            options = SourceOptions(transport=stream.transport)
            guard.add(open_source(stream.uri, name=stream.name, options=options))
        except StreamGuardError as error:
            log.error("stream '%s' can't be watched: %s", stream.name, error)
            with self._lock:
                self._ended[stream.name] = str(error)

    def _end(self, report: StreamReport) -> None:
        """In the inference thread."""
        with self._lock:
            self._ended[report.stream] = report.error

    # What is so; from any thread.

    @property
    def url(self) -> str | None:
        """Where its HTTP face is, if it has one."""
        return None if self._server is None else self._server.url

    @property
    def held(self) -> Mapping[str, Grant]:
        """What is watched, and by what right. A stream that has ended by itself stays: it is not to begin anew."""
        with self._lock:
            return {name: assigned.grant for name, assigned in self._watched.items()}

    def states(self) -> Mapping[str, str]:
        """How each stream stands: its state, or `ended`."""
        states = {stream.source.name: stream.snapshot.state.value for stream in self._running().streams()}
        with self._lock:
            return states | dict.fromkeys(self._ended.keys() - states.keys(), "ended")

    @property
    def pending(self) -> int:
        """Events that wait for a sink, of the sink that has most."""
        values = self._samples("streamguard_outbox_pending")
        return round(max(values, default=0))

    @property
    def overload(self) -> int:
        """Steps that the overload policy has taken."""
        return round(max(self._samples("streamguard_overload_level"), default=0))

    def _samples(self, name: str) -> list[float]:
        return [
            sample.value
            for family in self._metrics.registry.collect()
            for sample in family.samples
            if sample.name == name
        ]

    def troubles(self) -> list[str]:
        """Which of its loops do not turn."""
        found = [] if self._post is None else self._post.stuck()
        if self._guard is not None and not self._guard.alive:
            found.append("the inference thread does not turn")
        return found

    def _not_ready(self) -> list[str]:
        return [] if self._guard is not None and self._guard.ready else ["engines are not loaded"]

    def _running(self) -> Guard:
        assert self._guard is not None, "outside of the block"
        return self._guard


def _same(has: Assigned, wanted: Assigned | None) -> bool:
    """Whether a stream goes on: the right may be a newer one, the address the same."""
    return wanted is not None and _address(has.stream) == _address(wanted.stream)


def _address(stream: StreamConfig) -> tuple[str, str]:
    return stream.uri, stream.transport
