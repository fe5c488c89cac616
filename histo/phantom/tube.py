"""The cut tube: what glands, follicles and vessels are made of."""

from dataclasses import dataclass

import numpy as np

from histo.phantom.noise import F32, hashed


@dataclass(frozen=True)
class Tube:
    """A cut tube: centre (y, x), half axes, direction, lumen half width, wall (H, E), filling (H, E), foam."""

    y_um: float
    x_um: float
    a_um: float
    b_um: float
    turn: float
    lumen_um: float
    wall: tuple[float, float]
    filling: tuple[float, float]
    foam: bool
    seed: int

    def bulge_um(self, angle: F32) -> F32:
        """Return how far the outline lies within the ellipse at angles (radians): no tube is round."""
        height, shift = hashed(self.seed + 2, np.arange(2), np.arange(2, 6)) - np.float32(0.5)
        waves = [
            h * np.cos(k * angle + np.float32(6.3) * s) for k, h, s in zip((2, 3, 4, 5), height, shift, strict=True)
        ]
        return np.asarray(np.float32(0.22 * self.b_um) * sum(waves), np.float32)
