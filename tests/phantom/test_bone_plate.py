"""Plates of bone follow the skin."""

import numpy as np
import pytest

from histo.phantom.bone import AROUND_UM
from histo.phantom.bone_plate import plate
from histo.phantom.calcium_forms import transepidermal
from histo.phantom.layout import NO_SURFACE_UM, Layout, frame_for, lay_out
from histo.phantom.recipe import draw_tissue
from histo.phantom.region import find_spot


@pytest.fixture(scope="module")
def layouts() -> list[Layout]:
    frame = frame_for((6000, 6000), 0.5)
    made = [lay_out(frame, draw_tissue(seed, seed, "train"), seed) for seed in range(8)]
    return [m for m in made if float(m.depth[m.tissue > 0].max()) < NO_SURFACE_UM]


def test_a_plate_follows_the_surface(layouts: list[Layout]) -> None:
    assert layouts
    for k, layout in enumerate(layouts):
        rng = np.random.default_rng(k)
        spot = find_spot(rng, layout, 500)
        window, sdf = plate(rng, layout, spot, -5.0, AROUND_UM)
        cut = np.s_[window.y : window.y + window.h, window.x : window.x + window.w]
        inside = sdf > 0
        depth = layout.depth[cut][inside]
        assert np.ptp(depth) < 1.6 * 1500, "it keeps its depth within its thickness"
        j, i = np.nonzero(inside)
        long = max(np.ptp(j), np.ptp(i)) * layout.frame.cell_um
        assert long > 1.2 * np.ptp(depth) or layout.tissue[cut][inside].min() < 20


def test_transepidermal_calcium_reaches_into_the_epidermis(layouts: list[Layout]) -> None:
    for k, layout in enumerate(layouts):
        rng = np.random.default_rng(k)
        window, sdf = transepidermal(rng, layout, find_spot(rng, layout, 200))
        cut = np.s_[window.y : window.y + window.h, window.x : window.x + window.w]
        assert (layout.epidermis[cut][sdf > 0] > 0).any(), k
