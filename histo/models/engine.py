"""Engines score batches of tiles; this file is their protocol, the choice among them, and lanes that keep them busy.

Nothing here imports torch before it is needed: on a CPU with ONNX Runtime and a cached export it never is.
"""

import ctypes
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from histo.errors import SlideFailed, UsageError
from histo.models.bundle import Model
from histo.timing import Timings

log = logging.getLogger("histo")

EngineName = Literal["auto", "torch", "onnx"]
Tiles = NDArray[np.uint8]
Sample = Callable[[], Tiles]

PARITY = 1e-3  # two engines are the same engine when no probability differs by more
# One pass over about this many pixels fills a core and stays in its cache; more is slower and takes memory.
PASS_PX = 2**18
_PICKING = threading.Lock()  # torch.fx and the exporter change torch for the whole process while they trace


class Seen(NamedTuple):
    """What an engine says of tiles: calibrated probabilities (B, C, h, w), features (B, F) and texture (B, T).

    The features are the mean of the trunk's output over the cells that are kept of the tile; the texture is what the
    tile is made of, see `histo.models.taps`, by which `histo.models.foreign` compares slides.
    """

    probability: NDArray[np.float32]
    features: NDArray[np.float32]
    texture: NDArray[np.float32]


def check_finite(seen: Seen, path: object) -> None:
    """Raise `SlideFailed` where a network answers with what is no number: no threshold would ever see it."""
    if not all(np.isfinite(part).all() for part in seen):
        raise SlideFailed(
            "not_finite",
            f"{path}: the network's scores are no numbers; run it with --device cpu, and if that gives the same the "
            "model is broken",
        )


class Engine(Protocol):
    """Scores tiles. `lanes` calls may run at once and are fastest together; `batch_size` is what one call likes."""

    name: str
    why: str
    device: str
    lanes: int
    batch_size: int

    def see(self, tiles: Tiles) -> Seen:
        """Return calibrated probabilities, features and texture of tiles (B, S, S, 3) uint8."""
        ...


class HasRgb(Protocol):
    """Whatever carries the tiles of one call."""

    @property
    def rgb(self) -> Tiles:
        """Tiles (B, S, S, 3) uint8."""
        ...


Batch = TypeVar("Batch", bound=HasRgb)


@dataclass
class Engines:
    """The engine of a run, picked once at the first tiles: `wanted` is auto, torch or onnx; `cores` its share.

    `gpu` is the one of several that this process is to use of those that `device` allows.

    Raises `UsageError` for an unknown engine or device, and when ONNX Runtime is asked for by name and missing.
    """

    model: Model
    wanted: str = "auto"
    device: str = "auto"
    cores: int | None = None
    gpu: str | None = None
    _picked: Engine | None = None

    def __post_init__(self) -> None:
        if self.wanted not in get_args(EngineName):
            raise UsageError(f"--engine {self.wanted!r} is not an engine; use {', '.join(get_args(EngineName))}")
        if self.wanted == "onnx" and not has_onnx():
            raise UsageError("--engine onnx needs ONNX Runtime; install onnx and onnxruntime, or use --engine torch")
        self.kind = device_kind(self.device)
        if self.wanted == "onnx" and self.kind == "cuda":
            raise UsageError(
                f"--engine onnx computes on the CPU, and --device {self.device} takes the GPU; add --device cpu"
            )

    @cached_property
    def of_screen(self) -> "Engines":
        """The engine of the model's screen. Raises `UsageError` when the model has none."""
        return Engines(screen_of(self.model), self.wanted, self.device, self.cores, self.gpu)

    def pick(self, sample: Sample) -> Engine:
        """Return the engine; `sample` reads a few tiles of the slide for the test that engines agree."""
        with _PICKING:
            if self._picked is None:
                self._picked = _pick(self, sample)
                log.info("engine: %s", self._picked.why)
            return self._picked


def screen_of(model: Model) -> Model:
    """Return the model's screen. Raises `UsageError` when it has none."""
    if model.screen is None:
        raise UsageError(
            f"the model {model.card.name} has no screen, so --mode screen has nothing to skip by; use --mode full, or "
            "add a screen with `histo screen`"
        )
    return model.screen


