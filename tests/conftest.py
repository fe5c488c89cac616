"""Slides and models that the tests make themselves."""

import json
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings
from numpy.typing import NDArray
from torch import nn

from histo.config import (
    ClassConfig,
    ClassesConfig,
    NetworkConfig,
    RuleConfig,
    TileConfig,
    TrainConfig,
    load_config,
)
from histo.models import backbones
from histo.models.bundle import SHIPPED, Model, load_bundle, save_bundle
from histo.models.classifier import TileClassifier
from histo.phantom import PhantomFiles, make_slide

# How long an example takes says nothing on a busy machine of two cores.
settings.register_profile("histo", deadline=None)
settings.load_profile("histo")

Rgb = NDArray[np.uint8]
TILE = 256

GLASS, DERMIS, CALCIUM, BONE = (244, 243, 245), (225, 170, 195), (60, 30, 95), (205, 95, 130)


def write_tiff(
    path: Path,
    levels: list[Rgb],
    *,
    description: str = "Aperio made for a test |AppMag = 20|MPP = 0.5",
    faults: Mapping[int, bytes | None] | None = None,
) -> Path:
    """Write RGB levels as a tiled JPEG TIFF. `faults` replaces level-0 tiles by bytes, or drops them (None)."""
    body = bytearray(b"II*\0\0\0\0\0")
    directories = []
    for number, image in enumerate(levels):
        height, width = image.shape[:2]
        offsets, counts = [], []
        for y in range(0, height, TILE):
            for x in range(0, width, TILE):
                tile = np.full((TILE, TILE, 3), GLASS, np.uint8)
                part = image[y : y + TILE, x : x + TILE]
                tile[: part.shape[0], : part.shape[1]] = part
                data: bytes | None = cv2.imencode(".jpg", tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
                if number == 0 and faults and len(offsets) in faults:
                    data = faults[len(offsets)]
                offsets.append(len(body) if data else 0)
                counts.append(len(data or b""))
                body += data or b""
        text = description.encode() + b"\0"
        text_at = len(body)
        body += text
        directories.append((width, height, offsets, counts, text_at, len(text)))
    previous = 4
    for width, height, offsets, counts, text_at, text_length in directories:
        offsets_at = len(body)
        body += struct.pack(f"<{len(offsets)}I", *offsets)
        counts_at = len(body)
        body += struct.pack(f"<{len(counts)}I", *counts)
        bits_at = len(body)
        body += struct.pack("<3H", 8, 8, 8)
        n = len(offsets)
        entries = [
            (254, 4, 1, 0), (256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits_at), (259, 3, 1, 7),
            (262, 3, 1, 6), (270, 2, text_length, text_at), (277, 3, 1, 3), (284, 3, 1, 1), (322, 4, 1, TILE),
            (323, 4, 1, TILE), (324, 4, n, offsets[0] if n == 1 else offsets_at),
            (325, 4, n, counts[0] if n == 1 else counts_at), (530, 3, 2, 2 | 2 << 16),
        ]  # fmt: skip
        body += b"\0" * (len(body) % 2)
        struct.pack_into("<I", body, previous, len(body))
        body += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries)
        previous = len(body)
        body += b"\0\0\0\0"
    path.write_bytes(body)
    return path


@pytest.fixture(name="write_tiff", scope="session")
def write_tiff_fixture() -> Callable[..., Path]:
    return write_tiff


def paint_slide(width: int = 2048, height: int = 1536) -> Rgb:
    """Return a picture of glass, a piece of dermis, one deposit of calcium and one of bone; textured, not flat."""
    rng = np.random.default_rng(7)
    image = np.full((height, width, 3), GLASS, np.uint8)
    image[200 : height - 200, 200 : width - 200] = DERMIS
    image[500:900, 400:800] = CALCIUM
    image[600:1100, 1200:1700] = BONE
    noise = cv2.GaussianBlur(rng.normal(0, 12, (height, width)).astype(np.float32), (0, 0), 1.5)
    return np.clip(image + noise[..., None] * (image < 240), 0, 255).astype(np.uint8)


@pytest.fixture(name="paint_slide", scope="session")
def paint_slide_fixture() -> Callable[..., Rgb]:
    return paint_slide


