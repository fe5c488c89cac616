"""The quality gate: what a sample of a slide's tiles says against judging it, and the figures behind that."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from histo.data.focus import focus_reasons, measure_focus
from histo.data.scale_check import measure_nuclei, scale_reasons
from histo.data.stain_check import measure_stain, stain_reasons
from histo.results import Checks, Reason

SHARP = 0.35  # below this nuclei are wide because they are blurred


def judge_quality(
    tiles: NDArray[np.uint8],
    mpp: float,
    glass: NDArray[np.float64],
    tissue_mm2: float,
    stains: Mapping[str, tuple[float, float]] | None,
) -> tuple[Checks, tuple[Reason, ...]]:
    """Judge tiles (N, S, S, 3) of `mpp` µm per pixel by stain, focus and the size of nuclei.

    `glass` is the colour (3,) of the glass, `stains` the ranges of the model's reference slides. What is no H&E is not
    judged further: its focus and nuclei mean nothing.
    """
    signs = measure_stain(tiles, glass)
    reasons = stain_reasons(signs, stains)
    checks = Checks(unexplained_share=signs.unexplained, colourless_share=signs.grey, dark_share=signs.black)
    if any(r.code == "not_h_and_e" for r in reasons):
        return checks, reasons
    focus = measure_focus(tiles, mpp)
    reasons += focus_reasons(focus, tissue_mm2)
    sharp = focus is not None and focus.sharpness >= SHARP
    sizes = measure_nuclei(tiles, mpp, glass) if sharp else None
    reasons += scale_reasons(sizes)
    checks = replace(
        checks,
        out_of_focus_share=focus.blurred if focus else None,
        nucleus_um=sizes.width_um if sizes else None,
        nuclei=sizes.count if sizes else 0,
    )
    return checks, reasons
