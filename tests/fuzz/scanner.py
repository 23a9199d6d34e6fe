"""The child of tests/fuzz/media.py: one Guard, a path a line in, a verdict a line out; what nobody foresaw ends it."""

from __future__ import annotations

import json
import sys
from queue import SimpleQueue

from streamguard.config import Config
from streamguard.ingest.source import open_source
from streamguard.pipeline import Guard, StreamReport


def main() -> None:
    reports: SimpleQueue[StreamReport] = SimpleQueue()
    with Guard(Config(), on_end=reports.put) as guard:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for number, line in enumerate(sys.stdin):
            guard.add(open_source(line.rstrip("\n"), name=str(number)))
            report = reports.get()
            if report.error == "the reader failed" or not guard.alive:
                sys.exit(3)  # an exception that nobody foresaw
            sys.stdout.write(json.dumps({"error": report.error, "frames": report.frames}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
