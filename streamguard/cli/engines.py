"""``streamguard engines``: which models there are, whether their files are sound, and what suits this machine."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from streamguard.cli import console
from streamguard.errors import EngineError, EngineMissing

app = typer.Typer(help="The models that judge.", no_args_is_help=True)


@app.command("list")
def list_engines() -> None:
    """The engines that ship with this installation."""
    from streamguard.inference.engines import engine_folders, load_engine

    table = Table(box=None, pad_edge=False)
    for column in ("name", "version", "task", "input", "variants", "sha256", "licence"):
        table.add_column(column, no_wrap=True)
    failed = False
    for folder in engine_folders():
        try:
            engine = load_engine(folder)
        except EngineError as error:
            console.complain(str(error))
            failed = True
            continue
        size, licence = f"{engine.input.width}x{engine.input.height}", str(engine.manifest.get("license", ""))
        variants = ", ".join(engine.variants)
        table.add_row(engine.name, engine.version, engine.task, size, variants, engine.sha256[:12], licence)
    console.output(width=console.WIDE).print(table, crop=False)
    raise typer.Exit(EngineError.exit_code if failed else 0)


@app.command("verify")
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ENGINE]...", help="Names or folders; all that ship, if none.")
    ] = None,
) -> None:
    """Read every file of the engines and hold its SHA-256 against the manifest's."""
    from streamguard.inference.engines import engine_folders, load_engine

    out = console.output()
    wanted = names or [str(folder) for folder in engine_folders()]
    if not wanted:
        raise EngineMissing("No engine ships with this installation. Reinstall StreamGuard, or name a folder.")
    failed = False
    for name in wanted:
        try:
            engine = load_engine(name)
            for variant in engine.variants:
                engine.model(variant)
                out.print(
                    Text.assemble(("ok  ", "green"), f"{engine.name} {variant} {engine.variants[variant].sha256}")
                )
        except EngineError as error:
            console.complain(str(error))
            failed = True
    raise typer.Exit(EngineError.exit_code if failed else 0)


@app.command("build")
def build(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[ENGINE]...", help="Names or folders; all that ship, if none.")
    ] = None,
    backend: Annotated[str, typer.Option(help="openvino, onnxruntime, tensorrt or tensorrt-rtx.")] = "openvino",
    as_json: Annotated[bool, typer.Option("--json", help="The measurements as one JSON object.")] = False,
) -> None:
    """Measure the engines in every precision on this machine, and keep which one `variant: auto` takes.

    For TensorRT this builds the plans, which a start would otherwise build. Half a minute an engine on a CPU.
    """
    from streamguard.inference.engines import engine_folders, load_engine
    from streamguard.inference.tuning import Tuned, tune

    out, beside = console.output(), console.output(stderr=True)
    tuned: list[Tuned] = []
    for name in names or [str(folder) for folder in engine_folders()]:
        engine = load_engine(name)
        with beside.status(engine.name) as status:
            tuned.append(tune(engine, backend, status.update))
        if not as_json:
            out.print(Text(tuned[-1].line))
    if not tuned:
        raise EngineMissing("No engine ships with this installation. Reinstall StreamGuard, or name a folder.")
    if as_json:
        out.print(Text(json.dumps({"engines": [found.to_json() for found in tuned]}, ensure_ascii=False)))
