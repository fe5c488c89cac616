"""What goes wrong between section and scan: parts of the slide that are out of focus."""

from histo.phantom.layout import Frame
from histo.phantom.noise import F32, ramp
from histo.phantom.recipe import new_seed, stream


def plan_defocus(frame: Frame, seed: int) -> F32 | None:
    """Return how far (0..1) each grid cell is out of focus; None for a slide in focus everywhere."""
    rng = stream(seed, "artefacts")
    if rng.random() > 0.3:
        return None
    start = float(rng.uniform(0.6, 1.6))
    return ramp(frame.field(new_seed(rng), 700, 2), start, start + 0.5)
