"""Pictures of faces that nobody minds: the public-domain astronaut, and one that is drawn."""

from __future__ import annotations

from importlib.resources import files

import cv2
import numpy as np


def picture() -> np.ndarray:
    """The astronaut, (512, 512, 3) uint8 RGB."""
    data = files("streamguard.ingest").joinpath("astronaut.webp").read_bytes()
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def drawn(side: int = 240, skin: tuple[int, int, int] = (196, 150, 120)) -> tuple[np.ndarray, np.ndarray]:
    """A face of ellipses on a grainy ground, (side, side, 3) uint8 RGB, and its five landmarks."""
    rng = np.random.default_rng(side)
    rgb = np.full((side, side, 3), (70, 90, 110), np.uint8)
    points = np.array([[0.37, 0.42], [0.63, 0.42], [0.5, 0.57], [0.4, 0.7], [0.6, 0.7]], np.float32) * side
    at = [tuple(int(v) for v in p) for p in points]
    cv2.ellipse(rgb, (side // 2, int(0.52 * side)), (int(0.3 * side), int(0.4 * side)), 0, 0, 360, skin, -1)
    for eye in at[:2]:
        cv2.ellipse(rgb, eye, (int(0.07 * side), int(0.035 * side)), 0, 0, 360, (240, 240, 240), -1)
        cv2.circle(rgb, eye, int(0.03 * side), (60, 40, 30), -1)
    cv2.ellipse(rgb, at[2], (int(0.04 * side), int(0.06 * side)), 0, 0, 360, (170, 120, 95), -1)
    cv2.ellipse(rgb, (side // 2, int(0.7 * side)), (int(0.1 * side), int(0.03 * side)), 0, 0, 360, (150, 60, 60), -1)
    grain = rng.normal(0, 4, rgb.shape)
    return np.clip(cv2.GaussianBlur(rgb, (0, 0), 1.2) + grain, 0, 255).astype(np.uint8), points
