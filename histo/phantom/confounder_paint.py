"""Painting one confounder with the painter of its kind, and labelling it."""

from histo.phantom.canvas import Canvas
from histo.phantom.cell_sheets import SHEETS, paint_cells
from histo.phantom.fibrous import FIBROUS, paint_fibres
from histo.phantom.foreign import FOREIGN
from histo.phantom.matrices import MATRICES
from histo.phantom.noise import noise, power_of_two
from histo.phantom.region import Region
from histo.phantom.scene import Scene

_PAINTERS = {
    **dict.fromkeys(SHEETS, paint_cells),
    **dict.fromkeys(FIBROUS, paint_fibres),
    **MATRICES,
    **FOREIGN,
}


def paint_confounder(canvas: Canvas, region: Region, scene: Scene) -> None:
    """Paint one confounder and label it, without covering a lesion's label."""
    part = region.window(scene.frame).meet(canvas.window)
    if part is None:
        return
    sdf = region.read(region.sdf_um, part, scene.frame)
    if float(sdf.max()) < -60:
        return
    sdf += 4 * noise(region.seed + 5, part, power_of_two(12 / scene.frame.mpp), 3)
    inside = _PAINTERS[region.name](canvas, region, scene, part, sdf)
    free = canvas.label[part.within(canvas.window)] == 0
    canvas.mark(part, inside & free, region.label)
