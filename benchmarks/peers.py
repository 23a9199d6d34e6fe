"""StreamGuard beside what people write today, with the same weights on the same video and the same cores.

    python benchmarks/peers.py --weights runs/detector/training/weights/best.pt [--rounds 3] [--seconds 12] [--json]

Each contestant is a process of its own, pinned to the same cores; they take turns, so that a machine whose speed drifts
is unfair to nobody. Each prints the frames a second that it took from H.264 files, medians over the rounds.

    equal   one core, one 1080p file: the same search every 5th frame at 320 px in fp32, every face found is classified
    usual   all cores, 8 files of 720p, each as its documentation has it: the loop searches every frame at 640 px, and
            classifies every face in it; StreamGuard runs with its defaults

    streamguard   this package
    ultralytics   ultralytics' own predict() in a loop over OpenCV's frames (extra `lab`); its weights are those that
                  `lab detector` left: the engine that ships was exported from them
    plain         OpenCV's frames and the two ONNX files in ONNX Runtime
    roboflow      InferencePipeline.init_with_custom_logic of the package `inference`, in the interpreter --roboflow

The classifier is the same ONNX file everywhere. A contestant that can't run is named with its error.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

SIZE: Final = 320  # pixels; what the detector's ONNX file takes
CONFIDENCE, OVERLAP = 0.37, 0.5  # of the shipped detector


class Row(NamedTuple):
    """What all contestants of a row get. ``cores`` 0: all; ``size``: (width, height) of the films; ``every`` and
    ``search``: which frames the peers search, and at how many pixels."""

    cores: int
    streams: int
    size: tuple[int, int]
    every: int
    search: int


ROWS: Final = {"equal": Row(1, 1, (1920, 1080), 5, SIZE), "usual": Row(0, 8, (1280, 720), 1, 640)}
TARGETS: Final = {("equal", "ultralytics"): 2.0, ("usual", "ultralytics"): 8.0, ("usual", "roboflow"): 3.0}
ENGINES: Final = Path(__file__).resolve().parents[1] / "engines"


class Faces:
    """The classifier as a plain user runs it: the file in ONNX Runtime, a square round the box, OpenCV's resize."""

    def __init__(self, threads: int) -> None:
        import onnxruntime

        from streamguard.config import Config

        folder = ENGINES / Config().classifier.engine
        self._input = json.loads((folder / "manifest.json").read_text())["input"]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.count = 0

    def classify(self, bgr: Any, box: Sequence[float]) -> None:
        import cv2
        import numpy as np

        height, width = bgr.shape[:2]
        side = max(box[2] - box[0], box[3] - box[1]) / 2
        x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        left, top, right, bottom = (round(v) for v in (x - side, y - side, x + side, y + side))
        face = bgr[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
        if not face.size:
            return
        size = (self._input["width"], self._input["height"])
        rgb = cv2.cvtColor(cv2.resize(face, size, interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        mean, std = (np.array(self._input[name], np.float32) for name in ("mean", "std"))
        planes = ((rgb / np.float32(self._input["scale"]) - mean) / std).transpose(2, 0, 1)[None]
        self._session.run(None, {self._input["name"]: np.ascontiguousarray(planes, np.float32)})
        self.count += 1


def looped(clip: Path, streams: int, every: int, see: Callable[[Any], Any], faces: Faces) -> int:
    """OpenCV's frames of several files in turn; returns how many there were. ``see``: a BGR picture to boxes."""
    import cv2

    films, count, index = [cv2.VideoCapture(str(clip)) for _ in range(streams)], 0, 0
    while films:
        for film in list(films):
            found, bgr = film.read()
            if not found:
                films.remove(film)
                continue
            count += 1
            if index % every == 0:
                for box in see(bgr):
                    faces.classify(bgr, box)
        index += 1
    return count


def streamguard(clip: Path, row: str, options: argparse.Namespace) -> dict[str, float]:
    """This package, warmed up by one run."""
    from streamguard.bench import Runner
    from streamguard.config import Config

    config = Config()
    if row == "equal":
        detector, classifier = (
            choice.model_copy(update={"variant": "fp32"}) for choice in (config.detector, config.classifier)
        )
        sampling = replace(config.sampling, detect_every=ROWS[row].every)
        config = config.model_copy(update={"detector": detector, "classifier": classifier, "sampling": sampling})
    with Runner(config) as runner:
        runner.run(clip, 1)
        run = runner.run(clip, ROWS[row].streams)
    return {"fps": run.fps, "classified": run.classified}


def ultralytics(clip: Path, row: str, options: argparse.Namespace) -> dict[str, float]:
    """Its search in a plain loop."""
    return timed(clip, row, predicted(row, options))


def predicted(row: str, options: argparse.Namespace) -> Callable[[Any], Any]:
    """ultralytics' predict() as its documentation has it: a BGR picture to boxes."""
    import torch
    from ultralytics import YOLO

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    model, size = YOLO(str(options.weights)), ROWS[row].search

    def see(bgr: Any) -> Any:
        result = model.predict(bgr, imgsz=size, conf=CONFIDENCE, iou=OVERLAP, verbose=False)[0]
        return result.boxes.xyxy.tolist()

    return see


def plain(clip: Path, row: str, options: argparse.Namespace) -> dict[str, float]:
    """The detector's file in ONNX Runtime, prepared and suppressed by OpenCV. Its size is fixed, in both rows."""
    import cv2
    import numpy as np
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(str(ENGINES / "face-yolov8n" / "model.onnx"), settings)
    name = session.get_inputs()[0].name

    def see(bgr: Any) -> Any:
        scale = SIZE / max(bgr.shape[:2])
        small = cv2.resize(bgr, None, fx=scale, fy=scale)
        canvas = np.full((SIZE, SIZE, 3), 114, np.uint8)
        canvas[: small.shape[0], : small.shape[1]] = small
        raw = session.run(None, {name: cv2.dnn.blobFromImage(canvas, 1 / 255, swapRB=True)})[0][0].T
        raw = raw[raw[:, 4] >= CONFIDENCE]
        boxes = np.column_stack((raw[:, :2] - raw[:, 2:4] / 2, raw[:, 2:4])) / scale
        kept = cv2.dnn.NMSBoxes(boxes.tolist(), raw[:, 4].tolist(), CONFIDENCE, OVERLAP)
        return [(x, y, x + w, y + h) for x, y, w, h in boxes[np.asarray(kept, int).ravel()]]

    return timed(clip, row, see)


def timed(clip: Path, row: str, see: Callable[[Any], Any]) -> dict[str, float]:
    """A loop over one file to warm up, then the row's."""
    faces, every = Faces(len(os.sched_getaffinity(0))), ROWS[row].every
    looped(clip, 1, every, see, faces)
    faces.count, started = 0, time.perf_counter()
    count = looped(clip, ROWS[row].streams, every, see, faces)
    return {"fps": count / (time.perf_counter() - started), "classified": faces.count / count}


def roboflow(clip: Path, row: str, options: argparse.Namespace) -> dict[str, float]:
    """Its pipeline, with ultralytics' search and the classifier as custom logic."""
    from inference import InferencePipeline  # type: ignore[import-not-found]

    see, faces, frames = predicted(row, options), Faces(len(os.sched_getaffinity(0))), [0]

    def judge(batch: Any) -> list[None]:
        for frame in batch:
            if frames[0] % ROWS[row].every == 0:
                for box in see(frame.image):
                    faces.classify(frame.image, box)
            frames[0] += 1
        return [None] * len(batch)

    def run(streams: int) -> float:
        frames[0] = faces.count = 0
        pipeline = InferencePipeline.init_with_custom_logic(
            video_reference=[str(clip)] * streams, on_video_frame=judge, on_prediction=lambda *_: None
        )
        started = time.perf_counter()
        pipeline.start(use_main_thread=True)
        pipeline.join()
        return frames[0] / (time.perf_counter() - started)

    run(1)
    fps = run(ROWS[row].streams)
    return {"fps": fps, "classified": faces.count / frames[0]}


CONTESTANTS: Final[dict[str, Callable[[Path, str, argparse.Namespace], dict[str, float]]]] = {
    "streamguard": streamguard,
    "ultralytics": ultralytics,
    "plain": plain,
    "roboflow": roboflow,
}


def child(options: argparse.Namespace) -> None:
    """One contestant, once; the last line of standard output is its report."""
    cores = ROWS[options.row].cores
    if cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    print(json.dumps(CONTESTANTS[options.contestant](options.clip, options.row, options)))


def turn(name: str, row: str, clip: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A contestant in a process of its own."""
    python = options.roboflow if name == "roboflow" else sys.executable
    command = [python, __file__, "--contestant", name, "--row", row, "--clip", str(clip)]
    command += ["--weights", str(options.weights)] if options.weights else []
    if name in ("ultralytics", "roboflow") and not options.weights:
        return {"error": "needs --weights, which `streamguard lab detector` writes"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.limit)
    except subprocess.TimeoutExpired:
        return {"error": f"took over {options.limit} s"}
    if done.returncode:  # a traceback ends with what was wrong
        return {"error": (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def contest(row: str, clip: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row: all contestants in turn, ``rounds`` times."""
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.rounds):
        for name, reports in turns.items():
            if not any("error" in report for report in reports):
                reports.append(turn(name, row, clip, options))
    found = []
    for name, reports in turns.items():
        figures = next((report for report in reports if "error" in report), None)
        if figures is None:
            figures = {key: statistics.median(report[key] for report in reports) for key in ("fps", "classified")}
        found.append({"row": row, "contestant": name} | figures)
    ours = found[0].get("fps")
    for one in found[1:]:
        if ours and "fps" in one:
            one["ratio"] = round(ours / one["fps"], 2)
            one["target"] = TARGETS.get((row, one["contestant"]))
    return found


def said(one: dict[str, Any]) -> str:
    """A line of the table."""
    start = f"{one['row']:>7}{one['contestant']:>14}"
    if "error" in one:
        return f"{start}  not run: {one['error']}"
    ratio = f"  StreamGuard x{one['ratio']}" if "ratio" in one else ""
    target = f" (target {one['target']:g})" if one.get("target") else ""
    return f"{start}{one['fps']:>9.1f} frames/s{one['classified']:>8.2f} faces classified a frame{ratio}{target}"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="best.pt of `lab detector`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=12, help="of each clip")
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--roboflow", default=sys.executable, help="an interpreter that has the package `inference`")
    parser.add_argument("--limit", type=float, default=600, help="seconds that a turn may take")
    parser.add_argument("--json", action="store_true")
    for hidden in ("--contestant", "--row"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        child(options)
        return
    from streamguard.bench import machine, make_clip

    report: dict[str, Any] = {"machine": machine(), "date": datetime.now(UTC).date().isoformat(), "rows": []}
    if not options.json:
        print(f"{report['machine']}, {report['date']}")
    with tempfile.TemporaryDirectory(prefix="streamguard-peers-") as folder:
        for row in options.rows.split(","):
            clip = make_clip(Path(folder) / f"{row}.mp4", seconds=options.seconds, size=ROWS[row].size)
            found = contest(row, clip, options)
            report["rows"] += found
            if not options.json:
                print("\n".join(map(said, found)), flush=True)
    if options.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
