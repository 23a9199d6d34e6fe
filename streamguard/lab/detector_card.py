"""CARD.md of the face detector, out of a run's metrics.json alone. A figure that is missing stops it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from streamguard.errors import UsageError

_CARD = """\
# face-yolov8n {version}: face detector

YOLOv8n with one class, trained from scratch (no pretrained weights) by `streamguard lab detector`. It finds faces
in a {size} px letterbox of a whole video frame; it says nothing about who a face is or whether it is manipulated.
This is a first cut: {training_minutes} minutes of training, wall time, on one core of a shared CPU.

- Input `images`: (N, 3, {size}, {size}) float32 RGB 0..1, N dynamic. Frames get there by
  `streamguard.pixels.letterbox` (resampler `{resampler}`, grey 114).
- Output `output0`: (N, 5, anchors) float32: cx, cy, w, h in input px, score 0..1. Suppression (IoU 0.5, at most 300
  candidates) is the host's.
- Committed confidence: **{confidence}**, the lowest from 0.05 to 0.50 at which 97 % of the detections in the two sets
  of held-out pictures below, taken together, are right (0.50 if none is). It was chosen on the pictures it is reported
  on, so precision and recall at it are slightly favourable; average precision does not depend on it.
- Variants: `fp32`; `int8` (symmetric S8S8 Q/DQ round the convolutions, float bias, decode tail in float, calibrated
  on {calibration} training pictures).

## Data

OpenForensics (photos with GAN-blended faces, and their originals), StyleGAN1 and FFHQ: their `train` pictures, 256 px,
cut by group into

- {train_pictures} training pictures ({train_faces} faces), {train_composites} of them composites: collages, pasted
  shrunk heads and pictures, close-ups, face-free;
- {held_out_pictures} held out ({held_out_faces} faces), and {small_pictures} composites of held-out pictures only
  ({small_faces} faces).

{near_duplicates_dropped} near-duplicates of held-out pictures (difference hash) were left out of training. Boxes are
**not** hand-made: a teacher, YuNet (score >= 0.6), drew them. The detector inherits its taste and its misses, and
average precision below is agreement with the teacher. The pictures show real people under research and non-commercial
terms; none is in this folder. The official test split (`val`) was neither trained on nor measured here. Composites
were shrunk by area averages (`INTER_AREA`), serving shrinks by `{resampler}`; the figures are through the serving path.

## Figures

Command, which ends with the measures: `{command}`.
{date}, {machine}, {runtime}. Intervals are 95 %: bootstrap over pictures for average precision, Wilson for shares.

| held out | variant | mAP50 | mAP50-95 | pictures | faces |
|---|---|---|---|---|---|
{precision}

*plain*: pictures as supplied (256 px, mostly one to three large faces). *composites*: made pictures with small faces,
collages, close-ups and face-free ones, of held-out pictures only: their pasted borders are not those of real frames.

At confidence {confidence}, IoU 0.5:

| held out | variant | precision | recall |
|---|---|---|---|
{operating}

