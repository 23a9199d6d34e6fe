"""The writer's thread: commits as events come, and says when it does not."""

from __future__ import annotations

import threading
from pathlib import Path

from streamguard.delivery.outbox import Outbox
from streamguard.delivery.store import Store, Work
from streamguard.delivery.vault import open_store
from streamguard.delivery.writer import OutboxWriter
from tests.delivery.making import MEBIBYTE, Made, fresh_metrics, stored, until


def test_it_commits_what_comes_and_tells(tmp_path: Path) -> None:
    outbox, made, told = stored(tmp_path / "o.db"), Made(), threading.Semaphore(0)
    outbox.register(["a"])
    with OutboxWriter(outbox, told.release) as writer:
        for count in range(1, 4):
            outbox.take(made.up())
            assert told.acquire(timeout=60)
            assert len(outbox.pending("a", 10)) == count
        assert writer.stuck_for() < 30
    outbox.close()


def test_what_gathers_during_a_commit_goes_together(tmp_path: Path) -> None:
    free, busy, sizes = threading.Event(), threading.Event(), []

    class Slow(Store):
        def commit(self, work: Work) -> list[int]:
            sizes.append(len(work.rows))
            busy.set()
            free.wait(60)
            return super().commit(work)

    open_store(tmp_path / "o.db", MEBIBYTE).close()
    outbox, made = Outbox(Slow(tmp_path / "o.db", MEBIBYTE), fresh_metrics()), Made()
    outbox.register(["a"])
    with OutboxWriter(outbox, lambda: None) as writer:
        outbox.take(made.up())
        assert busy.wait(60)
        for _ in range(20):
            outbox.take(made.up())
        until(lambda: writer.stuck_for() > 0.2)
        free.set()
        until(lambda: len(outbox.pending("a", 100)) == 21)
        assert sizes[:2] == [1, 20]
        until(lambda: writer.stuck_for() == 0.0)
    outbox.close()


def test_acknowledgements_are_written_though_no_event_comes(tmp_path: Path) -> None:
    outbox, made = stored(tmp_path / "o.db"), Made()
    outbox.register(["a"])
    with OutboxWriter(outbox, lambda: None):
        outbox.take(made.up())
        until(lambda: len(outbox.pending("a", 1)) == 1)
        outbox.acknowledge("a", 1)
        until(lambda: outbox.pending("a", 1) == [] and outbox._store is not None and outbox._store.count(0) == 0)
    outbox.close()
