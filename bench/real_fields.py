"""How a model scores labelled fields of real tissue that it was never trained on.

    python bench/real_fields.py PATCHES [--model BUNDLE] [--mpp 0.5]

PATCHES holds manifest.csv (file, label, source) and the pictures. Prints, in colour and in grayscale, which share of
the fields of every label has most of its tissue called bone or calcification, and the AUROC of the field's mean
probability against all other fields. Fields of one source are one cluster: these are few, the figures coarse.
"""

import argparse
import csv
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy.stats import rankdata

from histo.infer import load_model
from histo.models.engine_torch import TorchEngine

TRUE_LABEL = {"bone": "bone", "calcification": "calcification"}


def auroc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Area under the ROC curve by ranks."""
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def field(path: Path, mpp: float, model_mpp: float, grey: bool) -> np.ndarray:
    """Read a field (H, W, 3) at the model's scale, sides cut to multiples of 32 px."""
    rgb = cv2.imread(str(path))[..., ::-1]
    rgb = cv2.resize(rgb, None, fx=mpp / model_mpp, fy=mpp / model_mpp, interpolation=cv2.INTER_AREA)
    if grey:
        rgb = np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    return np.ascontiguousarray(rgb[: rgb.shape[0] // 32 * 32, : rgb.shape[1] // 32 * 32])


def main() -> None:
    """Score all fields and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("patches", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--mpp", type=float, default=0.5)
    given = parser.parse_args()
    model = load_model(given.model)
    engine = TorchEngine(model, torch.device("cpu"))
    names = model.card.classes.names
    with open(given.patches / "manifest.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for grey in (False, True):
        scores: dict[str, list[np.ndarray]] = {}
        called: dict[str, list[np.ndarray]] = {}
        for row in rows:
            rgb = field(given.patches / row["file"], given.mpp, model.card.tile.mpp, grey)
            if min(rgb.shape[:2]) < 64:
                continue
            tissue = cv2.resize(rgb, None, fx=1 / 16, fy=1 / 16, interpolation=cv2.INTER_AREA).min(axis=2) < 225
            probability = engine.score(rgb[None])[0]
            cells = probability[:, tissue] if tissue.any() else probability.reshape(len(names), -1)
            scores.setdefault(row["label"], []).append(cells.mean(axis=1))
            called.setdefault(row["label"], []).append(
                np.bincount(cells.argmax(axis=0), minlength=len(names)) / cells.shape[1]
            )
        print("in grayscale" if grey else "in colour")
        for label, found in called.items():
            means = np.mean(found, axis=0)
            worst = np.mean(np.array(found)[:, 1:].sum(axis=1) > 0.5)
            shares = ", ".join(f"{n} {m:.2f}" for n, m in zip(names, means, strict=True))
            print(f"  {label:18} n {len(found):2}: cells called {shares}; fields mostly called lesion {worst:.2f}")
        for label, name in TRUE_LABEL.items():
            k = names.index(name)
            rest = np.array([s[k] for other, all_ in scores.items() if other != label for s in all_])
            own = np.array([s[k] for s in scores[label]])
            print(
                f"  {name} against everything else: field AUROC {auroc(own, rest):.3f} (n {len(own)} and {len(rest)})"
            )


if __name__ == "__main__":
    main()
