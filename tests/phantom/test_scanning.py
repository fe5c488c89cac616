"""What fades over the slide, and stripes that were stitched a few pixels off."""

import dataclasses

import numpy as np
import pytest

from histo.phantom.artefacts import Artefacts
from histo.phantom.noise import Window
from histo.phantom.recipe import draw_stain
from histo.phantom.stain import fading
from histo.phantom.stitching import MOST_PX, offsets_px, stitched

SIZE = (20000, 20000)


def test_the_stain_fades_over_millimetres_within_its_range() -> None:
    for domain, (low, high) in {"train": (0, 0.15), "shift": (0.17, 0.3), "extreme": (0.32, 0.45)}.items():
        assert all(low <= draw_stain(s, s + 1, domain).fade <= high for s in range(30)), domain
    stain = dataclasses.replace(draw_stain(1, 1, "train"), fade=0.15, fade_turn=0.0)
    row = fading(stain, SIZE, 0.5, Window(10000, 0, 1, 20000))[0]
    assert row[10000] == pytest.approx(1, abs=1e-4)
    assert 0.05 < row[-1] - 1 <= 0.15
    assert 0.05 < 1 - row[0] <= 0.15
    assert np.abs(np.diff(row)).max() < 1e-4, "no step anywhere"
    part = fading(stain, SIZE, 0.5, Window(10000, 4000, 1, 50))[0]
    np.testing.assert_array_equal(part, row[4000:4050])


@pytest.mark.parametrize("upright", [0.0, 1.0])
def test_neighbouring_stripes_are_off_and_picture_and_truth_move_together(upright: float) -> None:
    artefacts = Artefacts(77, stripes=(40.0, 0.02, upright), offset_px=3)
    outer, inner = Window(-5, -5, 410, 410), Window(0, 0, 400, 400)
    truth = np.random.default_rng(1).integers(0, 3, (410, 410)).astype(np.uint8)
    picture = np.repeat(truth[:, :, None], 3, axis=2)
    moved = stitched(truth, artefacts, inner, outer)
    np.testing.assert_array_equal(stitched(picture, artefacts, inner, outer)[:, :, 0], moved)
    plain = truth[inner.within(outer)]
    assert (moved != plain).any()
    steps = np.abs(np.diff(offsets_px(artefacts, 0, 400)[::40]))
    assert steps.min() >= 1
    assert steps.max() <= MOST_PX
    lone = dataclasses.replace(artefacts, offset_px=0)
    np.testing.assert_array_equal(stitched(truth, lone, inner, outer), plain)
