"""``streamguard watch`` and ``streamguard demo``: sources in, events out, until all have ended."""

from __future__ import annotations

import enum
import json
import math
import re
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console

from streamguard.cli import console
from streamguard.cli.deliver import EVENTS, consumers, purpose
from streamguard.cli.lines import clock
from streamguard.cli.logs import leave_inputs_to_the_verb
from streamguard.cli.reload import Reloader, reloaded_by_signal, source_of
from streamguard.cli.systemd import Notifier
from streamguard.errors import UsageError

if TYPE_CHECKING:
    from streamguard.config import Config
    from streamguard.delivery.events import Event
    from streamguard.delivery.post import Post
    from streamguard.ingest.source import Source
    from streamguard.metrics import Metrics
    from streamguard.pipeline import Guard
    from streamguard.server.api import Api
    from streamguard.server.app import Server
    from streamguard.server.whip import Calls


class Transport(enum.StrEnum):
    """How RTSP media travel."""

    TCP = "tcp"
    UDP = "udp"


def _finite(seconds: float | None) -> float | None:
    if seconds is not None and not math.isfinite(seconds):
        raise typer.BadParameter(f"{seconds} is no number of seconds.")
    return seconds


EventsOption = Annotated[
    str | None, typer.Option("--events", metavar="FILE", help="Append events as JSON Lines; '-' is standard output.")
]
ListenOption = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="Where health and metrics are served; 'none' serves nothing."),
]
EvidenceOption = Annotated[
    Path | None,
    typer.Option("--evidence", metavar="DIR", help="Keep clip, still and scores of every segment in this folder."),
]
DurationOption = Annotated[
    float | None,
    typer.Option("--duration", min=0.04, metavar="SECONDS", callback=_finite, help="Stop after this."),
]

PublishOption = Annotated[
    str | None,
    typer.Option(
        "--publish",
        metavar="URL",
        help="Publish the picture, with what is drawn on it, to an RTSP server; {stream} stands for a stream's name.",
    ),
]
TransportOption = Annotated[
    Transport, typer.Option("--transport", help="How the media of rtsp:// sources on the command line travel.")
]

# One whose forgery the shipped engine finds; benchmarks/demo_seeds.py counts those it does not.
SEED: Final = 6
_STDOUT: Final = "-"
_NOWHERE: Final = "none"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")


def watch(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="SOURCE...", help="Files, URIs of streams, or demo: for the made stream."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="streamguard.yaml; its streams are watched without a SOURCE.")
    ] = None,
    events: EventsOption = None,
    listen: ListenOption = None,
    duration: DurationOption = None,
    transport: TransportOption = Transport.TCP,
    evidence: EvidenceOption = None,
    publish: PublishOption = None,
) -> None:
    """Watch sources: say for each face when it shows signs of manipulation."""
    from streamguard.config import load_config

    settings = _keeping(load_config(config), evidence)
    found = _named(sources, transport) if sources else [source_of(stream) for stream in settings.streams]
    if not found:
        raise UsageError("There is nothing to watch. Name a SOURCE, or a --config with streams.")
    published = {source.name: _published(publish, source.name, len(found)) for source in found} if publish else {}
    human, where = _human(events or settings.events), events or settings.events
    whole = run(settings, found, where, listen, duration, human, None if sources else config, publish=published)
    raise typer.Exit(0 if whole else 1)


def demo(
    seed: Annotated[int, typer.Option(min=0, help="Of the camera's path and the forgery.")] = SEED,
    duration: Annotated[
        float, typer.Option(min=0.04, metavar="SECONDS", callback=_finite, help="Cuts or repeats the minute.")
    ] = 60.0,
    events: EventsOption = None,
    truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write which passages are forged, as JSON.")
    ] = None,
    listen: ListenOption = None,
    evidence: EvidenceOption = None,
) -> None:
    """The main job on a made stream: a photograph, filmed by hand, whose face is forged for eight seconds."""
    from streamguard.config import load_config
    from streamguard.ingest.demo import truth as passages

    settings = _keeping(load_config(), evidence)
    made = passages(seed, duration)
    if truth is not None:
        _write(truth, json.dumps(made, indent=1) + "\n")
    human = _human(events or settings.events)
    forged = ", ".join(f"{clock(p['start'])} - {clock(p['end'])}" for p in made if p["forged"])
    human.print(
        f"A made stream of {duration:g} s, seed {seed}. Its face is forged: {forged or 'nowhere'}.", style="dim"
    )
    source = _named([f"demo:?seed={seed}&duration={duration:g}"])
    whole = run(settings, source, events or settings.events, listen, None, human)
    raise typer.Exit(0 if whole else 1)


def _keeping(settings: Config, evidence: Path | None) -> Config:
    """The settings with the folder that the command line names, if it does."""
    if evidence is None:
        return settings
    return settings.model_copy(update={"evidence": replace(settings.evidence, folder=str(evidence))})


def _published(url: str, name: str, streams: int) -> str:
    """Where a stream is published to."""
    from streamguard.delivery.publish import STREAM, publish_url

    if streams > 1 and STREAM not in url:
        raise UsageError(f"--publish '{url}' is one address for {streams} streams. Put {STREAM} where their names go.")
    return publish_url(url, name)


def _named(uris: Sequence[str], transport: Transport = Transport.TCP) -> list[Source]:
    """Sources with names that can stand in a label, no two alike."""
    from streamguard.ingest.source import SourceOptions, open_source

    options = SourceOptions(transport=transport.value)
    taken: set[str] = set()
    sources = []
    for uri in uris:
        base = _UNSAFE.sub("-", open_source(uri).name).lstrip(".")[:56] or "stream"
        name, count = base, 1
        while name in taken:
            count += 1
            name = f"{base}-{count}"
        taken.add(name)
        sources.append(open_source(uri, name=name, options=options))
    return sources


