"""What a detector must beat: a constant, picture quality alone, classical features, and small nets.

None of them knows more than the classifier: what is fitted is fitted on one pool of the fit part
(:mod:`streamguard.lab.pool`), and each is put on its scale by the calibration part like any subject. MesoNet comes as
it was published, with the supplied weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import cv2
import h5py
import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from torch.nn import functional as nn

from streamguard.decision.calibration import Temperature
from streamguard.errors import InputMissing, InputUnreadable
from streamguard.frames import F32, U8
from streamguard.lab.augment import Crop
from streamguard.lab.model import MOBILENET, TWO_CONVOLUTIONS
from streamguard.lab.pool import Pool, PoolBatches, PoolConfig
from streamguard.lab.probe import quality_features
from streamguard.lab.subjects import Subject, run_subject
from streamguard.lab.train import TrainConfig, fit, load_state

MESONET: Final = "weights/Meso4_DF.h5"
NETS: Final = {"two convolutions": TWO_CONVOLUTIONS, "MobileNetV3-small": MOBILENET}
_MESO_CROP: Final = Crop(256, 0.0)
_BANDS: Final = 24
_QUANTISED: Final = 2  # residuals are rounded to -2..2
Features = Callable[[U8], F32]


@dataclass(frozen=True, slots=True)
class NetConfig:
    """How the small nets are trained. ``steps`` of ``batch`` pictures out of the pool, from scratch."""

    steps: int = 300
    batch: int = 32
    threads: int = 1
    seed: int = 1
    rate: float = 1e-3


def constant(crop: Crop) -> Subject:
    """Says nothing: AUC 0.5, and the ECE of even odds."""
    return Subject("constant", crop, lambda pictures: np.zeros(len(pictures), np.float32), Temperature())


def forensic_features(rgb: U8) -> F32:
    """(73,) float32 of one crop: its spectrum in rings, its blocks' DCT, and the co-occurrence of its residuals.

    Rings after R. Durall et al., "Watch your Up-Convolution", CVPR 2020 (arXiv:2003.01826); DCT after J. Frank et al.,
    "Leveraging Frequency Analysis for Deep Fake Image Recognition", ICML 2020 (arXiv:2003.08685); residuals after
    J. Fridrich and J. Kodovsky, "Rich Models for Steganalysis of Digital Images", IEEE TIFS 7(3), 2012.
    """
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return np.concatenate((_rings(grey), _blocks(grey), _residuals(grey))).astype(np.float32)


def _rings(grey: F32) -> F32:
    """(24,): mean logarithm of the power in rings of equal width, the mean taken off."""
    power = np.log(np.abs(np.fft.fft2(grey - grey.mean())) ** 2 + 1)
    ring = _ring_index(*grey.shape)
    known = ring < _BANDS
    total = np.bincount(ring[known], power[known], _BANDS)
    means = total / np.maximum(np.bincount(ring[known], minlength=_BANDS), 1)
    return np.asarray(means - means.mean(), np.float32)


@cache
def _ring_index(height: int, width: int) -> np.ndarray:
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    return (radius / 0.5 * _BANDS).astype(np.int64)


def _blocks(grey: F32) -> F32:
    """(24,): logarithm of the spread of the first 24 oblique DCT coefficients of 8x8 blocks."""
    height, width = (side // 8 * 8 for side in grey.shape)
    blocks = grey[:height, :width].reshape(height // 8, 8, width // 8, 8).transpose(0, 2, 1, 3).reshape(-1, 8, 8)
    basis = _dct_basis()
    spread = np.log(np.abs(basis @ blocks @ basis.T).mean(0) + 0.1)
    order = np.argsort(np.add.outer(np.arange(8), np.arange(8)).ravel(), kind="stable")[1:25]
    return np.asarray(spread.ravel()[order], np.float32)


@cache
def _dct_basis() -> F32:
    """(8, 8), orthonormal, type II."""
    place = np.arange(8)
    basis = np.sqrt(2 / 8) * np.cos(np.pi * (2 * place[None] + 1) * place[:, None] / 16)
    basis[0] /= np.sqrt(2)
    return np.asarray(basis, np.float32)


def _residuals(grey: F32) -> F32:
    """(25,): how often neighbouring residuals of the second order take each pair of values."""
    second = grey[:, :-2] - 2 * grey[:, 1:-1] + grey[:, 2:]
    steps = np.clip(np.rint(second / 2), -_QUANTISED, _QUANTISED).astype(np.int64) + _QUANTISED
    values = 2 * _QUANTISED + 1
    pairs = np.bincount((steps[:, :-1] * values + steps[:, 1:]).ravel(), minlength=values * values)
    return np.asarray(np.log(pairs / pairs.sum() + 1e-4), np.float32)


def regression(name: str, features: Features, pool: Pool, config: PoolConfig) -> Subject:
    """Logistic regression on the features of a pool's couples."""
    pictures = pool.pictures.reshape(-1, *pool.pictures.shape[2:])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    model.fit(_table(pictures, features), np.tile([0, 1], len(pool.pictures)))
    return Subject(name, config.crop, lambda given: _decided(model, given, features))


