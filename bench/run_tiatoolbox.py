"""Run TIAToolbox 2's patch predictor on a slide; needs only TIAToolbox's environment.

    PYTHON bench/run_tiatoolbox.py SLIDE MODEL OUT

Its own mask of tissue, batches of 32, two loaders: what its examples use. The slide's level 0 must have 0.5 µm per
pixel, as that of speed.py has: places are told at the scale that is read.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.models_abc import ModelABC


class Scripted(ModelABC):  # type: ignore[misc]  # TIAToolbox is not installed where types are checked
    """The network as speed.py wrote it, with its normalisation."""

    def __init__(self, folder: Path, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.net = torch.jit.load(folder / "torchscript_model.pt")
        self.preproc_func = lambda tile: (np.asarray(tile, np.float32) / 255 - mean) / std

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return probabilities (B, C) of normalised tiles (B, 3, S, S)."""
        return self.net(x).softmax(dim=-1)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str = "cpu") -> Any:
        """Return probabilities (B, C) of a batch (B, S, S, 3)."""
        with torch.inference_mode():
            return model(batch_data.to(device).float().permute(0, 3, 1, 2).contiguous()).cpu().numpy()


def main() -> None:
    """Score the slide and write OUT/probs.csv."""
    slide, folder, out = (Path(given) for given in sys.argv[1:])
    config = json.loads((folder / "config.json").read_text())
    normalise, side = config["transform"][1]["arguments"], config["patch_size_pixels"]
    scale = [{"units": "mpp", "resolution": config["spacing_um_px"]}]
    model = Scripted(folder, normalise["mean"], normalise["std"]).eval()
    predictor = PatchPredictor(model=model, batch_size=32, num_workers=2, device="cpu", verbose=False)
    reading = IOPatchPredictorConfig(
        input_resolutions=scale, output_resolutions=scale, patch_input_shape=[side, side], stride_shape=[side, side]
    )
    found = predictor.run(
        [slide], patch_mode=False, ioconfig=reading, save_dir=out, overwrite=True, output_type="zarr",
        return_probabilities=True, auto_get_mask=True,
    )  # fmt: skip
    store = zarr.open(str(next(iter(found.values())) if isinstance(found, dict) else found), mode="r")
    with open(out / "probs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["minx", "miny", *config["class_names"]])
        places, answers = np.asarray(store["coordinates"])[:, :2].tolist(), np.asarray(store["probabilities"]).tolist()
        table.writerows([*place, *answer] for place, answer in zip(places, answers, strict=True))


if __name__ == "__main__":
    main()
