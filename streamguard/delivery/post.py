"""The post: outbox, its writer and the dispatcher, as one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from streamguard.delivery.dispatch import Consumer, Dispatcher, DispatchSettings
from streamguard.delivery.events import Event
from streamguard.delivery.outbox import Outbox, OutboxSettings
from streamguard.delivery.store import Store, StoreFailed
from streamguard.delivery.vault import Lock, open_store
from streamguard.delivery.writer import OutboxWriter
from streamguard.metrics import Metrics

log = logging.getLogger(__name__)

STUCK: Final = 30.0  # seconds of one commit, or of one turn of the sinks' loop; either takes milliseconds


@dataclass(frozen=True, slots=True)
class Post:
    """Takes events, and brings them to the sinks."""

    outbox: Outbox
    writer: OutboxWriter
    dispatcher: Dispatcher

    def take(self, event: Event) -> None:
        """Accept an event, from any thread, without waiting."""
        self.outbox.take(event)

    @property
    def lost(self) -> int:
        """Events that a sink will not have, and that are no dead letter; final once the post is closed."""
        return self.outbox.lost

    def stuck(self) -> list[str]:
        """Which of its loops do not turn."""
        reasons = []
        if self.writer.stuck_for() > STUCK:
            reasons.append("the outbox writer does not turn")
        if self.dispatcher.stuck_for() > STUCK:
            reasons.append("the sinks' loop does not turn")
        return reasons


@contextmanager
def posting(
    path: Path | None,
    settings: OutboxSettings,
    consumers: Sequence[Consumer],
    metrics: Metrics,
    on_closed: Callable[[str], None],
) -> Iterator[Post]:
    """A post that is open as long as the block lasts; what a crash left behind goes out first.

    ``path``: the outbox file; None keeps events in memory. A full disk is no reason not to start: it is said, and
    events are kept in memory. Afterwards everything is delivered, or kept in the file, or counted as lost.

    Raises:
        OutboxRefused: the file is foreign, newer, in use or not writable.
    """
    with ExitStack() as stack:
        outbox = Outbox(None if path is None else _store(path, settings, stack), metrics)
        stack.callback(outbox.close)
        live = [consumer.sink.name for consumer in consumers if consumer.live]
        outbox.register([consumer.sink.name for consumer in consumers if not consumer.live], live)
        if closed := outbox.recover():
            log.warning("%d segments that were open at the last stop are closed as inconclusive: restart", closed)
        dispatcher = Dispatcher(outbox, consumers, metrics, on_closed, DispatchSettings(settings.max_age))
        writer = stack.enter_context(OutboxWriter(outbox, dispatcher.wake))
        stack.enter_context(dispatcher)
        yield Post(outbox, writer, dispatcher)


def _store(path: Path, settings: OutboxSettings, stack: ExitStack) -> Store | None:
    try:
        stack.callback(Lock(path).release)
        return open_store(path, settings.max_bytes)
    except StoreFailed as error:
        log.error("%s Events are kept in memory until the next start.", error)
        return None
