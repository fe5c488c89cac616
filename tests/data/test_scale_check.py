"""A scale that the user gives is compared with the one that the file records."""

import pytest

from histo.data.scale_check import overruled_scale
from histo.geometry import Pyramid


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        ((0.5, 0.5), False),
        ((0.25, 0.25), True),
        ((0.5, 0.25), True),
        ((0.25, 0.5), True),
        ((0.25, 1000.0), False),
        ((1000.0, 0.25), False),
        (None, False),
    ],
)
def test_a_scale_given_is_doubted_where_the_file_has_another_credible_one(
    recorded: tuple[float, float] | None, told: bool
) -> None:
    pyramid = Pyramid((400, 300), (1.0,), 0.5, 0.5, "user", (0, 0, 400, 300), recorded_mpp=recorded)
    assert [r.code for r in overruled_scale(pyramid)] == ["overruled_scale"] * told
