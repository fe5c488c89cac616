from dataclasses import replace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from histo.data.records import SlideRecord
from histo.data.slide import open_slide
from histo.errors import UsageError
from histo.evaluation.cases import Case, read_cohort
from histo.evaluation.froc import froc
from histo.evaluation.heatmaps import read_heatmap
from histo.evaluation.localisation import Candidate, Found, _hausdorff
from histo.evaluation.locating import localisation, measure_all
from histo.evaluation.resampling import Bootstrap
from histo.evaluation.truth import Drawn, _pyramid_of, classes_of, draw_truth
from tests.evaluation.conftest import NOTHING_THERE, PYRAMID

BONE = ("bone", (800.0, 800.0, 400.0))
SHIFTED = ("bone", (900.0, 800.0, 400.0))
SPOT = ("calcification", (1500.0, 1500.0, 240.0))


def measured(make_cohort, slides):
    out, manifest = make_cohort(slides)
    cohort = read_cohort(out, manifest)
    held, located = measure_all(cohort, {}, lambda done, total: None)
    bootstrap = Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 200)
    return cohort, held, located, localisation(cohort, located, bootstrap)


def test_overlap_and_areas_are_those_of_the_polygons(make_cohort, made):
    slides = [
        made("heterotopic_ossification", "heterotopic_ossification", truth=(BONE,), found=(SHIFTED,)),
        made("normal", "normal"),
    ]
    _, held, located, _ = measured(make_cohort, slides)
    bone, calcium = located[0]
    one, other = (shapely.box(x - 200, 600, x + 200, 1000) for x in (800, 900))
    both = one.intersection(other).area
    assert bone.dice == pytest.approx(2 * both / (one.area + other.area), abs=0.02)
    assert bone.iou == pytest.approx(both / one.union(other).area, abs=0.02)
    assert bone.truth_mm2 == pytest.approx(one.area * 0.25e-6, rel=0.03)
    assert bone.hd95_um == pytest.approx(50, abs=6)
    assert bone.false_lesions == 0
    assert bone.pointing
    assert calcium.dice is None
    assert held == [{"bone": True, "calcification": False}, {"bone": False, "calcification": False}]


def test_what_nobody_outlined_is_not_judged_where_it_may_hold_anything(make_cohort, made):
    # Bug: on slides outlined in part, lesions that were found beside the outlines were false, and other classes absent.
    slides = [
        made("heterotopic_ossification", "heterotopic_ossification", truth=(BONE,), found=(BONE, SPOT)),
        made("calcinosis_cutis", "calcinosis_cutis", truth=(SPOT,), found=(SPOT,)),
        made("normal", "normal", found=(SPOT,)),
    ]
    cohort = read_cohort(*make_cohort(slides))
    held, located = measure_all(cohort, {}, lambda done, total: None, "ignore")
    assert held[0] == {"bone": True, "calcification": None}
    assert held[1] == {"bone": False, "calcification": True}, "bone would be another diagnosis"
    assert held[2] == {"bone": False, "calcification": False}
    assert [one.false_lesions for one in located[0]] == [0, 0]
    assert [one.false_lesions for one in located[2]] == [0, 1]
    # Bug: what was called beside the outlines was cut away, so overlap, area and pointing were right by construction.
    bone = located[0][0]
    assert (bone.dice, bone.iou, bone.hd95_um, bone.pointing, bone.has_truth) == (None, None, None, None, False)
    assert bone.area_found == pytest.approx(1, abs=0.02)
    assert [one.reported for one in bone.lesions] == [True]
    assert not bone.histogram.any()
    report = localisation(cohort, located, Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 200))
    assert report["partly_outlined"] == 2
    assert report["false_lesions"]["per_slide"] == {"value": 1.0, "n": 1, "lesions": 1}
    assert report["classes"]["calcification"]["strongest"]["false_without_class"]["n"] == 1
    assert report["classes"]["bone"]["area"]["n"] == report["classes"]["bone"]["dice"]["n"] == 0
    assert report["classes"]["bone"]["area_found"]["n"] == 1


def test_outlines_that_lead_to_another_label_are_refused(make_cohort, made):
    """Regression: such a slide was a false call in one table and a found bone in the next."""
    slides = [made("normal", "heterotopic_ossification", truth=(BONE,), found=(BONE,)), made("normal", "normal")]
    cohort = read_cohort(*make_cohort(slides))
    with pytest.raises(UsageError, match=r"labelled normal, and .* outlines bone, which means heterotopic_oss"):
        measure_all(cohort, {}, lambda done, total: None)


