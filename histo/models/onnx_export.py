"""From a bundle's network to an ONNX graph: tiles (B, S, S, 3) uint8 in, what `Seen` holds out."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from histo.models.bundle import Model
from histo.models.engine import Seen
from histo.models.engine_onnx import OPSET, ParityError
from histo.models.engine_torch import Scorer, pooled
from histo.models.taps import Tapped

INPUT, OUTPUTS = "tiles", Seen._fields


def export(model: Model) -> bytes:
    """Return the ONNX file of a model, for square tiles of any size in batches of any length.

    Raises `ParityError` for a network that torch cannot export.
    """
    size = model.card.tile.size_px
    margin = model.card.tile.spec().margin_cells
    scorer = Scorer(model.network, model.card.calibration.temperature, margin).eval()
    try:
        # The exporter says on every call that another, which needs two more packages, is to replace it.
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            warnings.simplefilter("ignore")
            torch.onnx.export(
                scorer,
                (torch.zeros(1, size, size, 3, dtype=torch.uint8),),
                Path(folder) / "graph.onnx",
                dynamo=False,
                input_names=[INPUT],
                output_names=list(OUTPUTS),
                opset_version=OPSET,
                dynamic_axes={INPUT: _axes(1, 2), **dict.fromkeys(OUTPUTS, _axes()), "probability": _axes(2, 3)},
            )
            return (Path(folder) / "graph.onnx").read_bytes()
    except Exception as error:  # the exporter raises whatever the network's code raises
        raise ParityError(f"the network cannot be exported ({str(error)[:200]})") from error


def _axes(*sides: int) -> dict[int, str]:
    """Return names for the axes that may have any length: that of the batch, and the sides of a picture or map."""
    return {0: "batch"} | {axis: f"side_{axis}" for axis in sides}


def reference(model: Model, tiles: NDArray[np.uint8]) -> Seen:
    """Return what the network as it was trained, nothing folded, says of tiles: the yardstick of every engine."""
    network, margin = model.network, model.card.tile.spec().margin_cells
    trunk, seen = Tapped(network.trunk, margin), []
    with torch.inference_mode():
        for tile in tiles:
            x = (torch.from_numpy(tile[None]).permute(0, 3, 1, 2).to(network.mean.dtype) - network.mean) / network.std
            cells, texture = trunk(x)
            scores = network.head(cells).float() / model.card.calibration.temperature
            seen.append((scores.softmax(dim=1), pooled(cells, margin), texture))
    return Seen(*(np.asarray(torch.cat(found).numpy(), np.float32) for found in zip(*seen, strict=True)))
