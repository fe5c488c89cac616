"""What `speed.py` runs on: a slide and a network, made once and kept."""

import json
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from histo.data.annotations import read_annotations
from histo.data.slide import open_slide
from histo.models.bundle import SHIPPED, load_bundle, save_bundle
from histo.models.classifier import TileClassifier
from histo.outlines import area_px2
from histo.phantom import make_slide as make_phantom
from histo.phantom.pyramid import write_slide

BLOCK, MPP, TILE_PX, STRIDE_PX = 256, 0.5, 224, 32
MEAN, STD = (0.8, 0.65, 0.77), (0.18, 0.24, 0.18)


def picture_of(source: Path | None, mpp: float | None, side_px: int, folder: Path) -> np.ndarray:
    """Return a picture (side, side, 3): the most stained part of the source, mirrored to and fro to the size."""
    if source is None:
        made = make_phantom(folder, "phantom", kind="mixed", seed=5, size_px=(min(side_px, 6000),) * 2)
        source, mpp = made.slide, None
    with open_slide(source, mpp) as slide:
        width, height = slide.pyramid.size_level0_px
        part = min(width, height, side_px, 5000)
        corner = (width - part) // 2, (height - part) // 2
        piece = slide.read(corner, 0, (part, part))
    pad = side_px - part
    return cv2.copyMakeBorder(piece, 0, pad, 0, pad, cv2.BORDER_REFLECT) if pad else piece


def make_slide(folder: Path, source: Path | None, mpp: float | None, mm2: float) -> Path:
    """Write an Aperio-like pyramid of about `mm2` at 0.5 µm/px and return its path; an older one is kept."""
    path = folder / "bench.svs"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    side = int((mm2 * 1e6) ** 0.5 / MPP) // BLOCK * BLOCK
    write_slide(path, picture_of(source, mpp, side, folder.parent), MPP, quality=85)
    return path


def make_typical(folder: Path, mm2: float, seed: int = 4401) -> Path:
    """Write a slide of about `mm2` with calcium in one place, and return its path; an older one is kept.

    Phantoms of 1.5 x 1.5 mm, five of them without a lesion, are laid side by side, mirrored; the sixth, with calcium,
    lies in the middle once. Prints the lesion's share of the picture.
    """
    path = folder / "typical.svs"
    if path.exists():
        return path
    side, names = 3000, ("normal", "confounder", "normal", "confounder", "confounder", "calcinosis_cutis")
    pieces, lesion_mm2 = [], 0.0
    for number, kind in enumerate(names):
        made = make_phantom(folder / "pieces", f"piece-{number}", kind=kind, seed=seed + number, size_px=(side, side))
        with open_slide(made.slide) as slide:
            pieces.append(slide.read((0, 0), 0, (side, side)))
            if made.label != "normal":
                outlines = read_annotations(made.geojson, ("normal", "bone", "calcification"), slide.pyramid)
                lesion_mm2 = sum(area_px2(o) for those in outlines.values() for o in those) * slide.pyramid.pixel_mm2
    across = max(1, round((mm2 * 1e6) ** 0.5 / (side * MPP)))
    picture = np.empty((across * side, across * side, 3), np.uint8)
    for place in range(across * across):
        row, column = divmod(place, across)
        piece = pieces[-1] if place == across * across // 2 else pieces[place % 5]
        turned = piece[:: 1 - 2 * (row % 2), :: 1 - 2 * (column % 2)]
        picture[row * side : (row + 1) * side, column * side : (column + 1) * side] = turned
    print(f"{path}: {lesion_mm2:.3f} mm² of calcium on {picture.size / 3 * MPP**2 * 1e-6:.0f} mm²")
    write_slide(path, picture, MPP, quality=85)
    return path


class OneAnswer(nn.Module):
    """The same network as other tools take it: normalised float tiles in, one number a tile and class out.

    The logarithm of the mean probability of the map: after their softmax it is what the map says on average.
    """

    def __init__(self, network: TileClassifier) -> None:
        super().__init__()
        self.trunk, self.head = network.trunk, network.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (B, C) of (B, 3, S, S)."""
        return self.head(self.trunk(x)).softmax(dim=1).mean(dim=(2, 3)).clamp_min(1e-12).log()


def make_model(folder: Path, backbone: str, slide: Path) -> Path:
    """Write fixed random weights, made sane on the slide's pixels, as bundle and TorchScript; return the folder."""
    if (folder / "card.json").exists():
        return folder
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    # Of the shipped card nothing that was fitted for its weights.
    fitted = {"golden", "weights_sha256", "reference", "screen", "evaluation"}
    card = load_bundle(SHIPPED).card.model_dump(mode="json", exclude=fitted)
    card["name"] = f"bench-{backbone}"
    card["network"] |= {"backbone": backbone, "mean": MEAN, "std": STD}
    card["tile"] = {"size_px": TILE_PX, "mpp": MPP, "stride_px": STRIDE_PX, "margin_px": 0}
    card["calibration"] = {"temperature": 1.0, "fitted_on": "Nothing: the weights are random."}
    classes = load_bundle(SHIPPED).card.classes.names
    network = TileClassifier(backbone, len(classes), STRIDE_PX, MEAN, STD)
    with open_slide(slide) as opened:
        step = opened.pyramid.size_level0_px[0] // 32
        pixels = np.stack([opened.read((step * i, step * i), 0, (TILE_PX, TILE_PX)) for i in range(30)])
    tiles = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
        if isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = 0.0
    with torch.no_grad():
        network.train()(tiles)
        logits = network.eval()(tiles)
        spread = logits.std(dim=(0, 2, 3)).clamp_min(1e-6)
        network.head.weight /= spread[:, None, None, None]
        network.head.bias -= logits.mean(dim=(0, 2, 3))
        network.head.bias /= spread
        save_bundle(folder, card, network)
        torch.jit.trace(OneAnswer(network).eval(), torch.zeros(1, 3, TILE_PX, TILE_PX)).save(
            str(folder / "torchscript_model.pt")
        )
    config = {
        "spec_version": "1.0", "architecture": backbone, "num_classes": len(classes), "class_names": list(classes),
        "name": card["name"], "patch_size_pixels": TILE_PX, "spacing_um_px": MPP,
        "transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": {"mean": MEAN, "std": STD}}],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder
