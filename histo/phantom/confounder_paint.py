"""Painting one confounder with the painter of its kind, and labelling it."""

import numpy as np

from histo.phantom.bone import BONE
from histo.phantom.calcium import CALCIUM
from histo.phantom.canvas import Canvas
from histo.phantom.cell_sheets import SHEETS, paint_cells
from histo.phantom.fibrous import FIBROUS, paint_fibres
from histo.phantom.foreign import FOREIGN
from histo.phantom.matrices import MATRICES
from histo.phantom.noise import noise, power_of_two
from histo.phantom.region import Region
from histo.phantom.scene import Scene

LESIONS = (CALCIUM, BONE)
_AROUND_UM = 90.0  # the softest border reaches this far
_PAINTERS = {
    **dict.fromkeys(SHEETS, paint_cells),
    **dict.fromkeys(FIBROUS, paint_fibres),
    **MATRICES,
    **FOREIGN,
}


def paint_confounder(canvas: Canvas, region: Region, scene: Scene) -> None:
    """Paint one confounder and label it over those painted before, without covering a lesion's label."""
    part = region.part(scene.frame, canvas.window, _AROUND_UM)
    if part is None:
        return
    sdf = region.read(region.sdf_um, part, scene.frame)
    sdf += 4 * noise(region.seed + 5, part, power_of_two(12 / scene.frame.mpp), 3)
    inside = _PAINTERS[region.name](canvas, region, scene, part, sdf)
    free = ~np.isin(canvas.label[part.within(canvas.window)], LESIONS)
    canvas.mark(part, inside & free, region.label)
