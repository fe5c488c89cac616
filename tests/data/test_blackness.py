"""Black on tissue is told from everything that H&E and calcium give, however dark."""

import numpy as np
import pytest

from histo.data.blackness import black_reasons, black_share
from histo.geometry import MapGrid
from histo.results import Overview

GLASS = (243, 243, 243)
GRID = MapGrid((0.0, 0.0), (16.0, 16.0), (100, 100), (8.0, 8.0))


def share(colour: tuple[int, int, int], rows: int = 40, height: int = 100) -> float | None:
    """Return the black share of a slide whose middle third is dermis, the uppermost `rows` of which have a colour."""
    rgb = np.full((height, 100, 3), GLASS, np.uint8)
    rgb[:, 30:70] = (220, 150, 190)
    rgb[:rows, 30:70] = colour
    usable = np.zeros((100, 100), np.float32)
    usable[:, 30:70] = 1
    return black_share(Overview(rgb, GRID), usable, GRID)


@pytest.mark.parametrize("ink", [(20, 20, 20), (60, 58, 62), (5, 5, 5)])
def test_black_ink_is_black(ink: tuple[int, int, int]) -> None:
    assert share(ink) == pytest.approx(0.4, abs=0.01)


@pytest.mark.parametrize(
    "colour",
    [(60, 30, 95), (30, 15, 60), (110, 20, 60), (150, 150, 150), (40, 20, 90), (243, 243, 243)],
    ids=["calcium", "dark calcium", "dark eosin", "dust", "dark haematoxylin", "glass"],
)
def test_dark_stains_and_pale_greys_are_not(colour: tuple[int, int, int]) -> None:
    assert share(colour) == 0


def test_a_tenth_passes_and_more_goes_to_review() -> None:
    """Regression: a slide half under black ink was normal, and done."""
    assert black_reasons(share((20, 20, 20), rows=9)) == ()
    (reason,) = black_reasons(share((20, 20, 20), rows=12))
    assert reason.code == "black_over_tissue"
    assert reason.message.startswith("12 % of the tissue is black (limit 10 %)")
    assert black_reasons(black_share(Overview(np.full((9, 9, 3), 243, np.uint8), GRID), np.zeros((9, 9)), GRID)) == ()
