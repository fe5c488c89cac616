"""In which numbers a network learns: half precision where the device computes in it, single precision elsewhere."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from histo.config import TrainConfig
from histo.errors import UsageError

_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
# As Lightning names them; what is kept of a training is in single precision, so weights in half are none of them.
_KNOWN = ("32-true", "64-true", *_MIXED)
_SHORT = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}


def settle_precision(
    config: TrainConfig, device: torch.device, before: Mapping[str, Any] | None = None, is_over: bool = False
) -> TrainConfig:
    """Return the configuration with `trainer.precision` in it: as given, else the fastest that the device computes in.

    So it stands in the run's `config.yaml` and in the card. `before` is the configuration that a run was begun with: it
    goes on in the same numbers, unless it `is_over` and computes no more. Raises `UsageError` for numbers that no
    training is in, or that the device has not.
    """
    asked = config.trainer.get("precision")
    if asked is not None:
        chosen = _SHORT.get(str(asked), str(asked))
        if chosen not in _KNOWN:
            raise UsageError(f"`trainer.precision` is {asked}; use {', '.join(_KNOWN)}, or leave it away")
    elif before is not None:
        chosen = before.get("trainer", {}).get("precision")
    else:
        chosen = _fastest(device)
    if chosen == "16-mixed" and device.type == "cpu" and not is_over:  # Lightning would silently take bfloat16
        begun = "the run was begun in" if asked is None else "`trainer.precision` is"
        raise UsageError(f"{begun} 16-mixed, which is for GPUs; use bf16-mixed or 32-true, and another `name`")
    return config.model_copy(update={"trainer": {**config.trainer, "precision": chosen}}) if chosen else config


def half_precision(config: TrainConfig, device: torch.device) -> AbstractContextManager[object]:
    """Return what makes torch compute as Lightning will with `trainer.precision`, as far as mixed precision goes."""
    kind = _MIXED.get(str(config.trainer.get("precision")))
    return nullcontext() if kind is None else torch.autocast(device.type, kind)


def _fastest(device: torch.device) -> str:
    if device.type == "cuda":
        return "16-mixed"
    # Without instructions for it bfloat16 is slower than single precision. Older torch can't tell.
    able: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bf16-mixed" if able.get("avx512_bf16") or able.get("amx_bf16") else "32-true"
