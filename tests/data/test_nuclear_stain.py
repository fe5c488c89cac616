"""Nuclei tell how strong haematoxylin is, whatever else lies on the slide."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.nuclear_stain import FIELD_PX, SPOTS_A_MM2, nuclear_od

TISSUE = np.array([0.2, 0.6, 0.36])
NUCLEUS = np.array([1.0, 1.28, 0.72])
FIELDS = 4
NUCLEI = 40  # a field, which is 0.066 mm²: well above the densest that count


def density(contrast: float = 1.0, nuclei: int = NUCLEI, seed: int = 0) -> np.ndarray:
    """A field of tissue (S, S, 3) with nuclei of 8 µm that stand out by `contrast` in red light."""
    rng = np.random.default_rng(seed)
    amount = np.zeros((FIELD_PX, FIELD_PX), np.float32)
    for x, y in rng.integers(12, FIELD_PX - 12, (nuclei, 2)).tolist():
        cv2.circle(amount, (x, y), 4, 1.0, -1)
    return TISSUE + contrast * amount[..., None] * NUCLEUS


def pixels(od: np.ndarray) -> np.ndarray:
    return np.clip(np.round(240 * np.exp(-od)), 1, 255).astype(np.uint8)


def fields(contrast: float = 1.0, nuclei: int = NUCLEI) -> list[np.ndarray]:
    return [pixels(density(contrast, nuclei, seed)) for seed in range(FIELDS)]


@given(contrast=st.floats(0.25, 2.2))
def test_the_measure_is_the_contrast_of_the_nuclei(contrast):
    assert nuclear_od(fields(contrast)) == pytest.approx(contrast, rel=0.12)


def test_eosin_does_not_move_it():
    pinker = [pixels(density(0.8, seed=s) + np.array([0.05, 0.5, 0.3])) for s in range(FIELDS)]
    assert nuclear_od(pinker) == pytest.approx(nuclear_od(fields(0.8)), rel=0.05)


def test_neither_a_lake_of_calcium_nor_a_few_black_grains_move_it():
    with_lake = [density(0.8, seed=s) for s in range(FIELDS)]
    with_lake[1][60:200, 60:200] = [2.0, 2.4, 1.6]
    with_lake[2][20:22, 20:22] = with_lake[2][90:92, 40:42] = [3.0, 3.0, 3.0]
    assert nuclear_od(pixels(f) for f in with_lake) == pytest.approx(nuclear_od(fields(0.8)), rel=0.05)


@pytest.mark.parametrize("across", [9, 11, 13])
def test_a_black_body_is_one_spot_though_it_is_flat(across):
    # Bug: every pixel of a clipped psammoma body counted as a spot, and a few of them made the slide pale.
    bodies = [density(0.8, seed=s) for s in range(FIELDS)]
    for body in bodies:
        for at in ((40, 60), (190, 200)):
            cv2.circle(body, at, across // 2, (5.0, 5.0, 5.0), -1)
    assert nuclear_od(pixels(f) for f in bodies) == pytest.approx(nuclear_od(fields(0.8)), rel=0.1)


def test_texture_of_tissue_without_cells_is_no_nuclei():
    # Bug: two hundred peaks a mm² are found in any noise, and haematoxylin was multiplied by the most that is allowed.
    rng = np.random.default_rng(0)
    for sd, blur in ((0.02, 0), (0.04, 0), (0.04, 1.5)):
        noise = rng.normal(0, sd, (FIELDS, FIELD_PX, FIELD_PX, 1))
        shown = [TISSUE * (1 + 4 * (cv2.GaussianBlur(n, (0, 0), blur)[..., None] if blur else n)) for n in noise]
        assert nuclear_od(pixels(f) for f in shown) is None


def test_a_crowd_of_pale_nuclei_does_not_hide_the_dark_ones():
    dark = NUCLEI // 2
    assert dark * FIELDS > SPOTS_A_MM2 * FIELDS * (FIELD_PX * 1e-3) ** 2
    crowded = [pixels(density(0.8, dark, s) + density(0.2, 60, s + 50) - TISSUE) for s in range(FIELDS)]
    assert nuclear_od(crowded) == pytest.approx(nuclear_od(fields(0.8, dark)), rel=0.15)


@pytest.mark.parametrize("what", ["no fields", "glass", "no nuclei", "too little tissue"])
def test_where_nothing_can_be_told_nothing_is(what):
    glass = np.full((FIELD_PX, FIELD_PX, 3), 240, np.uint8)
    crumb = glass.copy()
    crumb[:100, :100] = fields()[0][:100, :100]
    shown = {"no fields": [], "glass": [glass], "no nuclei": fields(nuclei=0), "too little tissue": [crumb]}[what]
    assert nuclear_od(shown) is None
