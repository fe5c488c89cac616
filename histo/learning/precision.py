"""In which numbers a network learns: half precision where the device computes in it, single precision elsewhere."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext

import torch

from histo.config import TrainConfig

_MIXED = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}


def settle_precision(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Return the configuration with `trainer.precision` in it: as given, or the fastest that the device computes in.

    So it stands in the run's `config.yaml` and in the card, and no run goes on in other numbers than it began with.
    """
    if "precision" in config.trainer:
        return config
    return config.model_copy(update={"trainer": {**config.trainer, "precision": _fastest(device)}})


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
