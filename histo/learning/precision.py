"""In which numbers a network learns: half precision where the device computes in it, single precision elsewhere."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from histo.config import TrainConfig

_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def settle_precision(config: TrainConfig, device: torch.device, before: Mapping[str, Any] | None = None) -> TrainConfig:
    """Return the configuration with `trainer.precision` in it: as given, else the fastest that the device computes in.

    So it stands in the run's `config.yaml` and in the card. `before` is the configuration that a run was begun with: it
    goes on in the same numbers, wherever that is.
    """
    if "precision" in config.trainer:
        return config
    chosen = _fastest(device) if before is None else before.get("trainer", {}).get("precision")
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