def test_slides_that_were_never_examined_have_found_nothing(make_cohort, made, monkeypatch):
    """Regression: they were in no figure of localisation, which got better with every slide that failed."""
    slides = [
        made("heterotopic_ossification", "heterotopic_ossification", truth=(BONE,), found=(BONE,)),
        made("heterotopic_ossification", "heterotopic_ossification", truth=(BONE,), found=(BONE,)),
        made("normal", "normal"),
    ]
    cohort = read_cohort(*make_cohort(slides))
    first, second, last = cohort.cases
    cohort = replace(cohort, cases=(first, Case(second.record, None), last))
    monkeypatch.setattr("histo.evaluation.truth._pyramid_of", lambda case: PYRAMID)
    _, located = measure_all(cohort, {}, lambda done, total: None)
    report = localisation(cohort, located, Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 200))
    bone = report["classes"]["bone"]
    assert (bone["dice"]["n"], bone["dice"]["value"]) == (2, pytest.approx(0.5, abs=0.02))
    assert (bone["lesions_reported"]["hits"], bone["lesions_reported"]["n"]) == (1, 2)
    assert (bone["area"]["n"], bone["area"]["missed"]) == (2, 1)
    assert (bone["pointing_game"]["hits"], bone["pointing_game"]["n"]) == (1, 2)
    assert bone["map_auprc"]["value"] == pytest.approx(0.5, abs=0.1)


def test_the_geometry_of_a_slide_without_a_result_comes_from_the_slide(painted, tmp_path):
    record = SlideRecord("s", painted, "p", "normal")
    with open_slide(painted) as slide:
        assert _pyramid_of(Case(record, None)) == slide.pyramid
    assert _pyramid_of(Case(replace(record, path=tmp_path / "gone.svs"), None)) is None


def test_a_lesion_without_truth_is_false_and_one_of_another_class_too(make_cohort, made):
    slides = [
        made("normal", "calcinosis_cutis", found=(SPOT,)),
        made("calcinosis_cutis", "heterotopic_ossification", truth=(SPOT,), found=(("bone", SPOT[1]),)),
    ]
    cohort, _, located, report = measured(make_cohort, slides)
    assert [one.false_lesions for one in located[0]] == [0, 1]
    assert [one.false_lesions for one in located[1]] == [1, 0]
    assert report["false_lesions"]["per_normal_slide"] == {"value": 1.0, "n": 1, "lesions": 1}
    assert report["classes"]["calcification"]["lesions_reported"]["hits"] == 0
    assert cohort.model.name == "test-model"


def test_missed_lesions_count_in_dice_and_area_error(make_cohort, made):
    slides = [
        made("heterotopic_ossification", "heterotopic_ossification", truth=(BONE,), found=(BONE,)),
        made("heterotopic_ossification", "normal", truth=(BONE,)),
        made("normal", "normal"),
    ]
    *_, report = measured(make_cohort, slides)
    bone = report["classes"]["bone"]
    assert bone["dice"]["n"] == 2
    assert bone["dice"]["value"] == pytest.approx(0.5, abs=0.02)
    assert bone["area"]["missed"] == 1
    assert bone["area"]["median_error"] == pytest.approx(0.5, abs=0.03)
    assert bone["pointing_game"]["hits"] == 1
    assert bone["map_auprc"]["value"] == pytest.approx(0.5, abs=0.15)


def test_a_slide_without_outlines_is_not_measured_but_counted(make_cohort, made):
    slides = [
        made("heterotopic_ossification", "heterotopic_ossification", found=(BONE,)),
        made("calcinosis_cutis", None, "failed", truth=(SPOT,)),
        made("normal", "normal"),
    ]
    _, held, located, report = measured(make_cohort, slides)
    assert [one is None for one in located] == [True, True, False]
    assert report["not_measured"] == 2
    assert held[0] == {"bone": True, "calcification": None}
    assert held[1] == {"bone": False, "calcification": True}


