"""What was measured of a slide, in words."""

from dataclasses import replace

import pytest

from histo.export.checks import NOT_MEASURED, check_rows
from histo.infer import blank_result, load_model
from histo.models.bundle import SHIPPED
from histo.results import Checks, SlideResult, StainGains


@pytest.fixture(scope="module")
def result() -> SlideResult:
    return blank_result(SHIPPED / "card.json", load_model(lazy=True), None, "slide", "cpu")


def test_a_slide_that_was_never_scored_has_no_rows(result):
    assert check_rows(result) == []


def test_what_could_not_be_measured_is_said(result):
    rows = dict(check_rows(replace(result, checks=Checks(colourless_share=0.004, nucleus_um=7.26, nuclei=51))))
    assert rows["Tissue out of focus"] == NOT_MEASURED
    assert rows["Stained tissue without colour"] == "< 1 %"
    assert rows["Middle width of round nuclei"] == "7.3 µm (51 measured)"


@pytest.mark.parametrize(
    ("gains", "words"),
    [
        (None, "nothing; pixels stay as they are"),
        (StainGains((1.25, 0.5, 4.0)), "red 1.25, green 0.50, blue 4.00"),
        (StainGains((1.25, 0.5, 4.0), 0.801), "red 1.25, green 0.50, blue 4.00; then haematoxylin 0.80"),
    ],
)
def test_what_the_stain_was_multiplied_by_is_said(result, gains, words):
    rows = dict(check_rows(replace(result, checks=Checks(), stain_gains=gains)))
    assert rows["Optical density multiplied before the network saw it"] == words


@pytest.mark.parametrize(
    ("checks", "words"),
    [
        (Checks(), "cannot be judged: this model's card holds no reference slides"),
        (Checks(foreign_limit=1.2, reference_slides=60), "could not be measured; limit from 60 slides"),
        (
            Checks(foreign_limit=1.2, foreign_distance=0.6, reference_slides=60),
            "50 % of the limit, review above it; limit from 60 slides",
        ),
        (
            Checks(foreign_limit=1.2, foreign_distance=0.6, reference_slides=60, reference_patients=3),
            "50 % of the limit, review above it; limit from 60 slides of 3 patients, too few to find much",
        ),
        (
            Checks(foreign_limit=1.2, foreign_distance=0.6, reference_slides=49),
            "50 % of the limit, review above it; limit from 49 slides, too few to find much",
        ),
    ],
)
def test_how_far_the_tissue_lies_from_the_reference_is_said(result, checks, words):
    assert (
        dict(check_rows(replace(result, checks=checks)))["Distance of the tissue from the model's reference slides"]
        == words
    )
