"""The diary of a run: metrics.csv with a row an epoch (0 is the start), the time left, and the best epoch so far."""

import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from histo.errors import UsageError
from histo.files import write_table
from histo.training_options import StopConfig

SILENCE_S = 30.0  # between two lines of progress within an epoch


class Diary:
    """Says one line an epoch and one now and then in between; keeps metrics.csv also over a stop and a new start."""

    def __init__(self, path: Path, say: Callable[[str], None], epochs: int) -> None:
        self._path, self._say, self._epochs = path, say, epochs
        self._started = self._told = time.monotonic()
        self._first = 0
        self._rows: list[dict[str, str]] = []

    def begin(self, epoch: int) -> None:
        """Start, or go on after `epoch` finished epochs; rows that a stopped run wrote later are dropped."""
        self._started, self._first = time.monotonic(), epoch
        if epoch and self._path.exists():
            with open(self._path, encoding="utf-8", newline="") as file:
                self._rows = [row for row in csv.DictReader(file) if int(row["epoch"]) <= epoch]

    def before(self, metrics: Mapping[str, float]) -> None:
        """Write the row of the start, as epoch 0, and say it."""
        self._say(f"before training: {self._row(0, metrics)}")

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Say how far the epoch is, if nothing was said for a while."""
        if time.monotonic() - self._told >= SILENCE_S:
            self._say(f"epoch {epoch + 1}/{self._epochs}, step {step}/{steps}; {self._left(epoch + step / steps)}")

    def end(self, epoch: int, metrics: Mapping[str, Any]) -> None:
        """Write the row of an epoch that is over and say it."""
        done = epoch + 1
        self._say(f"epoch {done}/{self._epochs}: {self._row(done, metrics)}; {self._left(done)}")

    def _row(self, epoch: int, metrics: Mapping[str, Any]) -> str:
        """Write metrics.csv with one row more, and return that row in words; the start lacks what training measures."""
        values = {name: f"{float(value):.6g}" for name, value in sorted(metrics.items())}
        self._rows.append({"epoch": str(epoch), **values})
        names = list(self._rows[-1])
        write_table(self._path, names, [[row.get(name, "") for name in names] for row in self._rows])
        return ", ".join(f"{name.replace('_', ' ')} {float(value):.3f}" for name, value in values.items())

    def _left(self, done: float) -> str:
        self._told = time.monotonic()
        left = (self._told - self._started) / (done - self._first) * (self._epochs - done)
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"


class Best:
    """The best epoch so far and its weights, and whether there was progress lately; `state` goes into checkpoints."""

    def __init__(self, config: StopConfig) -> None:
        self._config = config
        self.state: dict[str, Any] = {"best_epoch": 0, "best": float("inf"), "stopped": False}

    def judge(self, epoch: int, metrics: Mapping[str, Any], weights: Mapping[str, Tensor]) -> bool:
        """Take the weights of epoch `epoch`, 0 for the start, if it is the best; tell whether training is to end.

        Raises `UsageError` where the validation slides cannot be judged as the configuration asks.
        """
        if self._config.monitor not in metrics:
            raise UsageError(
                f"stop.monitor is {self._config.monitor}, and no cell of the validation slides is labelled; outline "
                "lesions on some of them, or take patient_loss"
            )
        s, value = self.state, float(metrics[self._config.monitor])
        if value < s["best"]:
            copies = {name: w.detach().cpu().clone() for name, w in weights.items()}
            s |= {"best": value, "best_epoch": epoch, "weights": copies}
        s["stopped"] = bool(self._config.patience and epoch - s["best_epoch"] >= self._config.patience)
        return bool(s["stopped"])
