"""The diary of a run: metrics.csv with a row an epoch (0 is the start), the time left, and the best epoch so far."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from histo.data.sampling import LabelledSlide
from histo.errors import UsageError
from histo.files import write_table
from histo.timing import Say
from histo.training_options import StopConfig

SILENCE_S = 30.0  # between two lines of progress within an epoch


class Diary:
    """Says one line an epoch and one now and then in between; keeps metrics.csv also over a stop and a new start."""

    def __init__(self, path: Path, say: Say, epochs: int) -> None:
        self._path, self._say, self._epochs = path, say, epochs
        self._started = self._told = time.monotonic()
        self._first = 0
        self.rows: list[dict[str, str]] = []  # one an epoch

    def begin(self, epoch: int) -> None:
        """Start, or go on after `epoch` finished epochs."""
        self._started, self._first = time.monotonic(), epoch

    def restore(self, rows: list[dict[str, str]]) -> None:
        """Go on from the rows of a checkpoint; metrics.csv may lack the last one, if a kill came between the two."""
        self.rows = rows
        if rows:
            self._write()

    def before(self, metrics: Mapping[str, float]) -> None:
        """Write the row of the start, as epoch 0, and say it."""
        self.note(0, metrics)
        self._write()
        self._say(f"before training: {self._words()}")

    def step(self, epoch: int, step: int, steps: int) -> None:
        """Say how far the epoch is, if nothing was said for a while."""
        if time.monotonic() - self._told >= SILENCE_S:
            self._say(f"epoch {epoch + 1}/{self._epochs}, step {step}/{steps}; {self._left(epoch + step / steps)}")

    def note(self, done: int, metrics: Mapping[str, Any]) -> None:
        """Keep the row of the state after `done` epochs; nothing is written or said before the checkpoint is."""
        self.rows.append({"epoch": str(done), **{name: f"{float(v):.6g}" for name, v in sorted(metrics.items())}})

    def end(self, done: int) -> None:
        """Write the row that was noted last, after `done` epochs, and say it."""
        self._write()
        self._say(f"epoch {done}/{self._epochs}: {self._words()}; {self._left(done)}")

    def _write(self) -> None:
        names = list(self.rows[-1])  # the row of the start lacks what training measures
        write_table(self._path, names, [[row.get(name, "") for name in names] for row in self.rows])

    def _words(self) -> str:
        measured = [(name, value) for name, value in self.rows[-1].items() if name != "epoch"]
        return ", ".join(f"{name.replace('_', ' ')} {float(value):.3f}" for name, value in measured)

    def _left(self, done: float) -> str:
        self._told = time.monotonic()
        left = (self._told - self._started) / (done - self._first) * (self._epochs - done)
        return f"{left / 60:.0f} min left" if left >= 90 else f"{left:.0f} s left"


def judged_blind(config: StopConfig, validation: Sequence[LabelledSlide]) -> list[str]:
    """Return a warning where the best epoch is chosen by cells of which none shows a lesion."""
    if config.monitor != "validation_loss" or any(s.class_cells[:, 1:].any() for s in validation):
        return []
    return [
        "No lesion of the validation slides is outlined, so stop.monitor validation_loss is measured on normal tissue "
        "alone: by that the best network finds nothing. Outline some, or take patient_loss."
    ]


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
