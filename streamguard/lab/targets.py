"""What the project asks of its classifier, held against what was measured: lines for docs/models.md.

A target is stated with its figure whether it is met or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

Metrics = Mapping[str, Any]

SEEN: Final = {"openforensics": 0.99, "dfdc": 0.955, "stylegan": 0.98}
"""Frame AUC on the test, plain."""
CALIBRATION: Final = 0.05
VARIANT_LOSS: Final = 0.5
COMPRESSION: Final = 4.0
UNSEEN: Final = {"families": (0.85, 0.70), "sources": (0.80, 0.0)}
"""Left out: mean, worst."""
FORGERIES_ALONE: Final = {"dfdc": 0.75, "openforensics": 0.85}
DETECTED: Final = {"map50": ("mAP50", 0.97), "map50_95": ("mAP50-95", 0.76)}
"""Of the face detector, fp32, where two teachers agree."""
IN_CLIPS: Final = 0.98
FOUND_SOON: Final = 0.60
INCONCLUSIVE: Final = 0.10


def of_faces(metrics: Metrics) -> list[str]:
    """Seen sources, calibration, variants."""
    found = metrics["faces"]
    reference = found["subjects"][0]
    plain = {row["set"]: row["subjects"][reference] for row in found["rows"] if row["dress"] == "plain"}
    told = [
        _at_least(f"AUC of {name}", plain[name]["auc"]["value"], least) for name, least in SEEN.items() if name in plain
    ]
    errors = {
        name: plain[name]["ece"]["value"] for name in SEEN if name in plain and plain[name]["ece"] != "no scale fits"
    }
    told += [_at_most(f"ECE of {name}", value, CALIBRATION) for name, value in errors.items()]
    return told + [
        _at_most(f"points of AUC lost by {name}", of["mean"], VARIANT_LOSS, 2) for name, of in found["losses"].items()
    ]


def of_corruptions(metrics: Metrics) -> list[str]:
    """Compression."""
    subjects = metrics["corruptions"]["subjects"].items()
    return [_at_most(f"{name}: points lost by compression", of["compression"]["value"], COMPRESSION, 1)
            for name, of in subjects]  # fmt: skip


def of_streams(metrics: Metrics) -> list[str]:
    """Passages found, and what real recordings are called."""
    soon = metrics["streams"]["simulated"]["all"]["soon"]
    real = metrics["streams"]["recordings"]["real"]["both"]
    flagged, unknown = real["flagged"], real["inconclusive"]
    return [
        _at_least("share of simulated passages found within 10 s", soon["count"] / max(1, soon["of"]), FOUND_SOON, 2),
        _at_most("real recordings flagged", flagged["count"], 0, 0),
        _at_most("share of real recordings inconclusive", unknown["count"] / max(1, unknown["of"]), INCONCLUSIVE, 2),
    ]


def of_unseen(metrics: Metrics) -> list[str]:
    """What was left out, and forgeries alone."""
    told = []
    for what, (mean, worst) in UNSEEN.items():
        of = metrics[what]
        told.append(_at_least(f"{what} left out, mean AUC", of["mean"], mean))
        if worst:
            told.append(_at_least(f"{what} left out, worst AUC", of["auc"][of["worst"]], worst))
    alone = metrics["forgeries"]
    return told + [
        _at_least(f"forgeries alone, AUC of {name}", alone[name]["value"], least)
        for name, least in FORGERIES_ALONE.items()
        if name in alone
    ]


def of_agreement(metrics: Metrics) -> list[str]:
    """The face detector against boxes on which two others agree."""
    found = metrics["precision"]["fp32"]
    told = [_at_least(words, found[name], least) for name, (words, least) in DETECTED.items()]
    return [*told, _at_least("share of the clips' frames", metrics["clips"]["fp32"]["value"], IN_CLIPS)]


def _at_least(what: str, value: float, least: float, digits: int = 3) -> str:
    return _told(what, value, f"at least {least:g}", value >= least, digits)


def _at_most(what: str, value: float, most: float, digits: int = 3) -> str:
    return _told(what, value, f"at most {most:g}", value <= most, digits)


def _told(what: str, value: float, asked: str, met: bool, digits: int) -> str:
    return f"| {what} | {value:.{digits}f} | {asked} | {'met' if met else '**not met**'} |"
