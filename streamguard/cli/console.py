"""What people read: standard output for results, standard error for everything beside them."""

from __future__ import annotations

import os
import sys
from typing import Final, NoReturn

from rich.console import Console
from rich.text import Text

from streamguard.delivery.sinks import SinkClosed
from streamguard.errors import redact

WIDE: Final = 240
"""Width for tables: a narrow terminal wraps a row itself, and nothing is ever cut off."""


class _Output(Console):
    """A console whose reader may go away: that is an event like any other, not the end of a thread."""

    def on_broken_pipe(self) -> NoReturn:
        self.quiet = True
        silence_stdout()
        raise SinkClosed("Nobody reads the output any more.")


def output(*, stderr: bool = False, width: int | None = None) -> Console:
    """Standard output (or error), whole lines, colours on a terminal alone; ``width`` in characters, for tables."""
    return _Output(stderr=stderr, highlight=False, soft_wrap=True, width=width)


def complain(message: str) -> None:
    """One problem, on standard error."""
    text = Text.assemble(("error: ", "bold red"), redact(message))
    output(stderr=True).print(text)


def silence_stdout() -> None:
    """After its reader has gone: whatever is still buffered goes nowhere, without a complaint at exit."""
    try:
        descriptor = sys.stdout.fileno()
    except OSError:  # standard output is not a file of the system, so nothing is left to go wrong
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)
