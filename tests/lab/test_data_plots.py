"""Plots show the figures that they are given."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

pytest.importorskip("matplotlib")

from streamguard.lab.data_plots import face_sizes, probe_figures, save

pytestmark = pytest.mark.lab

PROBE = {
    "a": {"raw": 0.9, "chain": 0.55},
    "b": {"raw": None, "chain": None},
    "c": {"raw": 0.7, "chain": 0.65},
}


def test_every_face_is_in_the_histogram():
    boxes = np.array([[0, 0, 40, 50], [0, 0, 400, 30], [0, 0, 60, 60]], np.float32)
    figure = face_sizes(boxes, np.array([False, True, False]))
    (axes,) = figure.axes
    heights = [sum(bar.get_height() for bar in of) for of in axes.containers]
    assert heights == [2, 1]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["real (2)", "fake (1)"]


def test_judged_sources_get_two_bars():
    (axes,) = probe_figures(PROBE, 0.6).axes
    assert [[bar.get_width() for bar in of] for of in axes.containers] == [[0.9, 0.7], [0.55, 0.65]]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "c"]


def test_a_plot_is_a_picture_and_repeatable(tmp_path):
    for name in ("a.png", "b.png"):
        save(probe_figures(PROBE, 0.6), tmp_path / name)
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert picture.shape[1] == 720
    assert picture.std() > 10
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