@pytest.fixture(scope="session")
def painted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of flat colours at 0.5 µm/px: calcium 0.04 mm², bone 0.0625 mm², two levels."""
    image = paint_slide()
    half = cv2.resize(image, (image.shape[1] // 2, image.shape[0] // 2), interpolation=cv2.INTER_AREA)
    return write_tiff(tmp_path_factory.mktemp("painted") / "painted.svs", [image, np.asarray(half, np.uint8)])


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PhantomFiles]:
    """One phantom slide of 2400 x 2400 px for each slide label."""
    folder = tmp_path_factory.mktemp("phantoms")
    kinds = ("normal", "calcinosis_cutis", "heterotopic_ossification")
    return {kind: make_slide(folder, kind, kind=kind, seed=11, size_px=(2400, 2400)) for kind in kinds}


@pytest.fixture(scope="session")
def classes() -> ClassesConfig:
    bone = ClassConfig(name="bone", colour=(213, 62, 79), min_area_mm2=0.02, verdict="heterotopic_ossification")
    calcium = ClassConfig(name="calcification", colour=(50, 92, 190), min_area_mm2=0.005, verdict="calcinosis_cutis")
    return ClassesConfig(lesions=(bone, calcium))


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keep exports of the tests' models out of the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    return folder


def _mean_colour(net: nn.Module) -> list[nn.Module]:
    return [net]


@pytest.fixture(scope="session", autouse=True)
def mean_colour_backbone() -> str:
    """Register a backbone that averages colour over 16 x 16 px: what it sees can be computed by hand."""
    backbones.BACKBONES["mean_colour"] = (lambda weights: nn.AvgPool2d(16), _mean_colour)
    return "mean_colour"


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory, classes: ClassesConfig, mean_colour_backbone: str) -> Path:
    """A model bundle that tells the painted slide's classes apart by their mean colour."""
    folder = tmp_path_factory.mktemp("model") / "colour"
    network = TileClassifier(mean_colour_backbone, 3, 16, (0, 0, 0), (1, 1, 1)).eval()
    # Nearest colour as a linear score: 2 c.x - c.c, sharpened.
    colours = torch.tensor([DERMIS, BONE, CALCIUM], dtype=torch.float32) / 255
    with torch.no_grad():
        network.head.weight.copy_((60 * colours)[:, :, None, None])
        network.head.bias.copy_(-30 * (colours**2).sum(dim=1))
    card = {
        "name": "mean-colour",
        "intended_use": "Tests.",
        "classes": classes.model_dump(),
        "tile": TileConfig(size_px=256, mpp=1.0, stride_px=16, margin_px=32).model_dump(),
        "network": NetworkConfig(backbone=mean_colour_backbone).model_dump() | {"mean": (0, 0, 0), "std": (1, 1, 1)},
        "rule": RuleConfig(enough_tissue_mm2=0.3).model_dump(),
        "calibration": {"temperature": 1.0, "fitted_on": "Nothing."},
        "training": {},
    }
    save_bundle(folder, card, network)
    return folder


@pytest.fixture
def colour_model(colour_bundle: Path) -> Model:
    return load_bundle(colour_bundle)


SCREEN_MISSED = {
    "slides": 2, "views": 8, "patients": 2, "lesion_mm2": 0.1, "missed_share": 0.0, "missed_share_interval": (0.0, 0.0),
    "deposit_um": 200.0, "deposits": 8, "deposits_missed": 0, "deposits_missed_interval": (0.0, 0.37),
    "shown_share": 0.5,
}  # fmt: skip


@pytest.fixture(scope="session")
def screen_section(mean_colour_backbone: str) -> dict[str, object]:
    """The card's section of a screen that calls whatever absorbs more green than dermis, in cells of 64 µm."""
    return {
        "tile": TileConfig(size_px=64, mpp=4.0, stride_px=16, margin_px=16).model_dump(),
        "network": NetworkConfig(backbone=mean_colour_backbone).model_dump() | {"mean": (0, 0, 0), "std": (1, 1, 1)},
        "threshold": 0.2,
        "fitted_on": "Fitted on nothing: a test.",
        "missed": SCREEN_MISSED,
    }


