"""What a kill left of an outbox, and of the archive that it delivered to."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from streamguard.delivery.events import Event


def sound(folder: Path) -> str:
    """What SQLite says of a copy of `outbox.db`, its log included: the original is left as the kill left it."""
    with tempfile.TemporaryDirectory() as other:
        for part in folder.glob("outbox.db*"):
            if not part.name.endswith("-shm"):
                shutil.copy(part, other)
        with closing(sqlite3.connect(Path(other, "outbox.db"))) as copy:
            return str(copy.execute("PRAGMA integrity_check").fetchone()[0])


def archived(path: Path) -> list[Event]:
    """The archive; a line that a kill has cut short is no event, and comes again as a whole one."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events