def test_a_slide_without_a_map_is_no_slide_without_false_findings(make_cohort, made):
    """Regression: refused normal slides lowered the false findings a normal slide."""
    slides = [
        made("heterotopic_ossification", "heterotopic_ossification", truth=(BONE,), found=(BONE,)),
        made("normal", "normal", found=(SPOT,)),
        made("normal", "normal"),
    ]
    out, manifest = make_cohort(slides)
    cohort = read_cohort(out, manifest)
    *mapped, last = cohort.cases
    refused = replace(last, result=replace(last.result, status="refused", verdict=None, files={}))
    cohort = replace(cohort, cases=(*mapped, refused))
    _, located = measure_all(cohort, {}, lambda done, total: None)
    report = localisation(cohort, located, Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 200))
    assert report["without_map"] == 1
    assert report["false_lesions"]["per_normal_slide"] == {"value": 1.0, "n": 1, "lesions": 1}
    assert report["classes"]["bone"]["froc"]["normal_slides"] == 1
    assert report["classes"]["calcification"]["strongest"]["false_without_class"]["n"] == 2


def test_of_two_classes_with_one_label_the_outlines_tell_which(make_cohort, made, model_info):
    """Regression: the one that was not outlined was taken as there."""
    woven = replace(model_info.classes[0], name="woven")
    model = replace(model_info, classes=(*model_info.classes, woven))
    case = read_cohort(*make_cohort([made("heterotopic_ossification", "normal", truth=(BONE,))])).cases[0]
    drawn = draw_truth(case, model, {})
    assert classes_of(case, model, drawn) == {"bone": True, "calcification": False, "woven": False}
    partly = draw_truth(case, model, {}, "ignore")
    assert classes_of(case, model, partly, "ignore") == {"bone": True, "calcification": None, "woven": None}
    nothing = Drawn(np.zeros_like(drawn.classes), drawn.grid)
    assert classes_of(case, model, nothing) == {"bone": None, "calcification": False, "woven": None}


def test_the_heatmap_comes_back_on_its_own_lattice(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal", found=(BONE,))])
    case = read_cohort(out, manifest).cases[0]
    heatmap = read_heatmap(case.folder / "heatmap.ome.tif", case.result.pyramid)
    assert heatmap.grid.cell_level0_px == pytest.approx((32, 32))
    assert heatmap.grid.origin_level0_px == pytest.approx((0, 0))
    assert heatmap.values[1].max() == round(0.95 * 255)
    row, column = np.argwhere(heatmap.values[1] > 0)[0]
    assert heatmap.grid.to_level0_px(np.array([[column, row]], float))[0] == pytest.approx((576, 576))


masks = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=20)


@given(masks, masks)
def test_the_hausdorff_distance_is_that_of_all_pairs_of_border_cells(one, other):
    a, b = np.zeros((12, 12), bool), np.zeros((12, 12), bool)
    for mask, cells in ((a, one), (b, other)):
        for y, x in cells:
            mask[y + 1, x + 1] = True

    def border(mask):
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner) * 4.0

    apart = cdist(border(a), border(b))
    expected = np.percentile(np.concatenate([apart.min(axis=1), apart.min(axis=0)]), 95)
    assert _hausdorff(a, b, (4.0, 4.0)) == pytest.approx(expected)


def located(candidates=(), lesions=0):
    found = tuple(Found(0.1, 300.0, True, True) for _ in range(lesions))
    return replace(NOTHING_THERE, lesions=found, candidates=tuple(candidates))


def test_the_froc_of_a_case_worked_by_hand():
    """Two lesions found at 0.9 and 0.5, a third never; two normal slides with one false candidate each, 0.7 and 0.3."""
    slides = [
        located([Candidate(0.9, 0), Candidate(0.4, 0), Candidate(0.95, None), Candidate(0.99, -1)], 1),
        located([Candidate(0.5, 1)], 2),
        located([Candidate(0.7, None)]),
        located([Candidate(0.3, None)]),
    ]
    normal = np.array([False, False, True, True])
    bootstrap = Bootstrap(list("abcd"), ["x", "x", "y", "y"], 200)
    found = froc(slides, normal, bootstrap, np.arange(4))
    at = {p["false_per_slide"]: p["sensitivity"] for p in found["at"]}
    assert (found["lesions"], found["normal_slides"]) == (3, 2)
    assert at[0.25] == pytest.approx(1 / 3)
    assert at[0.5] == pytest.approx(2 / 3)
    assert at[8.0] == pytest.approx(2 / 3)
    assert found["score"] == pytest.approx((1 / 3 + 5 * 2 / 3) / 6)
    assert found["patient_low"] <= found["score"] <= found["patient_high"]


def test_no_lesion_or_no_normal_slide_has_no_froc():
    bootstrap = Bootstrap(["a"], ["x"], 10)
    assert froc([located()], np.array([True]), bootstrap, np.arange(1))["score"] is None
    assert froc([located(lesions=1)], np.array([False]), bootstrap, np.arange(1))["score"] is None
