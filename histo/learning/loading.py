"""Reading training tiles in processes beside the training."""

from typing import Any

from torch.utils.data import DataLoader


def load(tiles: Any, loaders: int, pinned: bool = False, **batches: Any) -> "DataLoader[Any]":
    """Return what reads `tiles` in so many processes, in this one for 0; `batches` says how they are put together.

    `pinned` memory is copied to a GPU faster, and asks the GPU for it.
    """
    # The store of decoded pixels is shared by fork; later Pythons start workers otherwise.
    context = "fork" if loaders else None
    return DataLoader(tiles, num_workers=loaders, multiprocessing_context=context, pin_memory=pinned, **batches)