Recall on the composites by face width (px at the network's input; x 4 in a 1280x720 frame), IoU 0.5, confidence
{confidence}:

| width | {widths} |
|---|{rule}|
{by_width}

Hand-made boxes (`dlib_faces`, {hand_pictures} photos, {hand_faces} faces; square boxes, another convention than the
teacher's), at confidence {confidence}; YuNet on the same {size} px letterbox at its 0.6:

| detector | recall, IoU 0.5 | recall, IoU 0.3 | detections in all |
|---|---|---|---|
{hand}

int8 against fp32, {pairs} faces found by both on the plain set: corners differ by {box_px_mean} px of the 256 px
picture in the mean ({box_px_p99} px at the 99th percentile), scores by {score_mean} ({score_p99}); {unpaired}
detections were made by one of the two only.

## Training

{epochs} passes over the training pictures, batch {batch}, AdamW {learning_rate} with a cosine, {small_size} px for the
first {small_share} of the passes, then {size} px; seed {seed}; {versions}. Run: {remark}.

## Limits

- Agreement with one teacher is not truth: where YuNet misses faces (profiles, masks, darkness, paint), this one does
  too. Against boxes on which two of three others agree it is measured in docs/models.md (`lab agreement`).
- Boxes are looser than the teacher's (mAP50-95): a short training from scratch.
- The smallest faces are found far less often than large ones: see the table by width.
- Trained on stills; motion blur and interlacing are only imitated. How it fares over age, skin or sex was not measured.
- Licence: AGPL-3.0 (LICENSE), as ultralytics stamps its exports. The training pictures' terms ask for research use.
"""


def check_filled(value: object, where: str = "metrics") -> None:
    """Refuse None, NaN, infinities and empty text, lists and tables, at any depth.

    Raises:
        UsageError: naming the empty field.
    """
    if isinstance(value, Mapping):
        if not value:
            raise _empty(where)
        for key, item in value.items():
            check_filled(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        if not value:
            raise _empty(where)
        for i, item in enumerate(value):
            check_filled(item, f"{where}[{i}]")
    elif value is None or value == "" or (isinstance(value, float) and not math.isfinite(value)):
        raise _empty(where)


def card(metrics: Mapping[str, Any]) -> str:
    """The card's text.

    Raises:
        UsageError: ``metrics`` lacks a field or holds an empty one.
    """
    check_filled(metrics)
    try:
        return _CARD.format(**_fields(metrics))
    except KeyError as error:
        raise UsageError(f"metrics.json lacks {error}, which the card must state. Measure the run again.") from error


def _empty(where: str) -> UsageError:
    return UsageError(f"{where} is empty; a card states every figure. Measure the run again.")


def _fields(m: Mapping[str, Any]) -> dict[str, Any]:
    recipe, hand = m["recipe"], m["hand_boxes"]
    rows = [(part, variant) for part in ("plain", "composites") for variant in ("fp32", "int8")]
    widths = list(m["recall_by_width"]["fp32"])
    return {
        **m,
        **m["dataset"],
        **m["int8_against_fp32"],
        **{key: recipe[key] for key in ("epochs", "batch", "learning_rate", "small_size", "small_share")},
        "precision": "\n".join(_precision_row(m["precision"][p][v], p, v) for p, v in rows),
        "operating": "\n".join(_operating_row(m["operating"][p][v], p, v) for p, v in rows),
        "widths": " | ".join(widths),
        "rule": "|".join("---" for _ in widths),
        "by_width": "\n".join(_width_row(m["recall_by_width"][v], v, widths) for v in ("fp32", "int8")),
        "hand_pictures": hand["pictures"],
        "hand_faces": hand["fp32"]["iou_0.5"]["of"],
        "hand": "\n".join(_hand_row(hand[k], k) for k in ("fp32", "int8", "yunet")),
        "versions": ", ".join(f"{tool} {number}" for tool, number in m["versions"].items()),
    }


def _precision_row(p: Mapping[str, Any], part: str, variant: str) -> str:
    values = [
        f"{p[key]:.3f} ({p[f'{key}_interval'][0]:.3f}-{p[f'{key}_interval'][1]:.3f})" for key in ("map50", "map50_95")
    ]
    return f"| {part} | {variant} | {values[0]} | {values[1]} | {p['pictures']} | {p['faces']} |"


def _operating_row(o: Mapping[str, Any], part: str, variant: str) -> str:
    return f"| {part} | {variant} | {_share(o['precision'])} | {_share(o['recall'])} |"


def _width_row(recalls: Mapping[str, Any], variant: str, widths: list[str]) -> str:
    return f"| {variant} | " + " | ".join(_share(recalls[w]) for w in widths) + " |"


def _share(s: Mapping[str, Any]) -> str:
    low, high = s["interval"]
    return f"{s['value']:.3f} ({low:.3f}-{high:.3f}; {s['count']}/{s['of']})"


def _hand_row(h: Mapping[str, Any], name: str) -> str:
    return f"| {name} | {_share(h['iou_0.5'])} | {_share(h['iou_0.3'])} | {h['detections']} |"
