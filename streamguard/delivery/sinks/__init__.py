"""Where events go, one transport a module.

A transport is a frozen dataclass of settings and the :class:`Sink` that its ``make`` gives. Both live in the
transport's module; the module is imported without its client library, which is an extra: ``make`` imports that, and
refuses with a :class:`~streamguard.errors.UsageError` that names the extra. What a setting's name ends in says where a
secret lies: ``password_file`` (a path) or ``password_env`` (a variable); ``config.py`` alone reads them, and ``make``
gets ``{"password": ...}``.

::

    SinkError          nothing of the batch is sure: all of it comes again, with the same ids, after a back-off
    ├── SinkRejected   one event of it will never be taken: a dead letter; the rest goes on
    └── SinkClosed     nobody reads any more: this sink gets nothing else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from streamguard.errors import StreamGuardError

if TYPE_CHECKING:
    from streamguard.delivery.events import Event


class SinkError(StreamGuardError):
    """A sink did not take events: full disk, broker away, no permission, no answer. They come again.

    ``retry_after``: seconds that the far side asked to be left alone for; None leaves it to the back-off.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkRejected(SinkError):
    """One event will never be taken, however often it comes. It becomes a dead letter.

    ``taken``: how many events of the batch were taken before it; it is number ``taken``, counted from 0. Those
    after it come again.
    """

    def __init__(self, message: str, taken: int = 0) -> None:
        super().__init__(message)
        self.taken = taken


class SinkClosed(SinkError):
    """Nobody reads this sink any more; no later event can arrive either."""


class Sink(Protocol):
    """One far side. Lives in the sinks' event loop; its dispatcher alone calls it, one call at a time.

    A call that takes too long is cancelled: it counts as a :class:`SinkError`, and ``close`` and ``open`` follow.
    """

    @property
    def name(self) -> str:
        """Its name in logs and in the label ``sink``."""

    @property
    def batch(self) -> int:
        """How many events it takes at once, from 1."""

    async def open(self) -> None:
        """Connect. Called again, after a back-off and a ``close``, whenever it or ``deliver`` failed.

        Raises:
            SinkError: the far side is away, or refuses.
        """

    async def deliver(self, events: Sequence[Event]) -> None:
        """Hand over a batch; return when the far side has acknowledged all of it, in order.

        Raises:
            SinkError: nothing of the batch is sure. SinkRejected: one event is refused. SinkClosed: nobody reads.
        """

    async def close(self) -> None:
        """Disconnect. Never raises; a sink that is not open is left alone."""


@runtime_checkable
class LateSink(Sink, Protocol):
    """A sink that also tells how things stand now, so that what comes late is something else to it."""

    async def deliver_late(self, event: Event) -> None:
        """Hand over a dead letter, out of the order of its stream.

        Raises:
            SinkError: as :meth:`deliver` does.
        """


class SinkSettings(Protocol):
    """What ``sinks:`` says of one sink; a frozen dataclass whose ``type`` is a ``Literal``."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def name(self) -> str:
        """Unique among the sinks; also names the cursor that remembers what it took."""

    @property
    def type(self) -> str:
        """Which transport."""

    def make(self, secrets: Mapping[str, str]) -> Sink:
        """The sink, not yet open.

        Raises:
            UsageError: the transport's extra is not installed, or a setting can't be used.
        """
