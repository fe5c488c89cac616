from dataclasses import replace

import numpy as np
import pytest

from histo.data.labels import IGNORED
from histo.data.records import SlideRecord
from histo.errors import UsageError
from histo.evaluation.cases import Case, read_cohort
from histo.evaluation.truth import Drawn, _pyramid_of, draw_truth, fine_grid, ignored, lesions_of
from histo.geometry import MapGrid, Pyramid


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


@pytest.mark.parametrize(("side_px", "cell_um"), [(2000, 4.0), (400_000, 400_000 / 2**13.5)])
def test_the_lattice_is_fine_unless_the_slide_is_too_large_for_it(side_px, cell_um):
    pyramid = Pyramid((side_px, side_px // 2), (1.0,), 0.5, 1.0, "recorded", (0, 0, side_px, side_px // 2))
    grid = fine_grid(pyramid)
    assert grid.cell_um == pytest.approx((cell_um / 2 ** (side_px > 2000),) * 2, rel=0.01)
    assert grid.cell_level0_px == pytest.approx((2 * grid.cell_um[0], grid.cell_um[1]))


def test_outlines_are_drawn_by_the_words_that_are_given(make_cohort, made, model_info):
    slide = made("heterotopic_ossification", "normal", truth=(("Knochen", (800.0, 800.0, 400.0)),))
    (case,) = read_cohort(*make_cohort([slide])).cases
    drawn = draw_truth(case, model_info, {"Knochen": "bone"})
    assert (drawn.classes == 1).any()


def test_a_normal_slide_with_a_part_to_be_ignored_is_normal_elsewhere(make_cohort, made, model_info):
    (case,) = read_cohort(*make_cohort([made("normal", "normal", truth=(("Ignore*", (800.0, 800.0, 400.0)),))])).cases
    drawn = draw_truth(case, model_info)
    assert set(np.unique(drawn.classes)) == {0, IGNORED}


def test_a_slide_without_a_result_has_the_scale_of_the_manifest(painted):
    record = SlideRecord("s", painted, "p", "normal", mpp=0.25)
    assert _pyramid_of(Case(record, None)).mpp_x == 0.25
    assert _pyramid_of(Case(replace(record, mpp=None), None)).mpp_x == 0.5


def test_outlines_in_part_need_not_lead_to_the_label(make_cohort, made, model_info):
    slide = made("heterotopic_ossification", "normal", truth=(("calcification", (800.0, 800.0, 400.0)),))
    (case,) = read_cohort(*make_cohort([slide])).cases
    assert not draw_truth(case, model_info, unannotated="ignore").complete
    with pytest.raises(UsageError, match="which means calcinosis_cutis"):
        draw_truth(case, model_info)
