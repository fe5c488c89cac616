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

from histo.files import whole
from histo.models.bundle import Model
from histo.models.engine import PARITY, Sample, Seen, Tiles, log, passes_of, usable_cores

# From 1.29 on it tells Microsoft what it runs, unless told not to; nothing of a laboratory's leaves it.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

FORMAT = 4  # of the cached file; another number is another file
OPSET = 17
_GRAPH, _ANSWERS = "graph.onnx", tuple(f"{name}.npy" for name in Seen._fields)


class ParityError(Exception):
    """ONNX Runtime cannot export, load or reproduce a network; torch is used instead."""


class OnnxEngine:
    """Scores tiles on `cores` lanes of one thread each; see `histo.models.engine.Engine`.

    Raises `ParityError` when a probability differs from torch's by more than 0.001, a feature or the texture by more
    than 0.001 of the largest, or nothing can be exported.
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
                _compare(self._try(picture), kept[1], "the kept export on a made-up tile")
                return
            except ParityError as error:
                log.info("%s is made again: %s", path, error)
        graph, answer = self._export(model, sample, picture)
        _keep(path, graph, answer)

    def see(self, tiles: Tiles) -> Seen:
        """Return what is seen in tiles (B, S, S, 3) uint8."""
        return Seen(*self._session.run(None, {"tiles": tiles}))

    def _export(self, model: Model, sample: Sample, picture: Tiles) -> tuple[bytes, Seen]:
        from histo.models.engine_torch import flushed_denormals
        from histo.models.onnx_export import export, reference

        graph = export(model)
        self._session = _session(graph)
        tiles = sample()
        with flushed_denormals():
            answer, *answers = (reference(model, tile[None]) for tile in (*picture, *tiles))
        _compare(self._try(picture), answer, "a made-up tile")
        for tile, wanted in zip(tiles, answers, strict=True):
            _compare(self._try(tile[None]), wanted, "a tile of the slide")
        return graph, answer

    def _try(self, tiles: Tiles) -> Seen:
        try:
            return self.see(tiles)
        except Exception as error:  # its errors share no base class of their own
            raise ParityError(f"it cannot run the network ({str(error)[:200]})") from error


def cache_folder() -> Path:
    """Return where exports are kept: `histo` in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    try:
        return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "histo"
    except RuntimeError:  # a user without a home: nothing can be kept there, which costs only time
        return Path(os.devnull) / "histo"


def made_up_tile(size_px: int) -> Tiles:
    """Return one tile (1, S, S, 3) uint8 with structure at all scales in the colours of H&E."""
    y, x = np.mgrid[0:size_px, 0:size_px].astype(np.float64)
    waves = [np.sin(x * y / (61 + 23 * c)) * 45 + np.cos((x * (c + 1) + y) / 11) * 40 for c in range(3)]
    colour = np.array([190.0, 130.0, 170.0])
    tile: Tiles = np.clip(np.stack(waves, axis=-1) + colour, 0, 255).astype(np.uint8)
    return tile[None]


def _key(model: Model) -> str:
    # Not by the name of the package: onnxruntime-gpu is the same module.
    parts = [model.digest, *map(version, ("histo", "torch", "onnx")), onnxruntime.__version__, FORMAT, OPSET]
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


def _compare(found: Seen, wanted: Seen, what: str) -> None:
    for name, mine, theirs in zip(Seen._fields, found, wanted, strict=True):
        if mine.shape != theirs.shape:
            raise ParityError(f"on {what} it gives {name} of shape {mine.shape}, torch {theirs.shape}")
    worst = float(np.abs(found.probability - wanted.probability).max())
    if not worst <= PARITY:
        raise ParityError(f"on {what} a probability differs from torch's by {worst:.2g}, more than {PARITY:g}")
    for name, mine, theirs in (
        ("feature", found.features, wanted.features),
        ("texture", found.texture, wanted.texture),
    ):
        # They have no scale of their own.
        worst = float(np.abs(mine - theirs).max() / max(float(np.abs(theirs).max()), 1e-6))
        if not worst <= PARITY:
            raise ParityError(f"on {what} a {name} differs from torch's by {worst:.2g} of the largest")


def _read(path: Path) -> tuple[bytes, Seen] | None:
    """Return a kept export and torch's answer; None when there is none that is whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            answers = (np.load(io.BytesIO(archive.read(name)), allow_pickle=False) for name in _ANSWERS)
            return archive.read(_GRAPH), Seen(*answers)
    except (OSError, zipfile.BadZipFile, KeyError, ValueError, EOFError):
        return None


def _keep(path: Path, graph: bytes, answer: Seen) -> None:
    """Keep an export for later runs; a cache that cannot be written costs only time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            archive.writestr(_GRAPH, graph)
            for name, values in zip(_ANSWERS, answer, strict=True):
                numbers = io.BytesIO()
                np.save(numbers, values, allow_pickle=False)
                archive.writestr(name, numbers.getvalue())
    except OSError as error:
        log.info("the ONNX export cannot be kept in %s (%s); it is made again at every start", path.parent, error)
