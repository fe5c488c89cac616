from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from histo.data.labels import IGNORED
from histo.data.records import SlideRecord
from histo.data.slide import open_slide
from histo.errors import UsageError
from histo.evaluation.cases import Case, read_cohort
from histo.evaluation.froc import froc
from histo.evaluation.heatmaps import SCALE, Heatmap, read_heatmap
from histo.evaluation.localisation import Candidate, Found, _hausdorff, locate
from histo.evaluation.locating import localisation, measure_all
from histo.evaluation.resampling import Bootstrap
from histo.evaluation.truth import Drawn, _pyramid_of, classes_of, draw_truth
from histo.geometry import MapGrid
from histo.outlines import box_ring
from tests.evaluation.conftest import MODEL, NOTHING_THERE, PYRAMID

BONE = ("bone", (800.0, 800.0, 400.0))
SHIFTED = ("bone", (900.0, 800.0, 400.0))
SPOT = ("calcification", (1500.0, 1500.0, 240.0))


def measured(make_cohort, slides):
    out, manifest = make_cohort(slides)
    cohort = read_cohort(out, manifest)
    held, located = measure_all(cohort, {}, lambda done, total: None)
    bootstrap = Bootstrap(cohort.patients, [c.record.label for c in cohort.cases], 200)
    return cohort, held, located, localisation(cohort, located, bootstrap)


FINE = MapGrid((96.0, 64.0), (8.0, 8.0), (100, 152), (4.0, 4.0))
COARSE = MapGrid(FINE.origin_level0_px, (32.0, 32.0), (25, 38), (16.0, 16.0))
SQUARE = np.s_[20:60, 10:60]  # cells of FINE, 0.032 mm²


def drawn_on(*places):
    """Return class numbers on FINE: bone at `places`, nothing elsewhere."""
    classes = np.zeros(FINE.shape, np.uint8)
    for place in places:
        classes[place] = 1
    return classes


def outline_of(place):
    rows, columns = place
    corners = FINE.to_level0_px(np.array([[columns.start, rows.start], [columns.stop, rows.stop]], float))
    return (box_ring(tuple(corners.mean(axis=0)), tuple(corners[1] - corners[0])),)


def bone_at(classes, called=(), heat=None, scored=None):
    """Measure bone on one slide: `called` are the places reported on FINE, `heat` is the map times 255 on COARSE."""
    lesions = [SimpleNamespace(class_name="bone", outline=outline_of(place)) for place in called]
    case = SimpleNamespace(result=SimpleNamespace(lesions=lesions))
    heatmap = None
    if heat is not None:
        scored = np.ones(COARSE.shape, bool) if scored is None else scored
        heatmap = Heatmap(np.stack([SCALE - heat, heat, np.zeros_like(heat)]), scored, COARSE)
    return locate(case, MODEL, Drawn(classes, FINE), heatmap)[0]


def heat_of(*peaks):
    """Return a map of fields of 3 x 3 cells, so that each peak (row, column, value) keeps its value when averaged."""
    heat = np.zeros(COARSE.shape, np.uint8)
    for row, column, value in peaks:
        heat[row - 1 : row + 2, column - 1 : column + 2] = value
    return heat


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


def test_area_found_and_overlap_of_a_case_worked_by_hand():
    """2000 cells of bone, 2400 called, 1200 of them on it."""
    bone = bone_at(drawn_on(SQUARE), [np.s_[20:60, 30:90]])
    assert bone.area_found == pytest.approx(0.6)
    assert (bone.dice, bone.iou) == pytest.approx((2400 / 4400, 1200 / 3200))
    assert (bone.truth_mm2, bone.called_mm2) == pytest.approx((0.032, 0.0384))


@pytest.mark.parametrize(("place", "reported"), [(np.s_[20:40, 50:70], False), (np.s_[20:62, 50:70], True)])
def test_a_call_in_the_empty_corner_of_a_lesions_box_has_not_found_it(place, reported):
    bone = bone_at(drawn_on(np.s_[20:70, 20:30], np.s_[60:70, 20:70]), [place])
    assert [one.reported for one in bone.lesions] == [reported]


@pytest.mark.parametrize(("gap_cells", "false"), [(3, 0), (4, 1), (15, 1)])
def test_a_call_within_a_cell_of_the_map_beside_the_truth_is_not_false(gap_cells, false):
    _, columns = SQUARE
    beside = np.s_[30:40, columns.stop + gap_cells : columns.stop + gap_cells + 10]
    bone = bone_at(drawn_on(SQUARE), [beside])
    assert (bone.false_lesions, bone.area_found) == (false, 0)


