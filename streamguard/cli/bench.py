"""``streamguard bench``: speed on this machine, held against its own limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from streamguard.cli import console


def bench(
    as_json: Annotated[bool, typer.Option("--json", help="The report as one JSON object.")] = False,
    config: Annotated[Path | None, typer.Option(help="streamguard.yaml.")] = None,
    backend: Annotated[
        str | None, typer.Option(metavar="NAME", help="For both models: openvino, onnxruntime, tensorrt ...")
    ] = None,
) -> None:
    """Measure decoder, models and the whole chain on this machine. Takes a few minutes."""
    from streamguard.bench import on_backend, run_bench
    from streamguard.config import load_config

    settings = load_config(config)
    if backend is not None:
        settings = on_backend(settings, backend)
    out, beside = console.output(), console.output(stderr=True)
    with beside.status("starting") as status:
        report = run_bench(settings, lambda text: status.update(text))
    if as_json:
        out.print(Text(json.dumps(report, ensure_ascii=False)))
    else:
        tell(out, report)


def tell(out: Console, report: Mapping[str, Any]) -> None:
    """The report of :func:`~streamguard.bench.run_bench` for people."""
    out.print(Text(f"{report['machine']}, {report['date']}"))
    out.print(f"decoder alone     {report['decode_fps']:.0f} frames a second on one core")
    for what in ("detector", "classifier"):
        times = ", ".join(f"{variant} {ms:.2f}" for variant, ms in report[f"{what}_ms"].items())
        out.print(f"{what:<16}  {times} ms a picture on one core")
    console.output(width=console.WIDE).print(_table(report["pipeline"]), crop=False)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("streams", "faces", "every", "fps", "limit_fps", "ratio"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*(str(row[str(column.header)]) for column in table.columns))
    return table
