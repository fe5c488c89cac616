"""How a model scores labelled fields of real tissue that it was never trained on.

    python bench/real_fields.py PATCHES [--model BUNDLE] [--mpp 0.5]

PATCHES holds manifest.csv (file, label, source) and the pictures. Prints, in colour, in grayscale and stain-matched
(one median and one spread of optical density a channel for all fields), what the tiles of 112 µm of every label are
called (by their mean probability), and the AUROC of a field's mean probability against all other fields. Fields of one
source are one cluster: these are few, the figures coarse. For a model with stain normalisation (`tile.tissue_od`,
`tile.nuclear_od`) the fields of a source are normalised together, as if they were its slide.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from histo.data.glass import glass_among
from histo.data.stain_norm import stain_norm_for
from histo.data.tissue import TISSUE_OD
from histo.infer import load_model
from histo.models.bundle import Model
from histo.models.engine_torch import TorchEngine
from histo.statistics import auroc

TRUE_LABEL = {"bone": "bone", "calcification": "calcification"}
TILE_UM = 112
LEAST_FIELD_PX = 64
GLASS = 225
MATCHED_OD = np.array([0.22, 0.60, 0.36])
MATCHED_SPREAD = np.array([0.15, 0.30, 0.20])

View = Literal["in colour", "in grayscale", "stain-matched"]


@dataclass(frozen=True)
class Field:
    """One field's label, its mean class probabilities (C,), and the class each of its tiles is called (N,)."""

    label: str
    mean: NDArray[np.float64]
    called: NDArray[np.int64]


def read_field(path: Path, mpp: float, model_mpp: float, view: View) -> np.ndarray:
    """Read a field (H, W, 3) at the model's scale, sides cut to multiples of 32 px."""
    rgb = cv2.imread(str(path))[..., ::-1]
    rgb = cv2.resize(rgb, None, fx=mpp / model_mpp, fy=mpp / model_mpp, interpolation=cv2.INTER_AREA)
    if view == "in grayscale":
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    if view == "stain-matched":
        rgb = stain_matched(rgb)
    return np.ascontiguousarray(rgb[: rgb.shape[0] // 32 * 32, : rgb.shape[1] // 32 * 32])


def stain_matched(rgb: np.ndarray) -> np.ndarray:
    """Give the stained pixels of a picture (H, W, 3) the median and the quartiles' distance that all fields get."""
    od = np.log(245.0) - np.log(np.maximum(rgb, 1.0))
    stained = od[od[..., 1] > TISSUE_OD]
    if len(stained) < 100:
        return rgb
    low, middle, high = np.percentile(stained, (25, 50, 75), axis=0)
    matched = (od - middle) / np.maximum(high - low, 0.02) * MATCHED_SPREAD + MATCHED_OD
    matched = np.where(od[..., 1:2] > TISSUE_OD, np.maximum(matched, 0), od)
    return np.clip(245 * np.exp(-matched) + 0.5, 0, 255).astype(np.uint8)


def score_fields(patches: Path, model: Model, mpp: float, view: View) -> list[Field]:
    """Score every field that is large enough; cells on glass count in no figure."""
    engine = TorchEngine(model, torch.device("cpu"))
    stride = model.card.tile.stride_px
    side = max(1, round(TILE_UM / (model.card.tile.mpp * stride)))
    fields = []
    for label, rgb in _shown(patches, model, mpp, view):
        tissue = cv2.resize(rgb, None, fx=1 / stride, fy=1 / stride, interpolation=cv2.INTER_AREA).min(axis=2) < GLASS
        probability = engine.see(rgb[None]).probability[0]
        tissue |= not tissue.any()
        tiles = [
            probability[:, r : r + side, c : c + side][:, tissue[r : r + side, c : c + side]].mean(axis=1)
            for r in range(0, tissue.shape[0] - side + 1, side)
            for c in range(0, tissue.shape[1] - side + 1, side)
            if tissue[r : r + side, c : c + side].mean() > 0.5
        ]
        called = np.array([int(t.argmax()) for t in tiles], np.int64)
        fields.append(Field(label, probability[:, tissue].mean(axis=1).astype(float), called))
    return fields


def _shown(patches: Path, model: Model, mpp: float, view: View) -> Iterator[tuple[str, np.ndarray]]:
    """Yield label and pixels of every field that is large enough, its stain normalised if the model asks for that."""
    with open(patches / "manifest.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sources: dict[str, list[tuple[str, np.ndarray]]] = {}
    for row in rows:
        rgb = read_field(patches / row["file"], mpp, model.card.tile.mpp, view)
        if min(rgb.shape[:2]) >= LEAST_FIELD_PX:
            sources.setdefault(row["source"], []).append((row["label"], rgb))
    tile = model.card.tile
    for fields in sources.values():
        pixels = np.concatenate([rgb.reshape(-1, 3) for _, rgb in fields])
        at_1_um = (cv2.resize(rgb, None, fx=tile.mpp, fy=tile.mpp, interpolation=cv2.INTER_AREA) for _, rgb in fields)
        norm = stain_norm_for(pixels[::16], glass_among(pixels), at_1_um, tile)
        yield from ((label, norm.apply(rgb)) for label, rgb in fields)


def called_share(fields: list[Field], label: str, classes: tuple[int, ...]) -> tuple[int, int]:
    """Return how many tiles of a label's fields are called one of `classes`, and how many there are."""
    tiles = np.concatenate([f.called for f in fields if f.label == label])
    return int(np.isin(tiles, classes).sum()), len(tiles)


def field_auroc(fields: list[Field], label: str, class_index: int) -> float:
    """Return the AUROC of the mean probability of a class: fields of `label` against all others."""
    return auroc(np.array([f.mean[class_index] for f in fields]), np.array([f.label == label for f in fields]))


def main() -> None:
    """Score all fields and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patches", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--mpp", type=float, default=0.5)
    given = parser.parse_args()
    print_fields(load_model(given.model), given.patches, given.mpp)


def print_fields(model: Model, patches: Path, mpp: float) -> None:
    """Print the table of one model, in every view."""
    names = model.card.classes.names
    for view in get_args(View):
        fields = score_fields(patches, model, mpp, view)
        print(view)
        for label in dict.fromkeys(f.label for f in fields):
            n = sum(f.label == label for f in fields)
            shares = [called_share(fields, label, (k,)) for k in range(len(names))]
            told = ", ".join(f"{name} {hits}" for name, (hits, _) in zip(names, shares, strict=True))
            print(f"  {label:18} {n:2} fields, {shares[0][1]:3} tiles called {told}")
        for label, name in TRUE_LABEL.items():
            own = sum(f.label == label for f in fields)
            print(
                f"  {name} against everything else: field AUROC {field_auroc(fields, label, names.index(name)):.3f} "
                f"(n {own} and {len(fields) - own})"
            )


if __name__ == "__main__":
    main()
