"""``streamguard fleet``: the head of many machines; it ends when it is told to, and the nodes wait for the next one."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streamguard.cli import console
from streamguard.cli.reload import reloaded_by_signal, source_of
from streamguard.cli.systemd import Notifier
from streamguard.cli.watch import ListenOption, address_of, stopped_by_signals

if TYPE_CHECKING:
    from streamguard.config import Config
    from streamguard.fleet.run import FleetRun
    from streamguard.metrics import Metrics
    from streamguard.server.app import Server


def fleet(
    config: Annotated[Path, typer.Option(help="streamguard.yaml: the streams of all machines, and `fleet:`.")],
    listen: ListenOption = None,
) -> None:
    """Share the streams of a configuration out over the machines of a Ray cluster, until told to end."""
    from streamguard.config import load_config, service_manager
    from streamguard.fleet.cluster import Cluster
    from streamguard.fleet.compatible import check_fleet
    from streamguard.fleet.run import FleetRun
    from streamguard.metrics import Metrics

    settings = load_config(config)
    check_fleet(settings)
    for stream in settings.streams:
        source_of(stream)
    metrics, human = Metrics(), console.output()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster(settings.fleet.address))
        run = FleetRun(settings, cluster, metrics, config)
        server = _server(settings, metrics, run, listen)
        if server is not None:
            stack.enter_context(server)
            human.print(
                f"Metrics, health and the fleet: {server.url}/metrics /livez /readyz /api/v1/fleet", style="dim"
            )
        stack.enter_context(stopped_by_signals(run.stop))
        stack.enter_context(reloaded_by_signal(run.reload, *([server.reload] if server else [])))
        stack.enter_context(Notifier(service_manager(), list)).ready()
        run.run()
        human.print(f"The nodes go on for {settings.fleet.lease:g} s; another head may take over.", style="dim")


def _server(settings: Config, metrics: Metrics, run: FleetRun, listen: str | None) -> Server | None:
    from streamguard.server.app import Address, Health, Server
    from streamguard.server.fleet import FleetView

    address = address_of(settings, listen)
    if address is None:
        return None

    def starting() -> list[str]:
        return [] if run.ready else ["the nodes have not all answered"]

    health = Health(alive=list, ready=starting, started=starting)
    return Server(metrics, health, Address(*address), settings.api, FleetView(run.state))
