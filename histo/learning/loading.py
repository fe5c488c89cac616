"""Reading training tiles in processes beside the training."""

from typing import Any

import torch
from torch.utils.data import DataLoader


def load(tiles: Any, loaders: int, **batches: Any) -> "DataLoader[Any]":
    """Return what reads `tiles` in so many processes, in this one for 0; `batches` says how they are put together."""
    # The store of decoded pixels is shared by fork; later Pythons start workers otherwise.
    context = "fork" if loaders else None
    pinned = torch.cuda.is_available()
    return DataLoader(tiles, num_workers=loaders, multiprocessing_context=context, pin_memory=pinned, **batches)
