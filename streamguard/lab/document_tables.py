"""The tables of docs/models.md, each out of a run's metrics alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from streamguard.lab import targets

Metrics = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Section:
    """``command``: what made it. ``facts``: date, machine, what was measured. ``lines``: Markdown."""

    command: str
    facts: str
    lines: Sequence[str]


def faces(metrics: Metrics) -> Section:
    """AUC and ECE by set and dress, a pair of columns a variant."""
    return _auc_table(metrics, "faces", [_losses(metrics["faces"]["losses"]), *_targets(targets.of_faces(metrics))])


def baselines(metrics: Metrics) -> Section:
    """The same for the baselines, with the engine's fp32 beside them where it was measured on the same faces."""
    found = metrics["baselines"]
    note = (
        f"Everything but MesoNet was fitted on {found['couples']} couples of the fit part at 128 px; the nets took "
        f"{found['steps']} steps from scratch (no package here has ImageNet weights of MobileNetV3-small)."
    )
    return _auc_table(_beside(metrics), "baselines", [note])


def _beside(metrics: Metrics) -> Metrics:
    """The metrics with the engine's reference in the rows of the baselines: the same faces, measured in `faces`."""
    known = {(row["set"], row["dress"]): row["subjects"] for row in metrics.get("faces", {}).get("rows", ())}
    if not known:
        return metrics
    reference, own = metrics["faces"]["subjects"][0], metrics["baselines"]
    name = f"{metrics['name']} {reference}"
    rows = [
        {**row, "subjects": {name: known[row["set"], row["dress"]][reference], **row["subjects"]}}
        for row in own["rows"]
    ]
    return {**metrics, "baselines": {**own, "rows": rows, "subjects": [name, *own["subjects"]]}}


def final(metrics: Metrics) -> Section:
    """The test."""
    return faces(metrics)


def _auc_table(metrics: Metrics, part: str, notes: Sequence[str]) -> Section:
    names = metrics[part]["subjects"]
    head = ["faces", "real / fake", "groups", *(f"{name}: AUC" for name in names), *(f"{name}: ECE" for name in names)]
    rows = []
    for row in metrics[part]["rows"]:
        cells = [f"{row['set']}, {row['dress']}", f"{row['real']} / {row['fake']}", str(row["groups"])]
        cells += [spread(row["subjects"][name]["auc"]) for name in names]
        cells += [_ece(row["subjects"][name]["ece"]) for name in names]
        rows.append(cells)
    return Section(metrics["commands"][part], _facts(metrics), [*table(head, rows), "", *notes])


def corruptions(metrics: Metrics) -> Section:
    """Mean and worst loss by corruption, and the compression target."""
    found = metrics["corruptions"]
    names = list(found["subjects"])
    head = [
        "corruption",
        "steps",
        *(f"{name}: AUC by severity" for name in names),
        *(f"{n}: mean, worst loss" for n in names),
    ]
    rows = []
    for kind, steps in found["steps"].items():
        cells = [f"{kind} ({steps['unit']})", ", ".join(f"{step:g}" for step in steps["steps"])]
        cells += [" ".join(f"{value:.3f}" for value in found["subjects"][name]["auc"][kind]) for name in names]
        cells += [
            f"{found['subjects'][n]['mean_loss'][kind]:.1f}, {found['subjects'][n]['worst_loss'][kind]:.1f}"
            for n in names
        ]
        rows.append(cells)
    notes = ["", *(f"- {name}: {_lost(found['subjects'][name])}" for name in names)]
    facts = f"{_facts(metrics)}; {found['faces']} faces, AUC is the mean over {', '.join(found['sources'])}"
    notes += _targets(targets.of_corruptions(metrics))
    return Section(metrics["commands"]["corruptions"], facts, [*table(head, rows), *notes])


def _lost(of: Mapping[str, Any]) -> str:
    """What one subject lost, in words."""
    narrow, worst = of["compression"], of["worst"]
    return (
        f"clean AUC {of['clean']:.3f}; {of['mean']:.1f} points are lost in the mean over all corruptions, at worst "
        f"{worst['points']:.1f} ({worst['where']}). Over JPEG 95-50 and CRF 18-28 the mean loss is "
        f"**{narrow['value']:.1f} points** ({narrow['low']:.1f} to {narrow['high']:.1f})."
    )


