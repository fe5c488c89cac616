"""Hamamatsu NDPA: nm from the centre of the glass become level-0 px with the slide's own offset and scale."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.data.annotation_formats.drawn import Drawn
from histo.errors import UsageError
from histo.geometry import Pyramid, Stage, from_stage
from histo.outlines import area_px2, mend, to_polygon

Read = Callable[..., list[Drawn]]
STAGE = Stage((2_000_000.0, -1_000_000.0), (250.0, 500.0))
BOUNDED = Pyramid((40_000, 30_000), (1.0,), 0.5, 0.5, "user", (300, 700, 20_000, 20_000), STAGE)


def nm(x_px: float, y_px: float) -> tuple[int, int]:
    """The inverse of the reader, written from the viewer's definition."""
    return (
        round((x_px - 40_000 / 2) * STAGE.pixel_nm[0] + STAGE.centre_nm[0]),
        round((y_px - 30_000 / 2) * STAGE.pixel_nm[1] + STAGE.centre_nm[1]),
    )


def ndpa(points: list[tuple[float, float]], kind: str = "freehand", title: str = "bone", more: str = "") -> str:
    listed = "".join("<point><x>{}</x><y>{}</y></point>".format(*nm(*p)) for p in points)
    return (
        f'<annotations><ndpviewstate id="7"><title>{title}</title><coordformat>nanometers</coordformat>'
        f'<annotation type="{kind}" color="#FF00ff">{more}<pointlist>{listed}</pointlist></annotation>'
        "</ndpviewstate></annotations>"
    )


BOX = [(1000.0, 2000.0), (1400.0, 2000.0), (1400.0, 2600.0), (1000.0, 2600.0)]


@pytest.mark.parametrize("kind", ["freehand", "rectangle"])
def test_points_come_back_where_the_viewer_drew_them(kind: str, read: Read) -> None:
    (drawn,) = read(ndpa(BOX, kind))
    np.testing.assert_allclose(drawn.polygons[0][0], BOX, atol=0.01)
    assert (drawn.place, drawn.words) == ("view state 1 (bone)", ("bone", "#ff00ff"))


def test_the_recorded_scale_counts_even_when_the_user_corrects_it(read: Read) -> None:
    """The viewer drew with the recorded pixel size; the corrected one is for areas."""
    (one,), (other,) = (read(ndpa(BOX), replace(BOUNDED, mpp_x=m, mpp_y=m)) for m in (0.25, 1.0))
    assert one == other


def test_a_circle_has_its_area_and_place(read: Read) -> None:
    x, y = nm(5000, 6000)
    text = ndpa([], "circle", more=f"<x>{x}</x><y>{y}</y><radius>100000</radius>")
    (drawn,) = read(text)
    (outline,) = mend(drawn.polygons[0])
    assert area_px2(outline) == pytest.approx(math.pi * (100_000 / 250) * (100_000 / 500), rel=2e-3)
    assert to_polygon(outline).bounds == pytest.approx((5000 - 400, 6000 - 200, 5000 + 400, 6000 + 200))


@pytest.mark.parametrize(
    ("kind", "more", "what"),
    [("pin", "", "pin"), ("linearmeasure", "", "linearmeasure"), ("freehand", "<closed>0</closed>", "not closed")],
)
def test_what_has_no_area_says_so(kind: str, more: str, what: str, read: Read) -> None:
    (drawn,) = read(ndpa(BOX, kind, more=more))
    assert not drawn.area
    assert what in str(drawn.problem)


@pytest.mark.parametrize(
    "text",
    [
        ndpa(BOX).replace("nanometers", "pixels"),
        ndpa([]),
        ndpa(BOX[:2]),
        ndpa(BOX).replace("<x>", "<x>?"),
        ndpa([], "circle"),
    ],
)
def test_broken_coordinates_are_that_object_s_problem(text: str, read: Read) -> None:
    assert "broken coordinates" in str(read(text)[0].problem)


def test_a_view_without_a_drawing_has_no_area(read: Read) -> None:
    text = "<annotations><ndpviewstate><title>x</title></ndpviewstate></annotations>"
    assert not read(text)[0].area


def test_another_scanner_s_slide_is_refused(read: Read) -> None:
    with pytest.raises(UsageError, match="does not record where its scan lies"):
        read(ndpa(BOX), replace(BOUNDED, stage=None))


@given(st.floats(0, 40_000), st.floats(0, 30_000))
def test_nm_and_px_are_inverse(x: float, y: float) -> None:
    got = from_stage(STAGE, BOUNDED.size_level0_px, np.array([nm(x, y)]))
    np.testing.assert_allclose(got[0], (x, y), atol=0.01)


def test_the_centre_of_the_scan_is_the_middle_of_the_picture() -> None:
    stage, pyramid = Stage((5.0, 7.0), (100.0, 100.0)), Pyramid((30, 20), (1.0,), 0.1, 0.1, "recorded", (0, 0, 30, 20))
    assert from_stage(stage, pyramid.size_level0_px, np.array([[5.0, 7.0]])).tolist() == [[15.0, 10.0]]
