"""``streamguard lab``: its verbs, each imported only when it is asked for, with all that it needs.

A verb is a function whose annotations typer can read; it stands in a module of its own and in :data:`VERBS`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

import typer
from typer.main import get_command

from streamguard.errors import UsageError

VERBS: Final = {
    "detector": ("streamguard.lab.detector:detector", "Train the face detector, export and measure it."),
    "agreement": ("streamguard.lab.agreement:agreement", "Measure it against boxes on which two others agree."),
    "faces": ("streamguard.lab.faces:faces", "Cut faces out of real and forged video."),
    "split": ("streamguard.lab.split:split", "Cut a face file into parts that share nothing."),
    "audit": ("streamguard.lab.audit:audit", "Check a split for neighbours, and its faces for shortcuts."),
    "forge": ("streamguard.lab.forge.verb:forge", "Forge pairs of every family, to look at and to measure."),
    "train": ("streamguard.lab.train:train", "Train the base classifier."),
    "evaluate": ("streamguard.lab.evaluate:evaluate", "Measure an engine or a run on held-out faces and streams."),
    "unseen": ("streamguard.lab.unseen:unseen", "Leave out forgeries and sources in turn; measure what was left out."),
    "search": ("streamguard.lab.search.verb:search", "Search a space of nets, within limits of time and size."),
    "choose": ("streamguard.lab.search.choose:choose", "Say whether a searched engine replaces the default."),
    "replicate": ("streamguard.lab.replicate.verb:replicate", "Measure the paper's table again, without its leaks."),
    "document": ("streamguard.lab.document:document", "Write the figures of run folders into docs/models.md."),
    "export": ("streamguard.lab.engine:make_engine", "Make an engine folder of a trained classifier."),
}
"""Name: where the function is, and one line of help."""


def run(args: Sequence[str]) -> int:
    """Run ``streamguard lab ARGS``; returns the exit code.

    Raises:
        UsageError: the extra 'lab' is not installed.
    """
    # A training runs for hours: its progress is no detail.
    logging.getLogger("streamguard.lab").setLevel(logging.INFO)
    code = get_command(_app()).main(args=list(args), prog_name="streamguard lab", standalone_mode=False)
    return code if isinstance(code, int) else 0


def _app() -> typer.Typer:
    app = typer.Typer(help="How the models are made.", no_args_is_help=True, add_completion=False)
    for name, (_, text) in VERBS.items():
        _add(app, name, text)

    @app.callback()
    def _several() -> None:
        """Keep the verbs' names even if there is but one."""

    return app


def _add(app: typer.Typer, name: str, text: str) -> None:
    """A place holder that hands its arguments on to the real verb."""
    settings = {"ignore_unknown_options": True, "allow_extra_args": True}

    @app.command(name, help=text, add_help_option=False, context_settings=settings)
    def hand_on(ctx: typer.Context) -> None:
        verb = typer.Typer(add_completion=False)
        verb.command(name)(_load(name))
        code = get_command(verb).main(args=ctx.args, prog_name=ctx.command_path, standalone_mode=False)
        raise typer.Exit(code if isinstance(code, int) else 0)


def _load(name: str) -> Callable[..., None]:
    module, _, function = VERBS[name][0].partition(":")
    try:
        verb: Callable[..., None] = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "streamguard":
            raise
        raise UsageError(
            f"'lab {name}' needs {error.name}, which is not installed: pip install 'streamguard[lab]'"
        ) from error
    return verb