def proxies(metrics: Metrics) -> Section:
    """False alarms of single faces by thirds of what a picture measures."""
    found = metrics["proxies"]
    head = ["measured", "lowest third", "middle third", "highest third"]
    rows = [
        [
            name,
            *(
                f"{t['from']:g} to {t['to']:g}: {t['count']} of {t['of']} ({t['low']:.1%}-{t['high']:.1%})"
                for t in thirds
            ),
        ]
        for name, thirds in found["proxies"].items()
    ]
    facts = f"{_facts(metrics)}; {found['faces']} real faces, of which {found['above']} reach `default` alone"
    return Section(metrics["commands"]["proxies"], facts, table(head, rows))


def streams(metrics: Metrics) -> Section:
    """Simulated streams by family, and real recordings."""
    found = metrics["streams"]
    made, real = found["simulated"], found["recordings"]
    head = ["forged as", "streams", "found within 10 s", "found at all", "median delay, s", "mean IoU"]
    rows = [
        [of["family"], str(of["soon"]["of"]), _share(of["soon"]), _share(of["found"]), _number(of["median_delay"], 1),
         _number(of["mean_iou"], 2)]
        for of in (*made["families"], made["all"])
    ]  # fmt: skip
    lines = [*table(head, rows), "", f"- Simulated streams without a forgery: {_share(made['real_streams'])} flagged."]
    lines += [f"- False alarms in simulated real video: {_rate(made['false_alarms'])}."]
    lines += [f"- Simulated streams judged inconclusive: {_share(made['inconclusive'])}.", ""]
    recorded = [
        [name, _share(of["flagged"]), _share(of["inconclusive"]), _rate(of["false_alarms"])]
        for name, of in real["real"].items()
    ]
    lines += table(["real recordings of 4 s and more", "flagged", "inconclusive", "false alarms"], recorded)
    lines += ["", *_told(real), *_targets(targets.of_streams(metrics))]
    return Section(metrics["commands"]["streams"], _facts(metrics, whole=False), lines)


def _told(real: Mapping[str, Any]) -> list[str]:
    """The recordings that are not clear, and the fakes, one line each."""
    lines = [
        f"- {row['set']}/{row['name']}, real, {row['seconds']:.0f} s: **{row['state']}**{_why(row)}."
        for row in real["not_clear"]
    ]
    lines += [
        f"- {row['set']}/{row['name']}, **fake**, {row['seconds']:.0f} s: {row['state']}{_why(row)}."
        for row in real["fake"]
    ]
    return [*lines, f"- {real['short']} real recordings are shorter than 4 s and are not counted."]


def _why(row: Mapping[str, Any]) -> str:
    return f" ({row['reason']})" if row["reason"] else ""


def unseen(metrics: Metrics) -> Section:
    """The leave-one-out matrix, its means and worst."""
    nets = list(metrics["table"])
    sets = list(metrics["table"][nets[0]])
    head = ["net", "steps", *sets]
    rows = []
    for net in nets:
        values = {one: f"{metrics['table'][net][one]['plain']['value']:.3f}" for one in sets}
        hidden = metrics["hidden"][net]
        rows.append([net, str(metrics["steps"][net]), *(f"**{v}**" if s in hidden else v for s, v in values.items())])
    seeds = metrics["seeds"]
    lines = [
        *table(head, rows), "", "Bold: fakes that this net was never shown.", "",
        f"- By the seed alone, nets shown everything lie **{seeds['mean']:.3f}** apart in the mean of the sets, "
        f"{seeds['most']:.3f} at most: smaller differences mean nothing.",
    ]  # fmt: skip
    for what, word in (("families", "Left out as a group"), ("sources", "Left out as a source")):
        of = metrics[what]
        told = ", ".join(f"{name} {value:.3f}" for name, value in of["auc"].items())
        lines.append(
            f"- {word}: {told}. Mean **{of['mean']:.3f}**, worst **{of['auc'][of['worst']]:.3f}** ({of['worst']})."
        )
    told = "; ".join(f"{name} {spread(value)}" for name, value in metrics["forgeries"].items())
    lines += [f"- Forgeries alone, no supplied fake: {told}.", *_targets(targets.of_unseen(metrics))]
    facts = (
        f"{metrics['date']}, {metrics['machine']}; "
        f"`{metrics['net']}`, {metrics['size']} px, on {metrics['couples']} couples, "
        f"measured on at most {metrics['each']} faces of a source and label, pairs of a family"
    )
    return Section(metrics["command"], facts, lines)


