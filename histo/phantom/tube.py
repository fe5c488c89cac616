"""The cut tube: what glands, follicles and vessels are made of."""

from dataclasses import dataclass


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
