"""The face classifier: how a face becomes its input, and its output a calibrated logit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamguard import pixels
from streamguard.errors import EngineForeign
from streamguard.frames import U8, Box, Picture
from streamguard.inference.engines import Engine


@dataclass(frozen=True, slots=True)
class FaceInput:
    """The crop a classifier was trained on, as its manifest states it."""

    size: int
    margin: float

    @classmethod
    def of(cls, engine: Engine) -> FaceInput:
        """From a checked manifest.

        Raises:
            EngineForeign: not a classifier of square faces.
        """
        spec: Mapping[str, Any] = engine.manifest["preprocessing"]
        if engine.task != "classify" or spec["kind"] != "face-square" or engine.input.width != engine.input.height:
            raise EngineForeign(
                f"engine '{engine.name}' (task '{engine.task}') is no classifier of square faces. Name one that is."
            )
        return cls(engine.input.width, float(spec["margin"]))

    def prepare(self, picture: Picture, box: Box) -> U8:
        """The crop of one face, (S, S, 3) uint8 RGB."""
        return pixels.crop(picture, box, self.size, self.margin)
