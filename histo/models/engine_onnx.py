"""Scoring with ONNX Runtime on the CPU: exported once, kept in the user's cache, trusted only after a comparison.

When a model is exported, torch and ONNX Runtime score real tiles of the slide at hand and a made-up picture. The export
is kept with torch's answer for that picture (no pixel of a slide is), and every later start scores the picture again:
so this build on this machine is known to compute what torch does, without importing torch.
"""

import hashlib
import io
import json
import os
import zipfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from histo.files import whole
from histo.models.bundle import Model
from histo.models.engine import PARITY, Sample, Tiles, log, passes_of, usable_cores

FORMAT = 1  # of the cached file; another number is another file
OPSET = 17
_GRAPH, _ANSWER = "graph.onnx", "answer.npy"


class ParityError(Exception):
    """ONNX Runtime cannot export, load or reproduce a network; torch is used instead."""


class OnnxEngine:
    """Scores tiles on `cores` lanes of one thread each; see `histo.models.engine.Engine`.

    Raises `ParityError` when a probability differs from torch's by more than 0.001, or nothing can be exported.
    """

    name = "onnx"
    device = "cpu"

    def __init__(self, model: Model, cores: int | None, sample: Sample, cache: Path | None = None) -> None:
        self.lanes = cores or usable_cores()
        self.batch_size = passes_of(model.card.tile.size_px)
        self.why = f"ONNX Runtime {onnxruntime.__version__} on cpu: fastest there, agrees with torch within {PARITY:g}"
        path = (cache or cache_folder()) / f"{_key(model)}.zip"
        picture = made_up_tile(model.card.tile.size_px)
        kept = _read(path)
        if kept is not None:
            try:
                self._session = _session(kept[0])
                _compare(self.score(picture), kept[1], "the kept export on a made-up tile")
                return
            except ParityError as error:
                log.info("%s is made again: %s", path, error)
        graph, answer = self._export(model, sample, picture)
        _keep(path, graph, answer)

    def score(self, tiles: Tiles) -> NDArray[np.float32]:
        """Return probabilities (B, C, h, w) of tiles (B, S, S, 3) uint8."""
        found: NDArray[np.float32] = self._session.run(None, {"tiles": tiles})[0]
        return found

    def _export(self, model: Model, sample: Sample, picture: Tiles) -> tuple[bytes, NDArray[np.float32]]:
        from histo.models.engine_torch import flushed_denormals
        from histo.models.onnx_export import export, reference

        graph = export(model)
        self._session = _session(graph)
        tiles = np.concatenate([picture, sample()])
        with flushed_denormals():
            wanted = reference(model, tiles)
        found = np.concatenate([self.score(tile[None]) for tile in tiles])
        _compare(found, wanted, f"{len(tiles) - 1} tiles of the slide and a made-up one")
        return graph, wanted[:1]


def cache_folder() -> Path:
    """Return where exports are kept: `histo` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "histo"


def made_up_tile(size_px: int) -> Tiles:
    """Return one tile (1, S, S, 3) uint8 with structure at all scales in the colours of H&E."""
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.float64)
    waves = [np.sin(x * y / (61 + 23 * c)) * 45 + np.cos((x * (c + 1) + y) / 11) * 40 for c in range(3)]
    colour = np.array([190.0, 130.0, 170.0])
    tile: Tiles = np.clip(np.stack(waves, axis=-1) + colour, 0, 255).astype(np.uint8)
    return tile[None]


def _key(model: Model) -> str:
    parts = [model.digest, *(version(name) for name in ("histo", "torch", "onnx", "onnxruntime")), FORMAT, OPSET]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base class of their own
        raise ParityError(f"it cannot load the network ({str(error)[:200]})") from error


def _compare(found: NDArray[np.float32], wanted: NDArray[np.float32], what: str) -> None:
    if found.shape != wanted.shape:
        raise ParityError(f"on {what} it gives maps of shape {found.shape}, torch {wanted.shape}")
    worst = float(np.abs(found - wanted).max())
    if not worst <= PARITY:
        raise ParityError(f"on {what} a probability differs from torch's by {worst:.2g}, more than {PARITY:g}")


def _read(path: Path) -> tuple[bytes, NDArray[np.float32]] | None:
    """Return a kept export and torch's answer; None when there is none that is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.read(_GRAPH), np.load(io.BytesIO(archive.read(_ANSWER)), allow_pickle=False)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None


def _keep(path: Path, graph: bytes, answer: NDArray[np.float32]) -> None:
    """Keep an export for later runs; a cache that cannot be written costs only time."""
    numbers = io.BytesIO()
    np.save(numbers, answer, allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_GRAPH, graph)
            archive.writestr(_ANSWER, numbers.getvalue())
    except OSError as error:
        log.info("the ONNX export cannot be kept in %s (%s); it is made again at every start", path.parent, error)