def _table(pictures: U8, features: Features) -> F32:
    return np.stack([features(picture) for picture in pictures])


def _decided(model: Pipeline, pictures: U8, features: Features) -> F32:
    if not len(pictures):
        return np.zeros(0, np.float32)
    return np.asarray(model.decision_function(_table(pictures, features)), np.float32)


def trained_net(name: str, pool: Pool, config: PoolConfig, net: NetConfig, out: Path) -> Subject:
    """A small net trained through the loop of `lab train`, as far as ``out`` does not hold it."""
    training = TrainConfig(
        size=config.size, margin=config.margin, batch=net.batch, steps=net.steps, seed=net.seed, threads=net.threads,
        rate=net.rate, pretrained=False, architecture=NETS[name], warm_up=min(100, net.steps // 4 + 1),
    )  # fmt: skip
    held = (out / "last.pt").is_file()
    if not held or int(load_state(out)["step"]) < net.steps:
        rows = np.arange(len(pool.pictures))
        fit(PoolBatches(pool, rows, net.batch, net.seed), out, training, resume=held, workers=0)
    return replace(run_subject(out), name=name)


class MesoNet:
    """Meso4 from its authors' Keras weights. Its output says how real a face is; here the sign is turned.

    D. Afchar et al., "MesoNet: a Compact Facial Video Forgery Detection Network", WIFS 2018 (arXiv:1809.00888).

    Raises:
        InputMissing: no such weights. InputUnreadable: the file holds another net.
    """

    def __init__(self, weights: Path) -> None:
        if not weights.is_file():
            raise InputMissing(f"'{weights}' does not exist. Point STREAMGUARD_DATA at the data folder.")
        try:
            with h5py.File(weights, "r") as file:
                self._layers = [self._layer(file, number) for number in range(5, 9)]
                self._dense = [_tensors(file, f"dense_{number}", "kernel", "bias") for number in (3, 4)]
        except (KeyError, OSError) as error:
            raise InputUnreadable(f"'{weights}' holds no Meso4: {error}. Use the authors' Meso4_DF.h5.") from error

    @staticmethod
    def _layer(file: h5py.File, number: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        kernel, bias = _tensors(file, f"conv2d_{number}", "kernel", "bias")
        norm = _tensors(file, f"batch_normalization_{number}", "moving_mean", "moving_variance", "gamma", "beta")
        return [kernel.permute(3, 2, 0, 1).contiguous(), bias], norm

    @torch.no_grad()
    def __call__(self, pictures: U8, batch: int = 16) -> F32:
        """(N, 256, 256, 3) uint8 RGB -> (N,) logits, positive = fake."""
        parts = [self._logits(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _logits(self, pictures: U8) -> F32:
        x = torch.from_numpy(pictures.astype(np.float32) / 255).permute(0, 3, 1, 2)
        for (kernel, bias), (mean, variance, gamma, beta) in self._layers:
            x = nn.relu(nn.conv2d(x, kernel, bias, padding="same"))
            x = nn.batch_norm(x, mean, variance, gamma, beta, eps=1e-3)
            x = nn.max_pool2d(x, 4 if x.shape[-1] == 32 else 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # the weights are in the order of rows, columns, channels
        (first, first_bias), (second, second_bias) = self._dense
        x = nn.leaky_relu(x @ first + first_bias, 0.1)
        return np.asarray(-(x @ second + second_bias)[:, 0].numpy(), np.float32)


def _tensors(file: h5py.File, layer: str, *names: str) -> list[torch.Tensor]:
    return [torch.from_numpy(np.asarray(file[f"{layer}/{layer}/{name}:0"], np.float32)) for name in names]


def mesonet(data: Path) -> Subject:
    """MesoNet by the weights in the data folder."""
    return Subject("MesoNet (Meso4_DF)", _MESO_CROP, MesoNet(data / MESONET))


def quality(pool: Pool, config: PoolConfig) -> Subject:
    """The audit's probe: sharpness, blockiness, colour moments."""
    return regression("quality probe", quality_features, pool, config)


def forensic(pool: Pool, config: PoolConfig) -> Subject:
    """Spectrum, DCT and residuals."""
    return regression("FFT, DCT, SRM features", forensic_features, pool, config)
