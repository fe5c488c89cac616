"""From a bundle's network to an ONNX graph: tiles (B, S, S, 3) uint8 in, calibrated probabilities (B, C, h, w) out."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from histo.models.bundle import Model
from histo.models.engine_onnx import OPSET, ParityError
from histo.models.engine_torch import Scorer

INPUT, OUTPUT = "tiles", "probability"


def export(model: Model) -> bytes:
    """Return the ONNX file of a model, for tiles of the card's size in batches of any length.

    Raises `ParityError` for a network that torch cannot export.
    """
    size = model.card.tile.size_px
    scorer = Scorer(model.network, model.card.calibration.temperature).eval()
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
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_axes={INPUT: {0: "batch"}, OUTPUT: {0: "batch"}},
            )
            return (Path(folder) / "graph.onnx").read_bytes()
    except Exception as error:  # the exporter raises whatever the network's code raises
        raise ParityError(f"the network cannot be exported ({str(error)[:200]})") from error


def reference(model: Model, tiles: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return what the network as it was trained, nothing folded, says of tiles: the yardstick of every engine."""
    network, temperature = model.network, model.card.calibration.temperature
    with torch.inference_mode():
        maps = [network(torch.from_numpy(t[None]).permute(0, 3, 1, 2)).float() / temperature for t in tiles]
        return np.asarray(torch.cat(maps).softmax(dim=1).numpy(), np.float32)