def test_what_the_reader_left_out_is_in_no_measure():
    classes = drawn_on()
    classes[16:64, 6:64] = IGNORED
    classes[SQUARE] = 1
    classes[80:100, 80:120] = IGNORED
    calls = [np.s_[16:64, 6:64], np.s_[84:96, 88:112]]
    bone = bone_at(classes, calls, heat_of((10, 8, 200), (22, 25, 250)))
    assert (bone.dice, bone.iou, bone.hd95_um, bone.false_lesions) == (1, 1, 0, 0)
    assert bone.called_mm2 == pytest.approx(0.032)
    assert [c.lesion for c in bone.candidates] == [0]
    assert not bone.histogram[:, 250].any()


@pytest.mark.parametrize(
    ("peaks", "pointing"),
    [
        ([(10, 8, 200)], True),
        ([(10, 8, 200), (20, 30, 180)], True),
        ([(10, 8, 200), (20, 30, 220)], False),
        ([(20, 30, 220)], False),
        ([], False),
    ],
)
def test_the_map_points_at_the_class_where_its_strongest_cell_lies_on_it(peaks, pointing):
    assert bone_at(drawn_on(SQUARE), heat=heat_of(*peaks)).pointing is pointing


@pytest.mark.parametrize(("apart_cells", "scores"), [(4, [240]), (5, [240]), (6, [240, 200])])
def test_peaks_nearer_than_75_um_are_one_candidate(apart_cells, scores):
    bone = bone_at(drawn_on(), heat=heat_of((10, 10, 240), (10, 10 + apart_cells, 200)))
    assert [c.score for c in bone.candidates] == pytest.approx([s / SCALE for s in scores])


def test_a_peak_at_the_edge_of_what_was_scored_keeps_its_height():
    scored = np.ones(COARSE.shape, bool)
    scored[:, 13:] = False
    (peak,) = bone_at(drawn_on(), heat=heat_of((10, 12, 200)), scored=scored).candidates
    assert peak.score == pytest.approx(200 / SCALE)


# The peak's cell holds rows and columns 40 to 43 of FINE.
@pytest.mark.parametrize(
    ("near", "far"),
    [
        (np.s_[20:60, 5:39], np.s_[20:60, 5:37]),
        (np.s_[20:60, 45:80], np.s_[20:60, 47:82]),
        (np.s_[5:39, 20:60], np.s_[5:37, 20:60]),
        (np.s_[45:80, 20:60], np.s_[47:82, 20:60]),
    ],
    ids=["left", "right", "above", "below"],
)
def test_a_peak_hits_a_lesion_half_a_cell_beside_it(near, far):
    hits = [bone_at(drawn_on(place), heat=heat_of((10, 10, 200))).candidates[0].lesion for place in (near, far)]
    assert hits == [0, None]


@pytest.mark.parametrize("place", [np.s_[5:38, 20:60], np.s_[46:81, 20:60], np.s_[20:60, 5:38], np.s_[20:60, 46:81]])
def test_a_peak_reaches_as_far_to_every_side(place):
    """Regression: one fine cell further to the right and down, where both lattices are aligned."""
    heat = heat_of((10, 10, 200))  # in fine cells 40 to 43, and half a cell of the map around them
    assert bone_at(drawn_on(place), heat=heat).candidates[0].lesion is None
    wider = tuple(slice(k.start - 1, k.stop + 1) for k in place)
    assert bone_at(drawn_on(wider), heat=heat).candidates[0].lesion == 0


def test_a_peak_on_a_lesion_too_small_to_count_is_neither_hit_nor_false():
    bone = bone_at(drawn_on(SQUARE, np.s_[80:90, 80:90]), heat=heat_of((21, 21, 200)))
    assert [c.lesion for c in bone.candidates] == [-1]
    assert [one.counts for one in bone.lesions] == [True, False]


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
        """Return the places (N, 2), row before column, of the border's cells in µm."""
        padded = np.pad(mask, 1)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner) * (2.0, 4.0)

    apart = cdist(border(a), border(b))
    expected = np.percentile(np.concatenate([apart.min(axis=1), apart.min(axis=0)]), 95)
    assert _hausdorff(a, b, (4.0, 2.0)) == pytest.approx(expected)


def located(candidates=(), lesions=0, too_small=0):
    found = tuple(Found(0.1, 300.0, k < lesions, True) for k in range(lesions + too_small))
    return replace(NOTHING_THERE, lesions=found, candidates=tuple(candidates))


def test_the_froc_of_a_case_worked_by_hand():
    """Two lesions found at 0.9 and 0.5, a third never; two normal slides with one false candidate each, 0.7 and 0.3."""
    slides = [
        located([Candidate(0.9, 0), Candidate(0.4, 0), Candidate(0.95, None), Candidate(0.99, -1)], 1, too_small=1),
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
