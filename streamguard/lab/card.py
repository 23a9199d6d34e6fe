"""CARD.md of the classifier, out of a run's figures alone. A figure that is missing stops it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from streamguard.errors import UsageError
from streamguard.lab.forge import table
from streamguard.lab.policies import TOLD

_FIRST: Final = (
    "**A first cut**: it shows the whole chain on real models, and is to be replaced by one that was trained longer."
)
_SEARCHED: Final = (
    "What else the search tried stands in search.md, what this net is worth beside the default in docs/models.md."
)
_CARD: Final = """\
# {name} {version}: signs of manipulation in a face

{net} with one logit ({parameters} M parameters), started from {pretrained}, and trained by
`streamguard lab train` for {steps} steps of {batch} pictures ({minutes} minutes on {cores}){course}. {standing}

- Input `face`: (N, 3, {size}, {size}) float32 RGB, normalised as the manifest says, N dynamic. Faces get there by
  `streamguard.pixels.crop`: square round the detector's box, margin {margin}, resampler `{resampler}`.
- Output `logit`: (N, 1), raw; calibrated = raw / temperature + bias (manifest, per variant). Positive = manipulated.
- Variants: `fp32`{int8_shipped}.
- Median time a face, batch 1, one core, ONNX Runtime: fp32 {ms_fp32} ms, int8 {ms_int8} ms ({machine}, {date}).

## Data

Pictures of the manifest's split `train`, cut by group: fit 70 %, search 15 %, calibration 15 %. The official test
(`val`) took no part in any of it (its openings stand at the end); `clips/` was neither trained on nor measured here.

| source | used as | faces in fit |
|---|---|---|
{data}

{never}

Half of each batch are supplied pictures, as many real as fake of each source; half are forged pairs of the families
named above (own code; `lab.forge.table` names the papers) of which real partner and fake pass one chain, which the
augmentation names: {chain}. Twins are pictures that come again,
stored once more by a mild codec; the squared difference of the two logits is part of the loss.

{people_fit} of the {people} talking people may train, {people_calibration} calibrate, {people_measure} only measure
false alarms; the rule is `lab.data.Parts`. A quality probe (logistic regression on sharpness, blockiness, colour
moments) on what leaves the chain has AUC {probe_supplied} on the supplied half and {probe_pairs} on the pairs; 0.5
would mean that quality tells nothing.

Sources: DFDC (crops), OpenForensics, StyleGAN1 and FFHQ, UTKFace, short videos of talking people. They show real
people, under research and non-commercial terms as far as known; none is in this folder. Hence the licence: research and
evaluation only (LICENSE).

## Figures

`{command}`; {date}, {machine}.
Frame AUC with 95 % bootstrap intervals over groups, on the **search** part (never
trained on, not used for calibration). *plain*: as serving crops them. *chain*: degraded by the augmentation `forensic`.
*forged*: self-blended pairs of held-out real faces, degraded likewise.

| faces | n | fp32 | int8 |
|---|---|---|---|
{figures}

Calibration error (ECE, {bins} bins of equal count) on search: {ece}; temperature and bias come from the calibration
part.

## Operating points

{points}

A track is flagged where its level passes the threshold, or where it rises above its own earlier level by the rise, in
logits of a track of ordinary unrest (`decision.statistics.Rise`).
The minutes are simulated (`lab.minutes`); the rule is `lab.calibrate`. **No false-alarm rate is guaranteed** on real
streams.

## False alarms on real talking people

Real faces in real, recompressed video, one face a track, five scores a second, tracks of two seconds and more. The
calibration people set the thresholds; the measuring people took no part in anything, and were looked at for this
table only.

| people | variant | tracks | scores | scores above 0 | scores above `default` | tracks flagged at `default` |
|---|---|---|---|---|---|---|
{tracks}

## Known limits

- Figures on held-out pictures of the *same* sources say next to nothing about methods and cameras not seen here. An
  earlier net of this kind with 0.97 on its own sources was near chance on clips of unseen methods.
