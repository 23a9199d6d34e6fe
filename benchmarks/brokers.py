"""Does every event arrive when a broker is cut off for a minute?

    python benchmarks/brokers.py [--seconds 60] [--rate 50] [--fault cut|silent|kill] [--brokers NAME,NAME] [--json]

Events go through the real outbox and dispatcher to a webhook's receiver and to each broker of tests/brokers.py, all
sinks of one outbox, each behind a TCP proxy of its own. After a while the line of every sink is cut (connections are
reset, new ones refused), or goes silent (connections are taken, nothing passes), or the server is killed with SIGKILL
and started again. What each far side has in the end is read back by other code than the sink's.

``lost``: events that were never acknowledged, and did not come in ten minutes. ``lost_after_ack``: events that the
broker had acknowledged and does not have. ``doubles``: events that are there more than once, with the same identity.
``disorder``: events whose first copy stands out of the order of their stream. ``recovered_s``: from the end of the
fault until no more than a second's events waited.

Exits 1 if an event is lost before its acknowledgement, or is out of order; with a cut or silent line, if any is lost.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from streamguard.bench import machine
from streamguard.delivery.dispatch import Consumer
from streamguard.delivery.outbox import OutboxSettings
from streamguard.delivery.post import Post, posting
from streamguard.metrics import Metrics
from tests.brokers import Broker
from tests.delivery.sinks.made import by_stream, made_events, names
from tests.delivery.sinks.rigs import RIGS, Rig, Seen
from tests.servers.proxy import Proxy

MARK = "benchmark"
STREAMS = ("door", "gate", "studio.1", "studio.2")
DRAIN = 600.0
"""Seconds after the fault within which everything has to have arrived: the back-off alone may take one minute."""
RECENT = 50


@dataclass(frozen=True)
class Plan:
    """Seconds before, during and after the fault; events a second."""

    before: float
    fault: float
    after: float
    rate: float
    kind: str

    @property
    def events(self) -> int:
        return round((self.before + self.fault + self.after) * self.rate)


@dataclass(frozen=True)
class BrokerResult:
    """What became of the events on their way to one far side."""

    broker: str
    sent: int
    arrived: int
    lost: int
    lost_after_ack: int
    doubles: int
    disorder: int
    recovered_s: float

    def passed(self, kind: str) -> bool:
        """Nothing was lost that StreamGuard answers for, and the order held."""
        return self.lost == 0 and self.disorder == 0 and (kind == "kill" or self.lost_after_ack == 0)


@dataclass
class Site:
    """A far side, the proxy in front of it, and the reader of what it got."""

    name: str
    rig: Rig
    broker: Broker
    proxy: Proxy
    seen: Seen

    def fail(self, kind: str) -> None:
        if kind == "kill":
            self.broker.stop(signal.SIGKILL)
        else:
            (self.proxy.cut if kind == "cut" else self.proxy.silence)()

    def heal(self, kind: str) -> None:
        if kind == "kill":
            self.broker.start()
        self.proxy.open()


async def drive(plan: Plan, chosen: Sequence[str]) -> list[BrokerResult]:
    """Run the plan against all chosen far sides at once."""
    events = made_events(plan.events, STREAMS)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="brokers-")))
        sites = [await _site(name, folder, stack) for name in chosen]
        consumers = [Consumer(site.rig.sink(site.proxy.port, MARK, name=site.name)) for site in sites]
        post = stack.enter_context(
            posting(folder / "outbox.db", OutboxSettings(), consumers, Metrics(), on_closed=print)
        )
        sending = asyncio.create_task(_send(post, events, plan.rate))
        await asyncio.sleep(plan.before)
        await asyncio.gather(*(asyncio.to_thread(site.fail, plan.kind) for site in sites))
        await asyncio.sleep(plan.fault)
        await asyncio.gather(*(asyncio.to_thread(site.heal, plan.kind) for site in sites))
        healed = time.monotonic()
        caught_up = await asyncio.gather(*(_caught_up(post, site.name, sending) for site in sites))
        await sending
        results = []
        for site, at in zip(sites, caught_up, strict=True):
            found = await _read(site.seen, len(events))
            results.append(_judged(site.name, names(events), found, post.outbox.behind(site.name), at - healed))
        return results


async def _site(name: str, folder: Path, stack: AsyncExitStack) -> Site:
    rig = RIGS[name](folder / name)
    broker = stack.enter_context(rig.broker())
    proxy = stack.enter_context(rig.proxy(broker))
    return Site(name, rig, broker, proxy, await stack.enter_async_context(rig.reading(broker.port, MARK)))


async def _send(post: Post, events: Sequence[dict[str, object]], rate: float) -> None:
    begun = time.monotonic()
    for number, event in enumerate(events):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        post.take(event)


async def _caught_up(post: Post, sink: str, sending: asyncio.Task[None]) -> float:
    """When nothing waited for the sink any more but what had only just been made."""
    give_up = time.monotonic() + DRAIN
    caught: float | None = None
    while not (sending.done() and post.outbox.behind(sink) == 0) and time.monotonic() < give_up:
        if caught is None and post.outbox.behind(sink) < RECENT:
            caught = time.monotonic()
        await asyncio.sleep(0.1)
    return time.monotonic() if caught is None else caught


async def _read(seen: Seen, sent: int) -> list[str]:
    """All that the far side has; a subscriber may get the last of it a little later."""
    found = await seen()
    for _ in range(50):
        if len(set(found)) >= sent:
            break
        await asyncio.sleep(0.1)
        found = await seen()
    return found


def _judged(broker: str, sent: list[str], found: list[str], waiting: int, recovered: float) -> BrokerResult:
    there = set(found)
    missing = [name for name in sent if name not in there]
    disorder = 0
    for stream, arrived in by_stream(found).items():
        due = [name for name in by_stream(sent)[stream] if name in there]
        disorder += sum(one != other for one, other in zip(due, arrived, strict=True))
    return BrokerResult(
        broker=broker,
        sent=len(sent),
        arrived=len(there),
        lost=min(waiting, len(missing)),
        lost_after_ack=max(0, len(missing) - waiting),
        doubles=len(found) - len(there),
        disorder=disorder,
        recovered_s=round(max(0.0, recovered), 1),
    )


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the fault lasts")
    parser.add_argument("--before", type=float, default=10.0)
    parser.add_argument("--after", type=float, default=20.0)
    parser.add_argument("--rate", type=float, default=50.0, help="events a second, over four streams")
    parser.add_argument("--fault", choices=["cut", "silent", "kill"], default="cut")
    parser.add_argument("--brokers", default=",".join(RIGS))
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    chosen = options.brokers.split(",")
    if options.fault == "kill":  # librdkafka's cluster listens on another port after each start
        chosen = [name for name in chosen if name != "kafka"]
    logging.getLogger("streamguard").setLevel(logging.CRITICAL)  # that sinks are away is the purpose
    plan = Plan(options.before, options.seconds, options.after, options.rate, options.fault)
    results = asyncio.run(drive(plan, chosen))
    if options.json:
        told = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "plan": asdict(plan)}
        print(json.dumps(told | {"brokers": [asdict(result) for result in results]}))
    else:
        print(f"{plan.kind}, {plan.fault:g} s, {plan.rate:g} events/s")
        columns = ("broker", "sent", "arrived", "lost", "lost_after_ack", "doubles", "disorder", "recovered_s")
        print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
        for result in results:
            print("| " + " | ".join(str(getattr(result, column)) for column in columns) + " |")
    return 0 if all(result.passed(plan.kind) for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
