from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from histo.export.layers import MOST_MARKS, SCREENED, canvas_grid, dot, foremost, put_marks, unscored_masks
from histo.export.legend import swatches
from histo.export.lettering import PAPER, is_drawn_as_written, text_width
from histo.export.overlay import LONGEST_PX, render_overlay, render_sheet, write_overlay
from histo.geometry import MapGrid
from histo.outlines import paint
from histo.results import RESEARCH_USE, Overview

ROOM = (800, 800)


def _bare(prediction, **changes):
    """The prediction over a white overview, so that only what is drawn has colour."""
    overview = prediction.overview
    white = Overview(np.full_like(overview.rgb, 255), overview.grid)
    return replace(prediction, overview=white, **changes)


def _close(rgb, colour, tolerance=40):
    return (np.abs(rgb.astype(int) - colour).max(axis=2)) < tolerance


@pytest.mark.parametrize("bounds", [(0, 0), (700, 1300)])
@pytest.mark.parametrize("mpp", [(0.25, 0.25), (0.5, 0.4)])
def test_heat_lies_where_the_lesion_is(make, bounds, mpp):
    prediction = make(bounds=bounds, mpp=mpp)
    x, y = 2400.0, 3100.0
    slide_map = prediction.slide_map
    column, row = (int(v) for v in slide_map.grid.to_map_px(np.array([[x, y]]))[0])
    probability = np.zeros_like(slide_map.probability)
    probability[1, row, column] = 1
    plain = np.zeros(slide_map.grid.shape, np.float32)
    planted = replace(slide_map, probability=probability, tissue=plain + 1, excluded=plain, valid=plain == 0)
    bare = _bare(prediction, slide_map=planted, result=replace(prediction.result, lesions=()))
    overview_px = prediction.overview.grid.shape[::-1]
    rgb = render_overlay(bare, overview_px)  # one canvas pixel per overview pixel along the longer side
    rows, columns = np.nonzero((rgb < 250).any(axis=2) & ~_bar_area(rgb.shape))
    canvas = canvas_grid(prediction.overview.grid, overview_px)
    centre = np.array([[columns.mean() + 0.5, rows.mean() + 0.5]])
    cell_corners = slide_map.grid.to_level0_px(np.array([[column, row], [column + 1, row + 1]], float))
    wanted = cell_corners.mean(axis=0)
    found = canvas.to_level0_px(centre)[0]
    assert np.all(np.abs(found - wanted) <= prediction.overview.grid.cell_level0_px)


@pytest.mark.parametrize("channel", [1, 2])
def test_each_class_has_its_own_colour_at_full_strength(prediction, channel):
    slide_map = prediction.slide_map
    probability = np.zeros_like(slide_map.probability)
    probability[channel] = 1
    plain = np.zeros(slide_map.grid.shape, np.float32)
    full = replace(slide_map, probability=probability, excluded=plain, valid=plain == 0)
    result = replace(prediction.result, lesions=())
    rgb = render_overlay(_bare(prediction, slide_map=full, result=result), ROOM)
    assert _close(rgb, prediction.result.model.classes[channel - 1].colour)[~_bar_area(rgb.shape)].all()


