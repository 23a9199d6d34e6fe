"""The meshes of a face store's real faces, in an HDF5 file beside it: ``faces.h5`` -> ``faces.mesh.h5``.

A mesh takes some milliseconds, and a face is forged many times. The file is bound to its store by a hash of the store's
rows and written source by source, so that a broken run goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
from rich.console import Console
from rich.progress import track

from streamguard.errors import InputMissing, InputUnreadable, PictureSize
from streamguard.frames import F32, U8
from streamguard.lab.data import SOURCES, FaceStore
from streamguard.lab.forge.base import Ground
from streamguard.lab.forge.colour import skin_of
from streamguard.lab.forge.geometry import outline
from streamguard.lab.forge.mesh import POINTS, SHA256, MeshFinder, fitted

Finder = Callable[[U8, F32], F32 | None]
_CHUNK: Final = 16  # meshes; they are read one at a time
_LOG = logging.getLogger(__name__)


def mesh_path(store: FaceStore) -> Path:
    """Where a store's meshes lie."""
    return store.path.with_name(f"{store.path.stem}.mesh.h5")


def digest_of(store: FaceStore) -> str:
    """SHA-256 of the store's rows: which faces it holds, in which order, and where in their pictures."""
    digest = hashlib.sha256(SHA256.encode())
    for source in SOURCES:
        digest.update(source.encode() + b"\0" + np.ascontiguousarray(store.rows(source)).tobytes())
    return digest.hexdigest()


class Meshes:
    """The meshes of a store. Rows as in the store; those without a mesh (fakes, faces it failed on) are not measured.

    Raises:
        InputMissing: no such file, or not all of it.
        InputUnreadable: it belongs to another store.
    """

    def __init__(self, store: FaceStore) -> None:
        self.store, self.path = store, mesh_path(store)
        self._file: h5py.File | None = None
        if not self.path.is_file():
            raise InputMissing(f"meshes '{self.path}' do not exist. Make them with `streamguard lab forge`.")
        digest = digest_of(store)
        with h5py.File(self.path, "r") as file:
            if file.attrs.get("store") != digest:
                raise InputUnreadable(
                    f"'{self.path}' belongs to other faces than '{store.path}' holds. Delete it; it is made anew."
                )
            lacking = [s for s in SOURCES if store.rows(s).size and not (s in file and file[s].attrs["complete"])]
            if lacking:
                raise InputMissing(f"'{self.path}' lacks {', '.join(lacking)}. Finish it with `streamguard lab forge`.")

    def __getstate__(self) -> dict[str, Any]:
        """What a process that makes batches takes along: all but the open file."""
        return {**self.__dict__, "_file": None}

    def ground(self, source: str, index: int) -> Ground:
        """A face with its mesh; where the network failed, the mean face over its landmarks.

        Raises:
            PictureSize: landmarks that nothing can be laid over.
        """
        sample = self.store.read(source, index)
        mesh = self.mesh(source, index)
        measured = bool(np.isfinite(mesh).all())
        if not measured and not np.isfinite(sample.landmarks).all():
            raise PictureSize(f"face {index} of '{source}' has landmarks that are no numbers: it can't be forged.")
        group = self.store.rows(source)["group"][index].decode()
        mesh = mesh if measured else fitted(sample.landmarks)
        return Ground(sample.rgb, sample.box, sample.landmarks, mesh, f"{source}/{group}", measured)

    def mesh(self, source: str, index: int) -> F32:
        """(468, 2) float32 pixels; not a number where there is none."""
        return np.asarray(self._open()[source]["points"][index], np.float32)

    def points(self, source: str, rows: np.ndarray, indices: list[int]) -> F32:
        """(N, K, 2) float32: some points of some faces."""
        return np.asarray(self._open()[source]["points"][:][rows][:, indices], np.float32)

    def lacking(self, source: str, rows: np.ndarray) -> int:
        """How many of some faces have no mesh."""
        return int(np.isnan(self.points(source, rows, [0])).any((1, 2)).sum())

    def skins(self, source: str, rows: np.ndarray) -> F32:
        """(N, 3) float32: mean colours of some faces, CIE Lab."""
        return np.asarray(self._open()[source]["skin"][:][rows], np.float32)

    def _open(self) -> h5py.File:
        if self._file is None:
            self._file = h5py.File(self.path, "r")
        return self._file


def build_meshes(store: FaceStore, finder: Finder | None = None, console: Console | None = None) -> Meshes:
    """Find the mesh of every real face once; sources already complete are kept.

    Raises:
        InputMissing: the mesh network is not installed.
        InputUnreadable: the file belongs to another store.
    """
    path, digest = mesh_path(store), digest_of(store)
    if path.is_file():
        try:
            return Meshes(store)
        except InputMissing:
            _LOG.info("going on with %s", path)
    finder = finder or MeshFinder()
    console = console or Console(stderr=True)
    with h5py.File(path, "a") as file:
        file.attrs["store"] = digest
        for source in SOURCES:
            if not store.rows(source).size or (source in file and file[source].attrs["complete"]):
                continue
            if source in file:
                del file[source]
            _write_source(file.create_group(source), store, source, finder, console)
    return Meshes(store)


def _write_source(group: h5py.Group, store: FaceStore, source: str, finder: Finder, console: Console) -> None:
    group.attrs["complete"] = False
    rows = store.rows(source)
    points = np.full((len(rows), POINTS, 2), np.nan, np.float32)
    skins = np.full((len(rows), 3), np.nan, np.float32)
    real = np.flatnonzero(rows["label"] == 0)
    failed = 0
    for index in track(real.tolist(), f"meshes of {source}", console=console, disable=not console.is_terminal):
        sample = store.read(source, index)
        mesh = finder(sample.rgb, sample.landmarks) if np.isfinite(sample.landmarks).all() else None
        if mesh is None:
            failed += 1
        else:
            points[index], skins[index] = mesh, skin_in(sample.rgb, mesh)
    chunks = (min(_CHUNK, len(rows)), POINTS, 2)
    group.create_dataset("points", data=points, chunks=chunks, compression="lzf")
    group.create_dataset("skin", data=skins)
    group.attrs["complete"] = True
    _LOG.info("%s: meshes of %d faces; %d failed and take the mean face", source, real.size, failed)


def skin_in(rgb: U8, mesh: F32) -> F32:
    """(3,) float32: the mean colour within a mesh's oval, CIE Lab."""
    height, width = rgb.shape[:2]
    return skin_of(rgb, outline("oval", mesh, (width, height)))
