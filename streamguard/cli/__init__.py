"""The ``streamguard`` command. One verb a module; what is heavy is imported inside the verb that needs it.

Exit codes: 0 done; 1 some input failed and is named, the rest went on; 2 wrong use, nothing was started.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from streamguard import __version__
from streamguard.cli import bench, config, console, engines, evidence, fleet, outbox, replay, scan, serve, tokens, watch
from streamguard.cli.logs import LogFormat, LogLevel, set_up
from streamguard.errors import StreamGuardError
from streamguard.heap import keep_large_pieces_apart


class _Verbs(TyperGroup):
    """Turns the project's own errors into a line and their exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except StreamGuardError as error:
            console.complain(str(error))
            raise typer.Exit(error.exit_code) from error


app = typer.Typer(
    name="streamguard",
    cls=_Verbs,
    help="The open deepfake guard for live video: flags faces that show signs of manipulation.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="rich",
)


def _version(wanted: bool) -> None:
    if wanted:
        console.output().print(f"streamguard {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    log_format: Annotated[LogFormat, typer.Option(help="How log lines on standard error look.")] = LogFormat.TEXT,
    log_level: Annotated[LogLevel, typer.Option(help="From which severity on things are logged.")] = LogLevel.WARNING,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    keep_large_pieces_apart()
    set_up(log_format, log_level)


app.command("watch")(watch.watch)
app.command("scan")(scan.scan)
app.command("demo")(watch.demo)
app.command("serve")(serve.serve)
app.command("fleet")(fleet.fleet)
app.add_typer(tokens.app, name="tokens")
app.add_typer(engines.app, name="engines")
app.command("bench")(bench.bench)
app.add_typer(config.app, name="config")
app.add_typer(evidence.app, name="evidence")
app.command("replay")(replay.replay)
app.add_typer(outbox.app, name="outbox")


@app.command(
    "lab",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
)
def _lab(ctx: typer.Context) -> None:
    """How the models are made: data, training, export (needs the extra 'lab')."""
    from streamguard.lab.cli import run

    raise typer.Exit(run(ctx.args))


def main() -> None:
    """Entry point of the console script."""
    app()
