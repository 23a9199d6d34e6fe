"""How an event stands on the wire: its bytes, its identity, the stream whose order it keeps.

Source: CloudEvents 1.0.2, JSON event format, structured content mode.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Final

from streamguard.delivery.events import Event

CONTENT_TYPE: Final = "application/cloudevents+json"


def structured(event: Event) -> bytes:
    """The whole event as one JSON object, UTF-8, on one line.

    >>> structured({"id": "a/0", "data": {"stream": "Tür"}}).decode()
    '{"id":"a/0","data":{"stream":"Tür"}}'
    """
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def identity(event: Event) -> str:
    """What tells two events apart wherever they come from. The id alone does not: two streams of one machine may
    come up in the same millisecond. ASCII, without blanks.

    >>> identity({"source": "/streamguard/studio/door", "id": "r1.4/0"})
    '/streamguard/studio/door/r1.4/0'
    """
    return f"{event['source']}/{event['id']}"


def stream_of(event: Event) -> str:
    """The stream that the event speaks of."""
    return str(event["data"]["stream"])


class Handed:
    """What the far side has acknowledged of a batch that then failed: it is not handed over a second time.

    Holds no more than one batch.

    >>> batch = [{"source": "/streamguard/a/b", "id": str(n)} for n in range(3)]
    >>> handed = Handed()
    >>> handed.add(batch[0])
    >>> [place for place, event in handed.rest(batch)]
    [1, 2]
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def rest(self, events: Sequence[Event]) -> Iterator[tuple[int, Event]]:
        """What is still to be handed over, with its place in the batch; when all of it is, the batch is forgotten."""
        self._taken &= {identity(event) for event in events}
        for place, event in enumerate(events):
            if identity(event) not in self._taken:
                yield place, event
        self._taken.clear()

    def add(self, event: Event) -> None:
        """The far side has this one."""
        self._taken.add(identity(event))