def has_onnx() -> bool:
    """Tell whether the extra `fast` is installed, without importing it."""
    from importlib.util import find_spec

    return find_spec("onnxruntime") is not None and find_spec("onnx") is not None


def device_kind(wanted: str) -> str:
    """Return `cuda` or `cpu` for a device's name, asking torch only where there may be a GPU.

    Raises `UsageError` as `pick_device` does.
    """
    if wanted == "cpu" or (wanted == "auto" and not _has_driver()):
        return "cpu"
    from histo.models.engine_torch import pick_device

    return pick_device(wanted).type


def usable_cores() -> int:
    """Return how many cores this process may run on: a container may have a share of them all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _quota())))


def _quota() -> float:
    """Return how many cores' time the kernel gives this process's control group; infinite without such a limit."""
    try:
        group = Path("/proc/self/cgroup").read_text(encoding="utf-8").rpartition("0::/")[2].strip()
        share, period = Path("/sys/fs/cgroup", group, "cpu.max").read_text(encoding="utf-8").split()
        return float(share) / float(period)
    except (OSError, ValueError):  # no such limit ("max"), or no such kernel
        return math.inf


def passes_of(size_px: int) -> int:
    """Return how many tiles of a side one call on a core should take.

    >>> passes_of(224), passes_of(512), passes_of(1024)
    (5, 1, 1)
    """
    return max(1, PASS_PX // size_px**2)


def score_batches(
    batches: Iterable[Batch], engine: Engine, timings: Timings, prepare: Callable[[Tiles], Tiles] | None = None
) -> Iterator[tuple[Batch, Seen | None]]:
    """Yield every batch with what is seen in it, in order, while up to `engine.lanes` of them are being scored.

    The engine is shown what `prepare` makes of the tiles; the batch keeps them as they are. A batch without tiles comes
    with None. At most two more batches than lanes are held.
    """

    def see(tiles: Tiles) -> Seen:
        with timings.stage("network", tiles.nbytes):
            return engine.see(prepare(tiles) if prepare else tiles)

    with ThreadPoolExecutor(engine.lanes, thread_name_prefix="histo-lane") as pool:
        window: deque[tuple[Batch, Future[Seen] | None]] = deque()
        try:
            for batch in batches:
                window.append((batch, pool.submit(see, batch.rgb) if len(batch.rgb) else None))
                if len(window) > engine.lanes + 1:
                    yield _done(window.popleft())
            while window:
                yield _done(window.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _done(entry: tuple[Batch, Future[Seen] | None]) -> tuple[Batch, Seen | None]:
    batch, future = entry
    return batch, future.result() if future is not None else None


def _pick(engines: Engines, sample: Sample) -> Engine:
    cores = engines.cores or usable_cores()
    if engines.kind == "cuda":
        return _torch(engines, cores, "a GPU is there" if engines.device == "auto" else "the GPU was asked for")
    if engines.wanted == "torch":
        return _torch(engines, cores, "asked for")
    if not has_onnx():
        return _torch(
            engines, cores, "ONNX Runtime, which is faster on a CPU, is not installed (pip install onnx onnxruntime)"
        )
    from histo.models.engine_onnx import OnnxEngine, ParityError

    try:
        return OnnxEngine(engines.model, cores, sample)
    except ParityError as error:
        if engines.wanted == "onnx":
            raise UsageError(f"--engine onnx cannot be used: {error}; use --engine torch") from error
        log.warning("ONNX Runtime is not used: %s", error)
        return _torch(engines, cores, f"ONNX Runtime was not used: {error}")


def _torch(engines: Engines, cores: int, why: str) -> Engine:
    from histo.models.engine_torch import TorchEngine, pick_device

    # What `auto` means is decided once: the kind stands in the key of every result.
    device = "cpu" if engines.kind == "cpu" else engines.gpu or engines.device
    return TorchEngine(engines.model, pick_device(device), cores, why)


def _has_driver() -> bool:
    """Tell whether NVIDIA's driver is installed: without it no GPU can be used, and torch need not be asked."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return os.name == "nt"
    return True