def _human(events: str | None) -> Console:
    """Where people read: beside the events if those take standard output."""
    return console.output(stderr=events == _STDOUT)


def run(
    settings: Config,
    sources: Sequence[Source],
    events: str | None,
    listen: str | None,
    duration: float | None,
    human: Console,
    reload: Path | None = None,
    *,
    stay: bool = False,
    publish: Mapping[str, str] | None = None,
) -> bool:
    """Assemble what a run needs, run it, take it down in the order that loses nothing. Whether nothing failed.

    ``reload``: the file to read again on SIGHUP; ``stay``: streams may come later, by the API. ``publish``: where to,
    by stream, rather than what the file says.
    """
    from streamguard.config import outbox_path, service_manager
    from streamguard.delivery.post import posting
    from streamguard.metrics import Metrics
    from streamguard.pipeline import Guard

    leave_inputs_to_the_verb()
    metrics, guarded = Metrics(), _Guarded()
    address = address_of(settings, listen)
    api = None if address is None else guarded.api(settings)
    with ExitStack() as stack:
        server = stack.enter_context(_server(settings, metrics, guarded, address, api))
        waiting = outbox_path(settings)
        readers = consumers(settings, events, human)
        closed = partial(_closed, purpose(settings, events), events, guarded.stop)
        post = guarded.post = stack.enter_context(posting(waiting, settings.outbox, readers, metrics, closed))
        take = post.take if api is None else _both(post.take, api.take)
        guard = guarded.guard = Guard(settings, metrics=metrics, on_event=take)
        stack.enter_context(stopped_by_signals(guarded.stop))
        actions = [] if reload is None else [Reloader(reload, settings, guard)]
        stack.enter_context(reloaded_by_signal(*actions, *([server.reload] if server else [])))
        if server is not None:
            human.print(f"Metrics and health: {server.url}/metrics /livez /readyz /startupz", style="dim")
        if waiting is not None:
            human.print(f"Events wait in {waiting} until every sink has them.", style="dim")
        published = {stream.name: stream.publish for stream in settings.streams if reload} | dict(publish or {})
        for source in sources:
            guard.add(source)
            if (url := published.get(source.name)) is not None:
                guard.publish(source.name, url)
        stack.enter_context(Notifier(service_manager(), guarded.alive)).ready()
        report = guard.run(duration, stay=stay)
    return not report.failures and post.lost == 0


def _closed(main: str | None, events: str | None, stop: Callable[[], None], name: str) -> None:
    """A sink has no reader any more: without one of the main sink, a run has no purpose."""
    if name == EVENTS and events == _STDOUT:
        console.silence_stdout()
    if name == main:
        stop()


class _Guarded:
    """The Guard, once there is one: the server answers before the engines are compiled."""

    def __init__(self) -> None:
        self.guard: Guard | None = None
        self.post: Post | None = None

    def api(self, settings: Config) -> Api:
        from streamguard.server.api import Api
        from streamguard.server.evidence import EvidenceFolder

        kept = settings.evidence.folder
        return Api(settings.api, lambda: self.guard, None if kept is None else EvidenceFolder(kept))

    def calls(self, settings: Config, api: Api, metrics: Metrics) -> Calls:
        from streamguard.config import ice_credential
        from streamguard.server.webrtc import Ice
        from streamguard.server.whip import Calls

        servers = [Ice(s.urls, s.username, ice_credential(s)) for s in settings.webrtc.ice_servers]
        return Calls(settings.webrtc, servers, api, lambda: self.guard, metrics)

    def stop(self) -> None:
        if self.guard is not None:
            self.guard.stop()

    def alive(self) -> list[str]:
        reasons = [] if self.post is None else self.post.stuck()
        if self.guard is not None and not self.guard.alive:
            reasons.append("the inference thread does not turn")
        return reasons

    def ready(self) -> list[str]:
        return [] if self.guard is not None and self.guard.ready else ["engines are not loaded"]


def _both(first: Callable[[Event], None], second: Callable[[Event], None]) -> Callable[[Event], None]:
    def take(event: Event) -> None:
        first(event)
        second(event)

    return take


def _server(
    settings: Config, metrics: Metrics, guarded: _Guarded, address: tuple[str, int] | None, api: Api | None
) -> Server | nullcontext[None]:
    """The HTTP face, or nothing in its place."""
    if address is None:
        return nullcontext()
    from streamguard.server.app import Address, Health, Server

    health = Health(alive=guarded.alive, ready=guarded.ready, started=guarded.ready)
    calls = None if api is None else guarded.calls(settings, api, metrics)
    return Server(metrics, health, Address(*address), settings.api, api, calls)


def address_of(settings: Config, listen: str | None) -> tuple[str, int] | None:
    """Where to listen: what the command line says, else the configuration; None: nowhere.

    Raises:
        UsageError: it is no HOST:PORT.
    """
    from streamguard.config import parse_listen

    text = settings.listen if listen is None else listen
    if text is None or text == _NOWHERE:
        return None
    try:
        return parse_listen(text)
    except ValueError as error:
        raise UsageError(f"--listen '{text}': {error}, or none.") from error


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the run as a duration would, every segment closed. A second Ctrl-C breaks it off."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        # In a thread: what the main thread holds at this moment, a handler may not wait for.
        threading.Thread(target=stop, name="stop").start()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"'{path}' can't be written: {error.strerror}. Name a file in an existing folder.") from error
