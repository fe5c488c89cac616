"""Scoring batches of tiles with torch, on the CPU or on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from histo.errors import UsageError
from histo.models.bundle import Model


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
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {wanted} asks for a GPU and torch sees {torch.cuda.device_count()}; use cpu")
    return device


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


class TorchEngine:
    """Turns tiles into calibrated class probabilities; channels last, autocast on a GPU."""

    def __init__(self, model: Model, device: torch.device) -> None:
        self.device = device
        self._temperature = model.card.calibration.temperature
        self._network = model.network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def score(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (B, C, h, w) of tiles (B, S, S, 3) uint8; a batch too large for the GPU is halved."""
        try:
            with flushed_denormals():
                return self._score(tiles)
        except torch.cuda.OutOfMemoryError:
            if len(tiles) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(tiles) // 2
            return np.concatenate([self.score(tiles[:half]), self.score(tiles[half:])])

    def _score(self, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
        batch = torch.from_numpy(tiles)
        if self.device.type == "cuda":
            batch = batch.pin_memory().to(self.device, non_blocking=True)
        with torch.inference_mode(), torch.autocast("cuda", torch.float16, enabled=self.device.type == "cuda"):
            logits = self._network(batch.permute(0, 3, 1, 2)).float()
            probability = (logits / self._temperature).softmax(dim=1)
        return np.asarray(probability.cpu().numpy(), np.float32)
