"""The outbox keeps events until every sink has them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OutboxSettings:
    """``path``: the file; None leaves it to :func:`streamguard.config.outbox_path`. ``max_bytes``: its size at most.
    ``max_age``: seconds, while StreamGuard runs, after which an event that a sink did not take is a dead letter."""

    path: str | None = None
    max_bytes: int = 268_435_456
    max_age: float = 604_800.0

    def __post_init__(self) -> None:
        if self.max_bytes < 1_048_576:
            raise ValueError(f"max_bytes is {self.max_bytes}; expected 1048576 or more")
        if not self.max_age > 0:
            raise ValueError(f"max_age is {self.max_age}; expected more than 0 seconds")
