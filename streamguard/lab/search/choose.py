"""``streamguard lab choose``: whether a searched engine becomes the default, by the rule written before the search.

    streamguard lab choose --searched engines/deepfake-nas --base runs/lite0-engine

Both are shown the same held-out forgeries of the families that neither was trained on
(:data:`~streamguard.lab.search.rules.UNSEEN`), and timed in turns on one core. The rule is
:func:`streamguard.lab.search.rules.verdict`. Exit code 1 if the base stays. The base is the default's net, trained like
the searched one: the shipped `deepfake-steady` was shown every family, so nothing is unseen to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console

from streamguard.inference.engines import Engine, load_engine
from streamguard.lab.data import FaceStore, build_store
from streamguard.lab.dataset import Dataset
from streamguard.lab.evaluate_faces import bounded
from streamguard.lab.heldout import Drawn, held
from streamguard.lab.search.material import families_of
from streamguard.lab.search.rules import UNSEEN, Shown, Verdict, verdict
from streamguard.lab.search.timing import Model, timed
from streamguard.lab.statistics import auc
from streamguard.lab.subjects import REFERENCE, Subject, engine_subjects


def choose(
    searched: Annotated[Path, typer.Option(help="Engine folder, or the name of a shipped engine.")],
    base: Annotated[Path, typer.Option(help="The same, of the default's net trained on the same families.")],
    faces: Annotated[Path, typer.Option(help="faces.h5, made if absent.")] = Path("runs/faces.h5"),
    each: Annotated[int, typer.Option(min=4, help="Held-out pairs of a family.")] = 200,
) -> None:
    """Say whether a searched engine replaces the default."""
    store = build_store(Dataset.from_environment(), faces)
    found, rows = compared(store, load_engine(searched), load_engine(base), each)
    console = Console(soft_wrap=True, highlight=False)
    for name, of in rows.items():
        told = ", ".join(f"{who} {one['value']:.3f} ({one['low']:.3f}-{one['high']:.3f})" for who, one in of.items())
        console.print(f"{name}: {told}")
    console.print(found.words + (", the target is reached" if found.target else ", the target is not reached"))
    if not found.replaces:
        raise typer.Exit(1)


def compared(store: FaceStore, searched: Engine, base: Engine, each: int) -> tuple[Verdict, dict[str, Any]]:
    """The verdict, and by family each engine's AUC with its interval."""
    subjects = {"searched": _subject(searched), "base": _subject(base)}
    crops = list(dict.fromkeys(subject.crop for subject in subjects.values()))
    rows: dict[str, Any] = {}
    for family in families_of(UNSEEN):
        shown = held(store, family, Drawn("search", each), "plain", crops)
        if not 0 < shown.label.sum() < shown.label.size:
            continue
        rows[family] = {
            who: bounded(auc, subject.score(shown.pictures[subject.crop]), shown.label, shown.group)
            for who, subject in subjects.items()
        }
    mean = {who: float(np.mean([row[who]["value"] for row in rows.values()])) for who in subjects}
    models = {who: Model(engine.model(REFERENCE), subjects[who].crop.size)
              for who, engine in (("searched", searched), ("base", base))}  # fmt: skip
    found = timed(models["searched"], models["base"])
    times = {"base": found.reference_ms, "searched": found.reference_ms * found.ratio}
    return verdict(*(Shown(mean[who], times[who]) for who in ("searched", "base"))), rows


def _subject(engine: Engine) -> Subject:
    return engine_subjects(engine, "openvino", (REFERENCE,))[0]
