"""What a release leaves on a box: `python -m tests.upgrade.make FOLDER`, run once a release, kept below tests/upgrade.

A configuration that uses every part of the file, and an outbox with all that it can hold: events that a sink has not,
a segment that a crash left open, a dead letter. tests/test_upgrade.py starts each later release with them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from prometheus_client import CollectorRegistry

from streamguard.delivery.outbox import Outbox
from streamguard.delivery.vault import Lock, open_store
from streamguard.metrics import Metrics
from tests.delivery.making import MEBIBYTE, Made

SINK = "archive"


def make_outbox(path: Path) -> dict[str, list[str]]:
    """Fill an outbox as a run does that is killed. What is in it: ids by what has to become of them."""
    lock = Lock(path)
    outbox = Outbox(open_store(path, MEBIBYTE), Metrics(CollectorRegistry()), clock=lambda: 1000.0)
    made = Made()
    outbox.register([SINK])
    delivered, refused = made.up("door"), made.up("yard")
    for event in (delivered, refused):
        outbox.append(event)
    row, bad = outbox.pending(SINK, 2)
    outbox.acknowledge(SINK, row.sequence)
    outbox.bury(SINK, bad, "the sink did not want it")
    pending = [
        made.up("hall"),
        made.segment("opened", 1),
        made.segment("updated", 1, pts=15.0),
        made.segment("closed", 1, pts=16.0),
        made.segment("opened", 2, "yard"),
        made.segment("updated", 2, "yard", pts=17.25),
    ]
    for event in pending:
        outbox.append(event)
    outbox.close()
    lock.release()
    path.with_name(path.name + ".lock").unlink()
    return {
        "delivered": [delivered["id"]],
        "dead": [refused["id"]],
        "pending": [event["id"] for event in pending],
        "open": [pending[-1]["data"]["segment_id"]],
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    expected = make_outbox(folder / "outbox.db")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
