"""The tables of docs/models.md that `lab search` and `lab replicate` give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from streamguard.lab.document_tables import Metrics, Section, spread, table


def search(metrics: Metrics) -> Section:
    """The winner, TPE against random search, the rungs' agreement, and what proxies knew."""
    best = metrics["winner"]
    lines = [f"Winner by the rule of docs/lab.md: `{best['name']}`, {metrics['score']} **{best['score']:.4f}**, "
             f"{best['ms']:.2f} ms a face (EfficientNet-Lite0 at 176 px: {metrics['reference_ms']:.2f}), "
             f"{best['parameters'] / 1e6:.2f} M parameters.", "",
             f"    {metrics['design']}", ""]  # fmt: skip
    rows = [[name, *(f"{of.get(word, 0):g}" for word in ("finished", "stopped", "refused", "failed", "epochs"))]
            for name, of in metrics["brackets"].items()]  # fmt: skip
    lines += table(["bracket", "finished", "stopped", "refused", "failed", "epochs"], rows)
    for study in metrics["difference"]:
        lines += ["", f"`{study}`, {metrics['designs'][study]:,} designs:", ""]
        if any("/random/" in name for name in metrics["brackets"]):
            lines += [f"- {_difference(metrics['difference'][study])}"]
        lines += [f"- {_agreement(row)}" for row in metrics["agreement"][study]]
        lines += [f"- {_proxies(metrics['proxies'][study])}"]
    if metrics["left"]:
        lines += ["", f"{metrics['left']} trials were under way when the search was ended."]
    if "final" in metrics:
        told = ", ".join(f"{name} {value:.4f}" for name, value in metrics["final"].items())
        lines += ["", f"The winner trained anew for 20 epochs: {told}."]
    return Section(metrics["command"], f"{metrics['date']}, {metrics['machine']}", lines)


def _difference(of: Mapping[str, Any]) -> str:
    if "mean" not in of:
        return "TPE and random search: not both finished."
    span = f" ({of['low']:+.4f} to {of['high']:+.4f})" if "low" in of else ", one seed each: no interval"
    return f"TPE's best less random search's, mean over {len(of['tpe'])} seeds: {of['mean']:+.4f}{span}."


def _agreement(row: Mapping[str, Any]) -> str:
    told = f"Kendall's tau {row['tau']:.2f}" if "tau" in row else "too few to tell"
    return f"Rungs {row['from']} and {row['to']} agree: {told} ({row['trials']} trials)."


def _proxies(of: Mapping[str, Any]) -> str:
    told = ", ".join(f"{name} {value:+.2f}" for name, value in of.items() if name != "trials")
    return f"Rank correlation with the first rung, {of['trials']} trials: {told or 'too few to tell'}."


def replicate(metrics: Metrics) -> Section:
    """The paper's cases by both protocols, the films, the related work."""
    lines: list[str] = []
    if "cases" in metrics:
        lines += _cases(metrics)
    if "films" in metrics:
        rows = [[row["cut"], f"{row['trained on']} / {row['tested on']}", spread(row["figures"]["accuracy"]),
                 spread(row["figures"]["AUC"])] for row in metrics["films"]]  # fmt: skip
        count = metrics["films"][0]["films"]
        lines += ["", f"Frames of one video: {count} made films, real or fake by the toss of a coin. Nothing can be",
                  "learnt: what is above one half is memory.", ""]  # fmt: skip
        lines += table(["cut", "frames, training / test", "accuracy", "AUC"], rows)
    if "arms" in metrics:
        base = metrics["arms"][0]["arm"]
        lines += ["", "The related work's methods, small, in one harness. *Shown* is what these methods were shown;",
                  f"`{base}`, which stands beside them, was shown every family.", ""]  # fmt: skip
        head = ["method", "looks at", "AUC, families shown", "AUC, families not shown", "adds to the base there"]
        lines += table(head, [_arm(row) for row in metrics["arms"]])
    return Section(metrics["command"], f"**{metrics['title']}**; {metrics['date']}, {metrics['machine']}", lines)


def _cases(metrics: Metrics) -> list[str]:
    names = list(metrics["cases"][0]["figures"])
    head = ["case", "pictures", "cut", "net", "training / test", "kin", *names, "the paper's accuracy"]
    rows = []
    for row in metrics["cases"]:
        cells = [row["case"], row["pictures"], row["protocol"], row["net"], f"{row['trained on']} / {row['tested on']}",
                 f"{row['test pictures with kin in training']:.0%}"]  # fmt: skip
        told = f"{metrics['told'][row['case']]:.1%}" if row["net"] != "framing only" else "-"
        rows.append([*cells, *(spread(row["figures"][name]) for name in names), told])
    note = "*kin*: test pictures of which a copy, or another picture of the same group, is in the training."
    return [*table(head, rows), "", note]


def _arm(row: Mapping[str, Any]) -> list[str]:
    if "held out" in row:
        people = f"{row['windows']} windows of {row['people'][1]} people"
        return [row["arm"], f"{row['looks at']} ({people})", spread(row["held out"]), "-", "-"]
    adds = row.get("adds")
    told = "-"
    if adds is not None:
        told = f"{adds['value']:+.3f} ({adds['low']:+.3f} to {adds['high']:+.3f}): {'yes' if adds['earns'] else 'no'}"
    return [row["arm"], row["looks at"], spread(row["seen"]), spread(row["unseen"]), told]
