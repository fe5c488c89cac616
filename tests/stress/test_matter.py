"""What is put on a slide or taken away: where it is, how much of it, and that nothing else changes."""

import numpy as np
import pytest

from histo.phantom.foreign import INK_OD
from histo.stress.disturb import disturb
from histo.stress.picture import density, tissue_of


def area_mm2(mask, picture):
    return float(mask.sum()) * picture.mpp**2 * 1e-6


@pytest.mark.parametrize("colour", INK_OD)
def test_a_pen_adds_its_own_density_and_leaves_most_of_the_slide(colour, skin):
    found = disturb(skin, "pen", {"colour": colour}, "s")
    added = density(found.rgb, skin.stain.white) - density(skin.rgb, skin.stain.white)
    strong = added.max(axis=-1) > 0.5
    assert 0.02 < strong.mean() < 0.35
    least, most = np.argmin(INK_OD[colour]), np.argmax(INK_OD[colour])
    assert added[strong][:, most].mean() >= added[strong][:, least].mean()
    assert np.array_equal(found.rgb[~(added > 0.05).any(axis=-1)].shape, skin.rgb[~(added > 0.05).any(axis=-1)].shape)


def test_glass_has_no_tissue_and_dust_little(skin):
    bare, dusty = (disturb(skin, "glass", {"dust": n}, "s") for n in (0, 20))
    assert not tissue_of(bare).any()
    assert 0 < area_mm2(dusty.rgb[..., 1] < 200, skin) < 0.05


def test_a_cut_edge_runs_through_the_tissue(skin):
    found = disturb(skin, "edge_cut", {}, "s").rgb
    assert found.shape[0] * found.shape[1] == pytest.approx(2000 * 1000, rel=0.01)
    borders = [found[0], found[-1], found[:, 0], found[:, -1]]
    assert max((b[:, 1] < 200).mean() for b in borders) > 0.7


@pytest.mark.parametrize("mm2", [0.15, 0.3])
def test_a_crumb_has_its_area(mm2, skin):
    found = disturb(skin, "crumb", {"mm2": mm2}, "s")
    assert area_mm2(found.rgb[..., 1] < 200, skin) == pytest.approx(mm2, rel=0.35)


def test_holes_lie_in_the_tissue_alone_and_have_the_size_of_lacunae(skin):
    found = disturb(skin, "white_holes", {"per_mm2": 400.0}, "s").rgb
    changed = (found != skin.rgb).any(axis=-1)
    inside = tissue_of(skin)
    assert changed.any()
    assert changed[~inside].mean() < 0.002  # a hole at the border may reach over it
    assert 0.005 < changed[inside].mean() < 0.06


@pytest.mark.parametrize("tissue", ["fat_necrosis", "tumour_nests"])
def test_unseen_tissue_covers_most_of_the_specimen_and_no_glass(tissue, skin):
    found = disturb(skin, "unseen", {"tissue": tissue}, "s").rgb
    changed = np.abs(found.astype(int) - skin.rgb).max(axis=-1) > 6
    inside = tissue_of(skin)
    assert changed[inside].mean() > 0.35
    assert changed[~inside].mean() < 0.03
