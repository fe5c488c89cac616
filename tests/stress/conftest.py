"""Pictures and records that the stress tests are tested with."""

import dataclasses
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from histo.phantom.recipe import Stain, draw_stain
from histo.stress.picture import Picture
from histo.stress.seen import Seen


@pytest.fixture(scope="session")
def stain() -> Stain:
    return dataclasses.replace(draw_stain(5, 5, "shift"), white=(240.0, 238.0, 242.0))


@pytest.fixture(scope="session")
def textured(stain: Stain) -> Callable[..., Picture]:
    """Make a picture with all sorts of colours."""

    def make(side: int = 128, mpp: float = 0.5) -> Picture:
        small = np.random.default_rng(1).integers(60, 240, (8, 8, 3), np.uint8)
        rgb = cv2.resize(small, (side, side), interpolation=cv2.INTER_LINEAR)
        return Picture(np.asarray(rgb, np.uint8), mpp, stain, mpp)

    return make


@pytest.fixture(scope="session")
def skin(stain: Stain) -> Picture:
    """A disc of tissue of 0.8 mm on glass."""
    rgb = np.full((2000, 2000, 3), 243, np.uint8)
    cv2.circle(rgb, (1000, 1000), 800, (215, 150, 190), -1)
    return Picture(rgb, 0.5, stain, 0.5)


@pytest.fixture(scope="session")
def seen() -> Callable[..., Seen]:
    """Make a record of a view; what is not given says normal, done."""

    def make(label: str | None = "normal", status: str = "done", reasons: tuple[str, ...] = (), **more: Any) -> Seen:
        given: dict[str, Any] = {
            "view": "v", "source_sha256": "0", "attempt": 0, "probability": {"normal": 1.0}, "presence": {},
            "area_mm2": {}, "count": {}, "tissue_mm2": 1.0, "met": {}, "true_mm2": {},
        }  # fmt: skip
        return Seen(**{**given, "status": status, "reasons": reasons, "label": label, **more})

    return make
