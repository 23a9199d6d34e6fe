"""YOLOv8n, one class, from scratch: ultralytics' trainer with what makes it fit one CPU core.

Three changes to the stock trainer, each for speed or for short runs:

- memory is laid out channels-last, which ultralytics does on CUDA only (one Zen 5 core, 320 px: 10.5 -> 14.9
  pictures/s);
- the first share of the epochs runs on shrunk batches (224 px: 28.9 pictures/s), the rest at full size;
- the learning rate follows a cosine batch by batch: with a handful of long epochs, a step per epoch is too coarse.
"""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the outcome of a training, with the reason for each value."""

    epochs: int = 5
    pictures: int = 8000
    size: int = 320
    """Serving size, px."""
    small_size: int = 224
    """Size of the first epochs: 0.49 of the work; 6 px faces are 4 px there, hence not the whole run."""
    small_share: float = 0.6
    held_out: int = 600
    batch: int = 16
    learning_rate: float = 2e-3
    """AdamW; what ultralytics derives for one class (0.002 * 5 / (4 + 1))."""
    final_rate: float = 0.02
    """The last rate as a share of the first."""
    mosaic: float = 0.5
    """Half: the composites already hold many faces."""
    close_mosaic: int = 1
    """Last epochs without mosaic: they see what serving sees."""
    scale: float = 0.5
    degrees: float = 8.0
    seed: int = 0
    threads: int = 1


def isolate(folder: Path) -> None:
    """Keep ultralytics off the network and out of the home folder. Call before its first import."""
    os.environ.update(YOLO_OFFLINE="true", YOLO_AUTOINSTALL="false", YOLO_CONFIG_DIR=str(folder.resolve()))


def rate_at(progress: float, recipe: Recipe) -> float:
    """Learning rate after a share ``progress`` (0..1) of all batches: a half cosine."""
    low = recipe.learning_rate * recipe.final_rate
    return low + (recipe.learning_rate - low) * (1 + math.cos(math.pi * min(1.0, progress))) / 2


def size_at(epoch: int, recipe: Recipe) -> int:
    """Training size of an epoch (from 0), px: small first, then the serving size."""
    return recipe.small_size if epoch < round(recipe.small_share * recipe.epochs) else recipe.size


def overrides(recipe: Recipe, data: Path, folder: Path) -> dict[str, Any]:
    """The ultralytics arguments of a recipe. Whatever is not named keeps ultralytics' default."""
    return {
        "task": "detect", "mode": "train", "model": "yolov8n.yaml", "pretrained": False, "data": str(data),
        "project": str(folder.parent.resolve()), "name": folder.name, "exist_ok": True,
        "epochs": recipe.epochs, "batch": recipe.batch, "nbs": recipe.batch, "imgsz": recipe.size,
        "device": "cpu", "workers": 0, "amp": False, "seed": recipe.seed, "deterministic": True,
        "optimizer": "AdamW", "lr0": recipe.learning_rate, "lrf": recipe.final_rate, "warmup_epochs": 0.3,
        "warmup_bias_lr": 0.0, "mosaic": recipe.mosaic, "close_mosaic": min(recipe.close_mosaic, recipe.epochs),
        "scale": recipe.scale, "degrees": recipe.degrees, "hsv_h": 0.02, "hsv_s": 0.6, "hsv_v": 0.4,
        # Each epoch's weights stay; the measuring is ours, so no validation between epochs, no plots.
        "save_period": 1, "val": False, "plots": False, "single_cls": True,
    }  # fmt: skip


def trainer_class() -> type[Any]:
    """The trainer, built on first use: importing ultralytics takes seconds and reads its environment."""
    import torch
    from torch import nn
    from ultralytics.models.yolo.detect import DetectionTrainer

    class FaceTrainer(DetectionTrainer):
        recipe: Recipe

        def set_model_attributes(self) -> None:
            super().set_model_attributes()
            model: Any = self.model  # type: ignore[has-type]
            self.model = model.to(memory_format=torch.channels_last)

        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            batch = super().preprocess_batch(batch)
            size = size_at(self.epoch, self.recipe)
            images = batch["img"]
            if max(images.shape[2:]) != size:
                images = nn.functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
            batch["img"] = images.contiguous(memory_format=torch.channels_last)
            return batch

        def final_eval(self) -> None:
            """Nothing: the run is measured on its exported files, by detector_measure."""

    return FaceTrainer


def train(recipe: Recipe, data: Path, folder: Path, resume: bool) -> Path:
    """Train into ``folder`` and return the last weights (``weights/last.pt``, moving averages).

    With ``resume`` a broken-off training goes on at its last whole epoch; a finished one is returned as it is.
    """
    isolate(folder.parent / "ultralytics")
    import torch

    torch.set_num_threads(recipe.threads)
    torch.set_flush_denormal(True)
    last = folder / "weights" / "last.pt"
    arguments = overrides(recipe, data, folder)
    if resume and last.is_file():
        done = int(torch.load(last, map_location="cpu", weights_only=False)["epoch"]) + 1
        if done >= recipe.epochs:
            return last
        log.info("resuming after epoch %d of %d", done, recipe.epochs)
        arguments["resume"] = str(last)
    trainer = trainer_class()(overrides=arguments)
    trainer.recipe = recipe
    trainer.epochs = trainer.args.epochs = recipe.epochs  # a resumed checkpoint brings its own
    state = {"batch": 0}

    def epoch_start(_: object) -> None:
        state["batch"] = 0

    def batch_start(running: Any) -> None:
        progress = (running.epoch + state["batch"] / len(running.train_loader)) / recipe.epochs
        for group in running.optimizer.param_groups:
            group["lr"] = rate_at(progress, recipe)
        state["batch"] += 1

    def epoch_end(running: Any) -> None:
        record = folder / "seconds.json"  # results.csv begins at zero again after a resume
        done = json.loads(record.read_text(encoding="utf-8")) if record.is_file() and running.epoch else []
        record.write_text(json.dumps([*done, round(running.epoch_time, 1)]) + "\n", encoding="utf-8")

    trainer.add_callback("on_fit_epoch_end", epoch_end)
    trainer.add_callback("on_train_epoch_start", epoch_start)
    trainer.add_callback("on_train_batch_start", batch_start)
    trainer.train()
    return last


def recorded(recipe: Recipe) -> Mapping[str, Any]:
    """The recipe as plain values, for the run's config.yaml."""
    return asdict(recipe)