- DFDC's actors recur over its originals: its figure is optimistic.
- Faces without a blending seam (whole-face synthesis, re-enactment, whole-frame generation) are hardly covered.
- Soft, enlarged, heavily compressed or filtered real faces are where false alarms come from; see the table above.
- Faces under 60 pixels are not scored by StreamGuard; nothing here holds for them.
- No figure by age, sex or skin colour was taken yet. Do not decide about a person by this score.
"""


def card(metrics: Mapping[str, Any]) -> str:
    """The text of CARD.md.

    Raises:
        UsageError: a figure is missing, empty or not finite; it is named.
    """
    _refuse_empty(metrics, "metrics")
    try:
        return _CARD.format(**{**metrics, **_tables(metrics)})
    except KeyError as error:
        raise UsageError(f"card: figure {error} is missing. Run the whole of `lab export` again.") from error


def _refuse_empty(value: Any, where: str) -> None:
    """Nothing in a card may be blank, NaN or an empty table; only a net may go on from no engine."""
    if where == "metrics.lineage.engines":
        return
    bad = value is None or (isinstance(value, (str, Mapping, list, tuple)) and not len(value))
    bad = bad or (isinstance(value, str) and not value.strip())
    if bad or (isinstance(value, float) and not math.isfinite(value)):
        raise UsageError(f"card: '{where}' is {value!r}. Measure it; a card has no empty fields.")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            _refuse_empty(inner, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            _refuse_empty(inner, f"{where}[{number}]")


def _tables(metrics: Mapping[str, Any]) -> dict[str, str]:
    data = [f"| {row['source']} | {row['used']} | {row['faces']} |" for row in metrics["data"]]
    figures = [
        f"| {row['name']} | {row['n']} | {_with_interval(row['fp32'])} | {_with_interval(row['int8'])} |"
        for row in metrics["figures"]
    ]
    points = [
        f"- `{name}` ({variant}): threshold {point['threshold']}, rise {point['rise']} (logits). {point['promise']}"
        for variant, points in metrics["points"].items()
        for name, point in points.items()
    ]
    tracks = [
        f"| {row['people']} | {row['variant']} | {row['tracks']} | {row['scores']} | {row['above_zero']:.1%} | "
        f"{row['above_default']:.1%} | {row['flagged']} |"
        for row in metrics["tracks"]
    ]
    loss = f"in the mean {100 * metrics['int8_loss']:.2f} points of AUC under fp32"
    shipped = f"; `int8` (symmetric S8S8 Q/DQ round the convolutions but the first five, float bias; {loss})"
    if not metrics["int8_ships"]:
        shipped = f". int8 was made and measured, but is {loss}, more than the half point allowed, and does not ship"
    ece = ", ".join(f"{variant} {metrics[f'ece_{variant}']}" for variant in metrics["points"])
    tables = {
        **{name: [words] for name, words in _training(metrics).items()},
        "ece": [ece],
        "int8_shipped": [shipped],
        "data": data,
        "figures": figures,
        "points": points,
        "tracks": tracks,
    }
    return {name: "\n".join(lines) for name, lines in tables.items()}


def _training(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What the net was shown, in which order and how, and what it was never shown."""
    way = metrics["lineage"]
    stages = way["stages"]
    course = "; steps, first learning rate, forged families and augmentation"
    if len(stages) > 1:
        course = f". Each run went on from the one before (`--start`){course} of each"
    course = f"{course}: {', then '.join(map(_stage, stages))}"
    if way["engines"]:
        course += f". Training went on from weights of {', then of '.join(f'`{engine}`' for engine in way['engines'])}"
    policies_used = dict.fromkeys(stage["policy"] for stage in stages)
    return {
        "course": course if way["whole"] else f"{course}, whose own training is not written down and not counted here",
        "standing": _SEARCHED if metrics["searched"] else _FIRST,
        "never": _never(stages, whole=way["whole"]),
        "chain": "; ".join(f"`{name}`: {TOLD[name]}" for name in policies_used),
    }


def _never(stages: list[Mapping[str, Any]], *, whole: bool) -> str:
    if not whole:
        return "What the engine that training went on from was shown is not written down."
    shown = set().union(*(table.choose(stage["families"]).groups for stage in stages))
    closed = [group for group in table.ALL_GROUPS if group not in shown]
    if closed:
        return f"**Never shown**, neither forged nor supplied: {', '.join(f'`{group}`' for group in closed)}."
    return "No family or source of forgeries that the lab has was left out."


def _stage(stage: Mapping[str, Any]) -> str:
    twins = f", {stage['twins']} twins a step" if stage["twins"] else ""
    return f"{stage['steps']} at {stage['rate']:.3g} on `{stage['families']}` (`{stage['policy']}`{twins})"


def _with_interval(figure: Mapping[str, float]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f}-{figure['high']:.3f})"
