"""A face store of made pictures: one public-domain portrait, tinted, blurred and moved anew for each face."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from streamguard.ingest.demo import LANDMARKS


def portrait(seed: int, side: int = 96) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(side, side, 3) uint8 RGB, box (x1, y1, x2, y2) and (5, 2) landmarks, pixels."""
    rng = np.random.default_rng(seed)
    data = files("streamguard.ingest").joinpath("astronaut.webp").read_bytes()
    rgb = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    x, y = rng.integers(138, 158), rng.integers(30, 50)
    scale = side / 160
    rgb = cv2.resize(rgb[y : y + 160, x : x + 160], (side, side), interpolation=cv2.INTER_AREA)
    tint = rng.uniform(0.7, 1.2, 3)
    rgb = np.clip(rgb * tint + rng.normal(0, 3, rgb.shape), 0, 255).astype(np.uint8)
    box = (np.array([178.0, 62.0, 270.0, 172.0]) - [x, y, x, y]) * scale
    return rgb, box, ((LANDMARKS - [x, y]) * scale).astype(np.float32)


@pytest.fixture(scope="session")
def made_store(tmp_path_factory):
    """Every source and part; fakes are inverted in the middle, so that a net has something to learn."""
    return make_store(tmp_path_factory.mktemp("faces") / "faces.h5")


@pytest.fixture(scope="session")
def meshed_store(tmp_path_factory):
    """As ``made_store``, with faces large enough for every family, and a mesh for each: no package is needed for it."""
    from streamguard.lab.forge.mesh import fitted
    from streamguard.lab.forge.meshfile import build_meshes

    store = make_store(tmp_path_factory.mktemp("meshed") / "faces.h5", side=112)
    rng = np.random.default_rng(0)

    def finder(rgb, landmarks):
        """The mean face, pulled by a pixel or two: no two faces are alike."""
        pulled = landmarks + rng.normal(0, 1.5, landmarks.shape)
        return fitted(pulled.astype(np.float32)) + rng.normal(0, 0.3, (468, 2)).astype(np.float32)

    build_meshes(store, finder)
    return store


def make_store(path: Path, parts=("fit", "search", "calibration", "measure"), side: int = 96):
    """As ``made_store``, at ``path``, with these parts alone."""
    h5py = pytest.importorskip("h5py")
    from streamguard.lab import data

    with h5py.File(path, "w") as file:
        seed = 0
        for source in data.SOURCES:
            pictures, rows = [], []
            for part in parts:
                for number in range(24 if source == "talking" else 8):
                    label = int(source in data.STILLS and number % 2)
                    seed += 1
                    rgb, box, landmarks = portrait(seed, side)
                    if label:
                        rgb[34:80, 30:70] = 255 - rgb[34:80, 30:70]
                    pictures.append(cv2.imencode(".png", rgb[..., ::-1])[1].ravel())
                    group = f"{part}{number // 12}" if source == "talking" else f"{source}{part}{number // 2}"
                    rows.append((label, part, group, 0.25 * (number % 12), tuple(box), landmarks))
            made = file.create_group(source)
            stored = made.create_dataset("pictures", (len(rows),), dtype=h5py.vlen_dtype(np.uint8))
            for i, encoded in enumerate(pictures):
                stored[i] = encoded
            made.create_dataset("rows", data=np.array(rows, data._ROW))
            made.attrs["complete"] = True
    return data.FaceStore(Path(path))


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory):
    """A classifier that calls dark faces fake: the made store's, whose fakes are inverted in the middle."""
    return make_engine(tmp_path_factory.mktemp("engines") / "tiny")


def make_engine(folder: Path, gain: float = 10.0) -> Path:
    """An engine folder whose logit is ``-gain`` times the mean of a face of 32 px."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("torch")
    from streamguard.lab import export

    shapes = [("face", ["n", 3, 32, 32]), ("logit", ["n", 1])]
    face, logit = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes)
    constants = [onnx.numpy_helper.from_array(np.array(value), name) for name, value in
                 (("axes", np.arange(1, 4)), ("gain", np.float32([-gain])), ("shape", np.array([-1, 1])))]  # fmt: skip
    nodes = [onnx.helper.make_node("ReduceMean", ["face", "axes"], ["mean"], keepdims=0),
             onnx.helper.make_node("Mul", ["mean", "gain"], ["scaled"]),
             onnx.helper.make_node("Reshape", ["scaled", "shape"], ["logit"])]  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "tiny", [face], [logit], constants)
    folder.mkdir(parents=True)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    point = {"default": {"threshold": 1.0, "promise": "Made for a test."}}
    facts = export.Facts(folder.name, "0.0.1", "2026-01-01", 32, 0.0, {"fp32": (1.0, 0.0)}, {"fp32": point})
    export.write_manifest(folder, export.manifest({"fp32": folder / "model.onnx"}, facts))
    (folder / "CARD.md").write_text("# tiny\n\nMade for a test.\n")
    return folder