def agreement(metrics: Metrics) -> Section:
    """The face detector and each teacher, against what two others agree on."""
    head = ["detector", "judged by", "mAP50", "mAP50-95", "pictures", "faces"]
    rows = [[name, _judges(name, metrics["teachers"]),
             *(f"{row[key]:.3f} ({row[f'{key}_interval'][0]:.3f}-{row[f'{key}_interval'][1]:.3f})"
               for key in ("map50", "map50_95")), str(row["pictures"]), str(row["faces"])]
            for name, row in metrics["precision"].items()]  # fmt: skip
    lines = [*table(head, rows), ""]
    for name, row in metrics["clips"].items():
        low, high = row["interval"]
        missed = ", ".join(f"{count} of {clip}" for clip, count in row["missed"].items())
        lines.append(
            f"- {name}, at its confidence {metrics['confidence']}: boxes the largest agreed face in {row['count']} of "
            f"{row['of']} frames of the clips, {row['value']:.3f} ({low:.3f}-{high:.3f})"
            f"{'; missed: ' if missed else ''}{missed}."
        )
    told = ", ".join(f"{name} from {least:g}" for name, least in metrics["teachers"].items())
    lines += [f"- What the teachers call a face: {told}.", *_targets(targets.of_agreement(metrics))]
    model = f"{metrics['name']} {metrics['version']} (`{metrics['sha256'][:16]}`), {metrics['size']} px"
    return Section(metrics["command"], f"{metrics['date']}, {metrics['machine']}, {model}", lines)


def _judges(name: str, teachers: Mapping[str, Any]) -> str:
    return " and ".join(one for one in teachers if one != name) if name in teachers else "any two of three"


TABLES: Final[dict[str, Callable[[Metrics], Section]]] = {
    "faces": faces, "baselines": baselines, "corruptions": corruptions, "proxies": proxies, "streams": streams,
    "unseen": unseen, "final": final, "agreement": agreement,
}  # fmt: skip


def _facts(metrics: Metrics, *, whole: bool = True) -> str:
    model = f"{metrics['name']} {metrics['version']} (`{metrics['sha256'][:16]}`)"
    part = f", part `{metrics['part']}`" if whole else ""
    return f"{metrics['date']}, {metrics['machine']}, {model}{part}"


def _targets(rows: Sequence[str]) -> list[str]:
    """What was asked for, under what was measured."""
    return ["", *table(["target", "measured", "asked", ""], []), *rows] if rows else []


def _losses(losses: Mapping[str, Mapping[str, float]]) -> str:
    told = [f"{name} loses {of['mean']:.2f} points, {of['worst']:.2f} at worst" for name, of in losses.items()]
    return f"In the mean against fp32: {'; '.join(told)}." if told else "No other variant was measured."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of Markdown."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def spread(figure: Mapping[str, float]) -> str:
    """A value with its interval."""
    return f"{figure['value']:.3f} ({figure['low']:.3f}-{figure['high']:.3f})"


def _ece(figure: Mapping[str, float] | str) -> str:
    return figure if isinstance(figure, str) else f"{figure['value']:.3f} ({figure['low']:.3f}-{figure['high']:.3f})"


def _share(figure: Mapping[str, float]) -> str:
    if not figure["of"]:
        return "none of 0"
    return f"{figure['count']} of {figure['of']} ({figure['low']:.0%}-{figure['high']:.0%})"


def _rate(figure: Mapping[str, float]) -> str:
    span = f"{figure['low']:.1f}-{figure['high']:.1f}"
    return f"{figure['count']} in {figure['seconds'] / 60:.1f} min: {figure['value']:.1f} an hour ({span})"


def _number(value: float | str, digits: int) -> str:
    return value if isinstance(value, str) else f"{value:.{digits}f}"
