import numpy as np
import pytest

from histo.data.labels import IGNORED
from histo.evaluation.truth import Drawn, ignored, lesions_of
from histo.geometry import MapGrid


def grid_of(shape, cell_um=(4.0, 4.0)):
    return MapGrid((0.0, 0.0), (8.0, 8.0), shape, cell_um)


def test_a_disc_has_its_own_diameter_and_area():
    y, x = (np.indices((260, 150)) + 0.5) * np.array([2.0, 4.0])[:, None, None]  # µm
    classes = 2 * (np.hypot(x - 320, y - 240) < 200).astype(np.uint8)
    (disc,), _ = lesions_of(Drawn(classes, grid_of((260, 150), (4.0, 2.0))), 2)
    assert disc.diameter_um == pytest.approx(400, rel=0.003)
    assert disc.area_mm2 == pytest.approx(np.pi * 0.2**2, rel=0.006)


def test_cells_that_touch_by_a_corner_are_one_lesion():
    classes = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 2, 1], [0, 0, 0, 0, 0]], np.uint8)
    lesions, numbers = lesions_of(Drawn(classes, grid_of((3, 5))), 1)
    assert [one.area_mm2 for one in lesions] == pytest.approx([2 * 16e-6, 16e-6])
    assert numbers.tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 2], [0, 0, 0, 0, 0]]


def test_a_lesion_does_not_hold_another_in_the_corner_of_its_box():
    classes = np.array([[1, 0, 1], [1, 0, 0], [1, 1, 1]], np.uint8)
    (first, second), _ = lesions_of(Drawn(classes, grid_of((3, 3))), 1)
    assert first.inside.tolist() == [[True, False, False], [True, False, False], [True, True, True]]
    assert (second.window, second.inside.tolist()) == ((slice(0, 1), slice(2, 3)), [[True]])


def test_only_what_the_reader_left_out_is_ignored():
    classes = np.array([[0, IGNORED, 1]], np.uint8)
    assert ignored(Drawn(classes, grid_of((1, 3)))).tolist() == [[False, True, False]]