def _bar_area(shape):
    area = np.zeros(shape[:2], bool)
    area[int(shape[0] * 0.8) :, : shape[1] // 2] = True
    return area


def test_outlines_run_along_the_lesions_border(prediction):
    bare = _bare(prediction, slide_map=None)
    rgb = render_overlay(bare, ROOM)
    canvas = canvas_grid(prediction.overview.grid, ROOM)
    for lesion in prediction.result.lesions:
        colour = next(c.colour for c in prediction.result.model.classes if c.name == lesion.class_name)
        line = _close(rgb, colour)
        xy = canvas.to_map_px(np.asarray(lesion.outline[0]))
        on = [line[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2].any() for x, y in xy]
        assert np.mean(on) > 0.95
        inside = np.zeros(canvas.shape, np.uint8)
        paint(inside, [lesion.outline], canvas, 1)
        assert inside.any()


def test_the_canvas_is_square_in_um_and_covers_the_same_area():
    grid = MapGrid((700.0, 1300.0), (20.0, 20.0), (311, 97), (10.0, 8.0))
    canvas = canvas_grid(grid, (500, 1000))
    assert canvas.shape[0] <= 1000
    assert canvas.shape[1] <= 500
    assert canvas.cell_um[0] == pytest.approx(canvas.cell_um[1], rel=0.01)
    for corner in ((0.0, 0.0), (1.0, 1.0)):
        ends = [g.to_level0_px(np.array([corner]) * g.shape[::-1]) for g in (grid, canvas)]
        np.testing.assert_allclose(ends[0], ends[1])


def test_unreadable_tissue_is_hatched_and_ink_is_marked(prediction):
    rgb = render_overlay(_bare(prediction, result=replace(prediction.result, lesions=())), ROOM)
    canvas = canvas_grid(prediction.overview.grid, ROOM)
    slide_map = prediction.slide_map
    usable = slide_map.tissue - slide_map.excluded
    for mask in (~slide_map.valid & (usable > 0), slide_map.excluded > 0):
        cells = np.argwhere(mask)[:, ::-1] + 0.5
        xy = canvas.to_map_px(slide_map.grid.to_level0_px(cells)).astype(int)
        drawn = (rgb[xy[:, 1], xy[:, 0]] < 200).any(axis=1)
        assert 0.05 < drawn.mean() < 0.6


def test_screened_tissue_is_dotted_not_hatched_and_stands_in_the_legend(prediction):
    areas = replace(prediction.result.areas, unreadable_mm2=0.0, screened_mm2=prediction.result.areas.unreadable_mm2)
    screened = replace(prediction.slide_map, screened=~prediction.slide_map.valid)
    seen = replace(prediction, slide_map=screened, result=replace(prediction.result, lesions=(), areas=areas))
    assert [s.label for s in swatches(seen)] == ["Left out (ink)", "Coarse look only (screened)"]
    canvas = canvas_grid(prediction.overview.grid, ROOM)
    lost, _, passed_over = unscored_masks(screened, canvas)
    assert not lost.any()
    rgb = render_overlay(_bare(seen), ROOM)[passed_over]
    dotted = (rgb == SCREENED).all(axis=1).mean()
    assert 0.02 < dotted < 0.1


def test_dots_have_a_light_rim_and_are_whole_or_not_there():
    mask = np.zeros((80, 90), bool)
    mask[10:60, 20:70] = True
    rgb = dot(np.zeros((80, 90, 3), np.uint8), mask, SCREENED)
    dotted, rim = ((rgb == colour).all(axis=2) for colour in (SCREENED, PAPER))
    _, _, stats, _ = cv2.connectedComponentsWithStats((dotted | rim).astype(np.uint8))
    assert {tuple(box) for box in stats[1:, 2:].tolist()} == {(4, 4, 16)}
    assert rim.sum() == 3 * dotted.sum() > 0
    assert not (dotted & ~mask).any()


def test_a_mark_stands_at_its_own_lesion(monkeypatch, prediction):
    # Bug: marks stood at the corners of boxes around lesions, which may lie on another lesion or on bare glass.
    placed = {}
    monkeypatch.setattr("histo.export.layers.put_text", lambda draw, xy, text, *_, **__: placed.update({text: xy}))
    grid = MapGrid((0.0, 0.0), (1.0, 1.0), (400, 400), (1.0, 1.0))
    arm = [(100, 100), (110, 100), (110, 290), (300, 290), (300, 300), (100, 300), (100, 100)]
    inner = [(180, 200), (240, 200), (240, 260), (180, 260), (180, 200)]
    lesions = tuple(
        replace(prediction.result.lesions[0], lesion_id=name, outline=(ring,), area_mm2=area)
        for name, ring, area in (("arm", arm, 2.0), ("inner", inner, 1.0))
    )
    put_marks(Image.new("RGB", (400, 400)), lesions, {"arm": "B1", "inner": "C1"}, grid)
    for name, ring in (("B1", arm), ("C1", inner)):
        middle = np.add(placed[name], (text_width(name, 24) / 2, 12))
        assert np.abs(np.array(ring) - middle).max(axis=1).min() < 40
    x, y = placed["B1"]
    assert not (x < 240 and x + text_width("B1", 24) > 180 and y < 260 and y + 24 > 200)


def test_of_too_many_lesions_the_foremost_are_marked(prediction, monkeypatch):
    """Regression: with more than 40 no mark was drawn at all, and the table's marks stood nowhere."""
    drawn = []
    monkeypatch.setattr("histo.export.overlay.put_marks", lambda _, some, *__: drawn.extend(some))
    lesion = prediction.result.lesions[0]
    shares = np.random.default_rng(0).permutation(MOST_MARKS + 5) / 1000
    many = tuple(replace(lesion, lesion_id=str(i), name=f"bone {i}", contribution=s) for i, s in enumerate(shares))
    render_overlay(_bare(prediction, slide_map=None, result=replace(prediction.result, lesions=many)), ROOM)
    assert [one.contribution for one in drawn] == sorted(shares, reverse=True)[:MOST_MARKS]


def test_of_many_lesions_every_class_has_its_foremost_marked(prediction):
    """Regression: of 60 bone and 45 calcium lesions only calcium was marked, whose shares are larger."""
    lesion = prediction.result.lesions[0]
    counts = {"bone": 60, "calcification": 45}
    many = [replace(lesion, class_name=c, contribution=1 / n) for c, n in counts.items() for _ in range(n)]
    assert Counter(one.class_name for one in foremost(many)) == {"bone": 20, "calcification": 20}


@pytest.mark.parametrize("cells", [(120, 160), (30, 300), (300, 30), (3, 3)])
def test_the_sheet_is_about_2000_px_whatever_the_shape(make, cells):
    sheet = render_sheet(make(cells=cells, without=("lesions",)))
    assert 1000 <= max(sheet.shape) <= LONGEST_PX * 1.06


def test_the_file_names_model_and_notice_and_is_the_same_each_time(prediction, tmp_path):
    for name in ("a.png", "b.png"):
        write_overlay(prediction, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.text["Model digest"] == prediction.result.model.digest
        assert picture.text["Notice"] == RESEARCH_USE


def test_a_slide_without_a_picture_has_no_overlay(make, tmp_path):
    with pytest.raises(ValueError, match="no overview to draw on"):
        write_overlay(make(status="refused"), tmp_path / "o.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("name", "drawn"), [("H&E Größe µ", True), ("切片 1", False), ("שקופית", False)])
def test_a_name_that_the_font_cannot_write_is_found_out(name, drawn):
    """Regression: Hebrew names stood back to front and Chinese ones were boxes, and nothing else said whose it was."""
    assert is_drawn_as_written(name) == drawn
