"""``streamguard lab document``: the figures of run folders, written into docs/models.md between markers.

    streamguard lab document runs/evaluate runs/unseen runs/streams --into docs/models.md

A section stands between ``<!-- figures: NAME -->`` and ``<!-- end: NAME -->``. Each run folder gives the sections that
it has figures for; the others stay as they are. Plots go to a folder beside the document, called like it. A figure that
is missing, empty or no number is refused by name: a table has no blanks. The command that made a table stands over it,
with the date and the machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from streamguard.errors import InputMissing, InputUnreadable, UsageError
from streamguard.lab import document_search
from streamguard.lab.detector_card import check_filled
from streamguard.lab.document_tables import TABLES as MEASURED
from streamguard.lab.document_tables import Metrics, Section

TABLES: Final[dict[str, Callable[[Metrics], Section]]] = {
    **MEASURED, "search-edge": document_search.search, "search-paper2025": document_search.search,
    "replicate": document_search.replicate,
}  # fmt: skip
_WHOLE: Final = ("unseen", "agreement", "search-edge", "search-paper2025", "replicate")  # a run is one section
_PLOTS: Final = {
    "faces": ("roc.png", "reliability.png", "scores.png"), "corruptions": ("corruptions.png",),
    "unseen": ("matrix.png",), "search-edge": ("history.png", "pareto.png", "importances.png"),
    "search-paper2025": ("history.png",),
    "replicate": ("curves-openforensics-case1.png", "curves-openforensics-case2.png", "curves-dfdc-case2.png"),
}  # fmt: skip

_MAY_BE_EMPTY: Final = frozenset({"reason", "error", "not_clear", "losses", "missed"})
# Plots show them, or words say "too few".
_BESIDE: Final = frozenset({"curves", "importances", "agreement", "difference"})


def document(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Run folders of `lab evaluate`, `unseen`, `agreement`, `search`, `replicate`."),
    ],
    into: Annotated[Path, typer.Option(help="The document.")] = Path("docs/models.md"),
) -> None:
    """Write the figures of run folders into a document, between its markers."""
    for run in runs:
        fill(run, into)


def fill(run: Path, into: Path) -> list[str]:
    """Write every section that ``run`` has figures for; returns their names.

    Raises:
        InputMissing: no metrics.json, no document, or a plot is absent.
        UsageError: a figure is missing or empty, or the document has no place for a section.
    """
    metrics = _metrics(run)
    if not into.is_file():
        raise InputMissing(f"document '{into}' does not exist. Name one with --into.")
    names = _sections_of(metrics)
    if not names:
        raise UsageError(f"'{run}' holds no figures for a document: it is of `lab {metrics.get('verb', '?')}`.")
    text = into.read_text(encoding="utf-8")
    for name in names:
        found = metrics if name in (*_WHOLE, "final") else metrics[name]
        check_filled(_stated(found), f"'{run}': {name}")
        try:
            section = TABLES[name](metrics)
        except KeyError as error:
            raise UsageError(f"'{run}' lacks {error}, which section '{name}' must state. Measure it again.") from error
        text = placed(text, name, _shown(section, name, _copied(run, into, name)), into)
    into.write_text(text, encoding="utf-8")
    return names


def _stated(value: Any) -> Any:
    """``value`` less what may be empty: no reason is needed for what is flagged, and nothing may be lost."""
    if isinstance(value, Mapping):
        stated = {key: one for key, one in value.items() if key not in _BESIDE and (one or key not in _MAY_BE_EMPTY)}
        return {key: _stated(one) for key, one in stated.items()}
    return [_stated(one) for one in value] if isinstance(value, list) else value


def _metrics(run: Path) -> dict[str, Any]:
    file = run / "metrics.json"
    if not file.is_file():
        raise InputMissing(f"'{run}' has no metrics.json: nothing was finished there.")
    try:
        metrics: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputUnreadable(f"'{file}' is damaged: {error}. Measure it again.") from error
    return metrics


def _sections_of(metrics: Mapping[str, Any]) -> list[str]:
    whole = f"search-{metrics.get('space')}" if metrics.get("verb") == "search" else metrics.get("verb")
    if whole in _WHOLE:
        return [whole]
    if metrics.get("verb") == "evaluate" and metrics.get("part") == "test":
        return ["final"]
    return [name for name in TABLES if name in metrics] if metrics.get("verb") == "evaluate" else []


def _copied(run: Path, into: Path, name: str) -> list[Path]:
    """The section's plots, copied; paths as the document writes them."""
    folder = into.with_suffix("")
    before = f"{name}-" if name.startswith("search-") else ""  # both spaces have a history
    found = []
    for plot in _PLOTS.get(name, ()):
        if not (run / plot).is_file():
            raise InputMissing(f"'{run / plot}' does not exist. Measure '{name}' again.")
        folder.mkdir(exist_ok=True)
        shutil.copyfile(run / plot, folder / f"{before}{plot}")
        found.append(Path(folder.name) / f"{before}{plot}")
    return found


def _shown(section: Section, name: str, pictures: Sequence[Path]) -> str:
    lines = [f"`{section.command}`; {section.facts}.", ""]
    lines += section.lines
    if pictures:
        lines += ["", *(f"![{name}: {path.stem}]({path.as_posix()})" for path in pictures)]
    return "\n".join(lines)


def placed(text: str, name: str, content: str, into: Path) -> str:
    """``text`` with ``content`` between the markers of ``name``.

    Raises:
        UsageError: a marker is missing.
    """
    begin, end = f"<!-- figures: {name} -->", f"<!-- end: {name} -->"
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise UsageError(f"'{into}' has no '{begin}' followed by '{end}': no place for these figures. Add both lines.")
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"
