"""What the truth says about components, and that it fits the pixels at every level."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from histo.phantom import make_slide
from histo.phantom.layout import NO_SURFACE_UM
from histo.phantom.render import render
from histo.phantom.slide import parameters, plan
from histo.phantom.truth import depth_um, feret_um

SQUARE = [[(100.0, 100.0), (500.0, 100.0), (500.0, 400.0), (100.0, 400.0), (100.0, 100.0)]]


def test_feret_is_the_diagonal_of_a_rectangle() -> None:
    assert feret_um(SQUARE, 0.5) == pytest.approx(250)


def test_depth_is_that_of_the_shallowest_point() -> None:
    scene = plan(parameters(kind="normal", seed=1, size_px=(1000, 1000), mpp=0.5, domain="train", patient_seed=None))[0]
    scene.layout.depth[:] = np.arange(scene.frame.shape[0], dtype=np.float32)[:, None] * 4
    assert depth_um(SQUARE, scene.layout) == pytest.approx(48, abs=4)
    scene.layout.depth[:] = NO_SURFACE_UM
    assert depth_um(SQUARE, scene.layout) is None


def test_component_rows_are_complete(tmp_path: Path) -> None:
    files = make_slide(tmp_path, "a", kind="mixed", seed=5, size_px=(1400, 1200))
    rows = json.loads(files.json.read_text())["components"]
    assert {r["class"] for r in rows} == {"calcification", "bone"}
    for row in rows:
        assert set(row) == {"class", "area_mm2", "feret_mm", "centroid_level0_px", "depth_um"}
        # No shape has less than the Feret diameter of a disc of its area.
        assert row["feret_mm"] >= 0.99 * (4 * row["area_mm2"] / np.pi) ** 0.5
        assert row["depth_um"] is None or row["depth_um"] >= 0


@pytest.mark.parametrize(("kind", "seed", "label"), [("heterotopic_ossification", 15, 2), ("calcinosis_cutis", 27, 1)])
def test_mask_edge_lies_on_the_pixel_edge_at_every_level(kind: str, seed: int, label: int) -> None:
    """Only the lesion's own stain is varied: what changes must be what is labelled, to one pixel of every level."""
    asked = parameters(kind=kind, seed=seed, size_px=(1400, 1200), mpp=0.5, domain="train", patient_seed=None)
    scene, regions, stain = plan(asked)
    lesions = [r for r in regions if r.label == label]
    for region in lesions:
        region.numbers.update({"osteoid_um": 0.0, "dust": 0.0})  # take the lesion's stain too, and are no part of it
    images = []
    for amount in (0.2, 1.4):
        for region in lesions:
            region.numbers.update({"h": amount, "e": amount})
        image, truth = render(scene, lesions, stain)
        images.append(image.astype(float))
    change = np.abs(images[1] - images[0]).sum(axis=2)
    for down in (2, 4, 8):
        size = (change.shape[1] // down, change.shape[0] // down)
        gain = cv2.resize(change, size, interpolation=cv2.INTER_AREA)
        mask = (truth == label)[:: down // 2, :: down // 2][: size[1], : size[0]]
        steps = [(dy, dx) for dy in (-2, -1, 0, 1, 2) for dx in (-2, -1, 0, 1, 2)]
        contrast = {s: gain[np.roll(mask, s, (0, 1))].mean() - gain[~np.roll(mask, s, (0, 1))].mean() for s in steps}
        best = max(contrast, key=lambda s: contrast[s])
        assert max(abs(best[0]), abs(best[1])) <= 1, (down, best)
        # Beyond a ring of two cells around the label nothing changes.
        wide = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
        assert gain[~wide].mean() < 0.05 * gain[mask].mean(), down