@pytest.fixture(scope="session")
def screened_bundle(
    tmp_path_factory: pytest.TempPathFactory, colour_bundle: Path, screen_section: dict[str, object]
) -> Path:
    """The bundle of `colour_bundle` with a screen."""
    folder = tmp_path_factory.mktemp("model") / "screened"
    network = TileClassifier("mean_colour", 2, 16, (0, 0, 0), (1, 1, 1)).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.weight[1, 1] = -20
        network.head.bias.copy_(torch.tensor([0.0, 10.4]))
    model = load_bundle(colour_bundle)
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(folder, card | {"screen": screen_section}, model.network, network)
    return folder


@pytest.fixture(scope="session")
def painted_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest of nine painted slides of nine patients, three a label; of each two lesion slides one has outlines."""
    folder = tmp_path_factory.mktemp("painted-cohort")
    box = {"calcinosis_cutis": ("calcification", CALCIUM), "heterotopic_ossification": ("bone", BONE)}
    rows = ["slide,path,patient,label,annotation,site"]
    for number, label in enumerate(["normal", *box] * 3):
        rng = np.random.default_rng(number)
        image = np.full((896, 1152, 3), GLASS, np.uint8)
        image[96:800, 96:1056] = DERMIS
        x, y = (int(v) for v in rng.integers(150, 500, 2))
        if label in box:
            image[y : y + 250, x : x + 300] = box[label][1]
        noise = cv2.GaussianBlur(rng.normal(0, 12, image.shape[:2]).astype(np.float32), (0, 0), 1.5)
        image = np.clip(image + noise[..., None] * (image < 240), 0, 255).astype(np.uint8)
        write_tiff(folder / f"s{number}.svs", [image])
        outlined = label in box and number % 2 == 0
        if outlined:
            ring = [[x, y], [x + 300, y], [x + 300, y + 250], [x, y + 250], [x, y]]
            feature = {
                "type": "Feature",
                "geometry": {"type": "Polygon", "coordinates": [ring]},
                "properties": {"classification": {"name": box[label][0]}},
            }
            (folder / f"s{number}.geojson").write_text(json.dumps([feature]))
        site = "ABC"[number // 3]
        rows.append(f"s{number},s{number}.svs,p{number},{label},{f's{number}.geojson' if outlined else ''},{site}")
    (folder / "slides.csv").write_text("\n".join(rows) + "\n")
    return folder / "slides.csv"


# A training on the painted cohort that takes seconds and uses everything that a run keeps between epochs.
SMALL = (
    "network.backbone=mobilenet_v3_small",
    "network.start=random",
    "tile.size_px=128",
    "tile.tissue_od=null",
    "tile.nuclear_od=null",
    "data.tile_px=null",
    "tile.margin_px=32",
    "data.tiles_per_epoch=12",
    "data.validation_share=0.3",
    "data.loaders=0",
    "optimiser.epochs=3",
    "optimiser.batch_size=6",
    "weak={bag_tiles: 3}",
    "mining={every_epochs: 1}",
    "averaging={ema: 0.5, batchnorm_steps: 2}",
    "rule.least_tissue_mm2=0.02",
    "screen.enabled=false",
)


@pytest.fixture(scope="session")
def small_training(painted_cohort: Path) -> Callable[..., TrainConfig]:
    """Return a function that makes the configuration of a small training, with overrides."""

    def make(*overrides: str) -> TrainConfig:
        path = Path(__file__).parents[1] / "configs" / "phantom.yaml"
        return load_config(path, [*SMALL, f"data.manifest={painted_cohort}", *overrides])

    return make


@pytest.fixture(scope="session")
def shipped_config(small_training: Callable[..., TrainConfig]) -> Callable[..., TrainConfig]:
    """Return a function: configurations with the shipped model's backbone, stride, scale and normalisation."""
    card = load_bundle(SHIPPED).card
    net: dict[str, Any] = {"start": "shipped", "backbone": card.network.backbone}
    net |= {"mean": list(card.network.mean), "std": list(card.network.std)}

    def make(*overrides: str, **network: Any) -> TrainConfig:
        return small_training(
            f"network={net | network}", f"tile={card.tile.model_dump(mode='json', exclude_none=True)}", *overrides
        )

    return make


@pytest.fixture(scope="session")
def small_overrides() -> tuple[str, ...]:
    return SMALL
