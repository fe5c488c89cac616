"""Scoring with torch, on the CPU or on a GPU; the reference that every other engine must agree with."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.fx.experimental.optimization import fuse

from histo.errors import ArchiveError, UsageError
from histo.models.bundle import Model
from histo.models.classifier import TileClassifier
from histo.models.engine import Seen, passes_of, usable_cores
from histo.models.taps import Tapped, without_ring

GPU_BATCH = 16
FOLD_TOLERANCE = 1e-4


def pick_device(wanted: str) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `cuda:N`.

    Raises `UsageError` for an unknown name or a GPU that is not there.
    """
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise UsageError(f"--device {wanted!r} is not a device; use auto, cpu or cuda") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"--device {wanted!r} is not supported; use auto, cpu or cuda")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {wanted} asks for a GPU and torch sees {torch.cuda.device_count()}; use cpu")
    return device


def _computes(device: torch.device) -> bool:
    try:
        torch.ones(1, device=device).add(1).item()
    except RuntimeError:
        return False
    return True


@contextmanager
def _blaming(device: torch.device) -> Iterator[None]:
    """Say in one sentence that a GPU cannot compute at all: no slide is to blame for that, and none would pass.

    Too old for torch's kernels or the driver, taken by another process, or in a fault that only a new process ends.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if device.type != "cuda" or _computes(device):
            raise
        said = str(error).partition("\n")[0]
        raise ArchiveError(f"{device} does not compute ({said}); ask `histo doctor`, or use --device cpu") from error


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat numbers next to zero as zero: weights that training left so small slow the CPU down a hundredfold.

    It is a state of the thread, so it is put back for whoever else computes here.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


class Scorer(nn.Module):
    """The network from uint8 tiles (B, S, S, 3) to what `Seen` holds, made for inference.

    Division by the deviation is folded into the first convolution. The mean is still taken off the three
    channels: the convolutions pad with zero, which must go on meaning the mean colour. Batch normalisation is
    folded into the convolutions before it, and the temperature into the head. With `fold` false the trunk stays as
    it was trained, for half precision, in which folded weights would be too small. `margin` is the width in cells of
    the ring that is dropped: features and texture are those inside it.
    """

    mean: torch.Tensor
    scale: torch.Tensor | None

    def __init__(self, network: TileClassifier, temperature: float, margin: int = 0, fold: bool = True) -> None:
        super().__init__()
        plain = deepcopy(network).eval().to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        tapped = Tapped(plain.trunk, margin)
        trunk, scale = _folded(tapped, plain) if fold else (tapped, 1 / plain.std)
        self.trunk: nn.Module = trunk
        self.head = deepcopy(plain.head)
        with torch.no_grad():
            self.head.weight /= temperature
            if self.head.bias is not None:
                self.head.bias /= temperature
        self.margin = margin
        self.register_buffer("mean", plain.mean.clone())
        self.register_buffer("scale", scale)

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return probabilities (B, C, h, w), features (B, F) and texture (B, T) of uint8 tiles (B, S, S, 3)."""
        x = tiles.permute(0, 3, 1, 2).to(self.mean.dtype) - self.mean
        if self.scale is not None:
            x = x * self.scale
        cells, texture = self.trunk(x)
        scores: torch.Tensor = self.head(cells)
        return scores.float().softmax(dim=1), pooled(cells, self.margin), texture


def pooled(cells: torch.Tensor, margin: int) -> torch.Tensor:
    """Return the mean (B, F) of a trunk's output (B, F, h, w) without a ring of `margin` cells."""
    return without_ring(cells, margin).float().mean(dim=(2, 3))


class TorchEngine:
    """Turns tiles into calibrated class probabilities; channels last, autocast and pinned memory on a GPU.

    On a CPU every lane computes on one thread: two tiles on two cores are done sooner than one tile on both.
    """

    name = "torch"

    def __init__(self, model: Model, device: torch.device, cores: int | None = None, why: str = "asked for") -> None:
        self.on = device
        self.device = str(device)
        on_gpu = device.type == "cuda"
        self.lanes = 1 if on_gpu else cores or usable_cores()
        self.batch_size = GPU_BATCH if on_gpu else passes_of(model.card.tile.size_px)
        self.why = f"torch {torch.__version__} on {device}: {why}"
        margin = model.card.tile.spec().margin_cells
        scorer = Scorer(model.network, model.card.calibration.temperature, margin, fold=not on_gpu)
        with _blaming(device):
            self._scorer = scorer.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def see(self, tiles: NDArray[np.uint8]) -> Seen:
        """Return what is seen in tiles (B, S, S, 3) uint8; a batch too large for the GPU is halved.

        Raises `ArchiveError` where a GPU does not compute at all.
        """
        try:
            with flushed_denormals(), _blaming(self.on):
                return self._see(tiles)
        except torch.cuda.OutOfMemoryError:
            if len(tiles) == 1:
                raise
        # Not in the handler: there the error keeps all that the failed pass had made alive.
        torch.cuda.empty_cache()
        half = len(tiles) // 2
        parts = zip(self.see(tiles[:half]), self.see(tiles[half:]), strict=True)
        return Seen(*(np.concatenate(both) for both in parts))

    def _see(self, tiles: NDArray[np.uint8]) -> Seen:
        batch = torch.from_numpy(tiles)
        if self.on.type == "cuda":
            batch = batch.pin_memory().to(self.on, non_blocking=True)
        with (
            _one_thread(self.lanes),
            torch.inference_mode(),
            torch.autocast("cuda", torch.float16, enabled=self.on.type == "cuda"),
        ):
            seen = self._scorer(batch)
        return Seen(*(np.asarray(found.cpu().numpy(), np.float32) for found in seen))


@contextmanager
def _one_thread(lanes: int) -> Iterator[None]:
    """Let this thread compute alone while it is one of several lanes; the process's own setting comes back."""
    before = torch.get_num_threads()
    if lanes == 1 or before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _folded(trunk: Tapped, network: TileClassifier) -> tuple[nn.Module, torch.Tensor | None]:
    """Return the trunk for input less its mean, and what that input must still be multiplied by, if anything."""
    side = 128 + 2 * trunk.ring_px
    probe = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0)) * 255 - network.mean
    with torch.no_grad():
        wanted = trunk(probe / network.std)
        fused = _fused(trunk)
        first = next((m for m in fused.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3), None)
        if first is not None:
            kept = first.weight.clone()
            first.weight /= network.std
            # Only a convolution that sees the picture itself can take the scale; the numbers say whether it does.
            if all(map(_alike, fused(probe), wanted)):
                return fused, None
            first.weight.copy_(kept)
    return fused, 1 / network.std


def _alike(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(found, wanted, rtol=FOLD_TOLERANCE, atol=FOLD_TOLERANCE * float(wanted.abs().max()))


def _fused(trunk: nn.Module) -> nn.Module:
    """Return a copy with batch normalisation inside the convolutions, where torch.fx can follow the network."""
    try:
        return fuse(trunk)
    except Exception:  # torch.fx raises whatever the module it traces raises
        return deepcopy(trunk)
