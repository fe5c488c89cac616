"""Callbacks, loggers and trainer options that a configuration names; every mistake is told before a slide is read."""

import importlib
import inspect
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

from pydantic import JsonValue

from histo.errors import HistoError, UsageError
from histo.training_options import AddOn

# What this project sets itself, and the key that says it instead.
OWNED = {
    "accelerator": "--device",
    "barebones": "nothing: it would switch the checkpoints off",
    "callbacks": "the section `callbacks`",
    "check_val_every_n_epoch": "nothing: every epoch is validated, because the best one is kept",
    "default_root_dir": "--out",
    "enable_checkpointing": "nothing: a run keeps its own checkpoint",
    "enable_model_summary": "nothing: it is never shown",
    "fast_dev_run": "--dry-run",
    "gradient_clip_val": "optimiser.gradient_clip",
    "limit_train_batches": "data.tiles_per_epoch",
    "limit_val_batches": "stop.tiles_per_slide or stop.unoutlined_tiles_per_slide",
    "logger": "the section `loggers`",
    "max_epochs": "optimiser.epochs",
    "max_steps": "optimiser.epochs",
    "min_epochs": "stop.patience",
    "min_steps": "stop.patience",
    "num_sanity_val_steps": "nothing: the check is left out",
    "overfit_batches": "data.tiles_per_epoch",
    "plugins": "nothing: checkpoints are written whole by a plugin of ours",
    "reload_dataloaders_every_n_epochs": "nothing: tiles are drawn anew every epoch",
    "use_distributed_sampler": "nothing: every process draws tiles of its own",
    "val_check_interval": "data.tiles_per_epoch",
}

MEASURES = (
    "patient_loss", "patient_accuracy", "validation_loss", "training_loss", "training_accuracy", "training_bag_loss",
)  # fmt: skip


# Lightning's own averages: they swap weights in for the validation, and out again before the best are copied.
_SWAPPING = ("WeightAveraging", "EMAWeightAveraging", "StochasticWeightAveraging")


def check_trainer_options(options: Mapping[str, JsonValue], trainer: type) -> None:
    """Raise `UsageError` for an option that `trainer` doesn't take or that another key sets."""
    known = set(inspect.signature(trainer.__init__).parameters) - {"self"} - set(OWNED)  # type: ignore[misc]
    for name in options:
        if name in OWNED:
            raise UsageError(f"`trainer.{name}` is set by histo; use {OWNED[name]}")
        if name not in known:
            raise UsageError(
                f"`trainer.{name}` is no option of Lightning's Trainer; it takes {', '.join(sorted(known))}"
            )


def check_add_ons(add_ons: Iterable[AddOn], base: type, section: str) -> None:
    """Raise `UsageError` for the first of a section's add-ons that cannot be built."""
    for add_on in add_ons:
        build_add_on(add_on, base, section)


@contextmanager
def told_by_name(add_ons: Sequence[object], section: str) -> Iterator[None]:
    """Turn an error that an add-on raises while it works into a `UsageError` that names it."""
    try:
        yield
    except HistoError:
        raise
    except Exception as error:  # foreign code raises what it likes
        homes = {inspect.getfile(type(a)): type(a) for a in add_ons}
        passed = {frame.f_code.co_filename for frame, _ in traceback.walk_tb(error.__traceback__)}
        culprit = next((kind for home, kind in homes.items() if home in passed), None)
        if culprit is None:
            raise
        where = f"`{section}` names {culprit.__module__}.{culprit.__qualname__}"
        raise UsageError(f"{where}, which stopped the training: {' '.join(str(error).split())}") from error


def build_add_on(add_on: AddOn, base: type, section: str) -> Any:
    """Return an object of the class that the configuration names, which must be a subclass of `base`.

    A configuration can thus run any code that is installed: use only those that you trust. Raises `UsageError` for a
    module that is missing, a class that is not there or of another kind, and arguments that it doesn't take.
    """
    module, _, name = add_on.path.rpartition(".")
    where = f"`{section}` names {add_on.path}"
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise UsageError(f"{where}, and {error}; install it or correct the path") from error
    if not (isinstance(found, type) and issubclass(found, base)):
        raise UsageError(f"{where}, which is no class derived from {base.__module__}.{base.__name__}")
    try:
        built = found(**add_on.args)
    except Exception as error:  # a foreign constructor raises what it likes
        raise UsageError(f"{where}, which does not take {add_on.args}: {' '.join(str(error).split())}") from error
    if name in _SWAPPING:
        raise UsageError(f"{where}, which validates other weights than those that are kept; use averaging.ema")
    monitor = getattr(built, "monitor", None)
    if isinstance(monitor, str) and monitor not in MEASURES and (near := get_close_matches(monitor, MEASURES, 1, 0.65)):
        raise UsageError(f"{where} with monitor {monitor}, which histo does not measure; did you mean {near[0]}?")
    return built
