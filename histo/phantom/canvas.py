"""One chunk of the slide while it is painted: stain amounts, nuclei, foreign ink and labels."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from histo.phantom.noise import F32, Window


@dataclass(eq=False)
class Canvas:
    """Maps of shape (h, w): haematoxylin, eosin, nuclear haematoxylin, label; `ink` is (h, w, 3) or None."""

    window: Window
    h: F32 = field(init=False)
    e: F32 = field(init=False)
    n: F32 = field(init=False)
    label: NDArray[np.uint8] = field(init=False)
    ink: F32 | None = None
    defocus: F32 | None = None

    def __post_init__(self) -> None:
        shape = (self.window.h, self.window.w)
        self.h, self.e, self.n = (np.zeros(shape, np.float32) for _ in range(3))
        self.label = np.zeros(shape, np.uint8)

    def paint(self, part: Window, alpha: F32, h: F32 | float, e: F32 | float, nuclei: float = 0.0) -> None:
        """Blend stain amounts over a part of the canvas; `nuclei` is what stays of the nuclei beneath.

        What covers a place takes its label away: whoever paints something that has one marks it afterwards.
        """
        cut = part.within(self.window)
        for target, value in ((self.h[cut], h), (self.e[cut], e)):
            target += alpha * (value - target)
        self.n[cut] *= 1 - alpha * np.float32(1 - nuclei)
        self.label[cut][alpha >= 0.5] = 0

    def mark(self, part: Window, inside: NDArray[np.bool_], label: int) -> None:
        """Set the label where `inside`."""
        self.label[part.within(self.window)][inside] = label
