"""Reading a heatmap that `histo infer` wrote back onto its lattice."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from histo.errors import UsageError
from histo.geometry import MapGrid, Pyramid

SCALE = 255


@dataclass(frozen=True, eq=False)
class Heatmap:
    """Probabilities times 255 (C, H, W) in the order of the model's classes, what was scored (H, W), the lattice."""

    values: NDArray[np.uint8]
    scored: NDArray[np.bool_]
    grid: MapGrid


def read_heatmap(path: Path, pyramid: Pyramid) -> Heatmap:
    """Read `heatmap.ome.tif`. Raises `UsageError` when it is missing or is none of histo's."""
    try:
        with tifffile.TiffFile(path) as tif:
            channels, described = tif.asarray(level=0), tif.ome_metadata
        root = fromstring(described or "")
        pixels = next(e for e in root.iter() if e.tag.endswith("}Pixels"))
        plane = next(e for e in root.iter() if e.tag.endswith("}Plane"))
        cell_um = float(pixels.attrib["PhysicalSizeX"]), float(pixels.attrib["PhysicalSizeY"])
        origin_um = float(plane.attrib["PositionX"]), float(plane.attrib["PositionY"])
    except (OSError, ValueError, KeyError, StopIteration, SyntaxError, tifffile.TiffFileError) as error:
        raise UsageError(f"{path} is no heatmap of histo infer ({error}); examine the slide again") from error
    mpp = pyramid.mpp_x, pyramid.mpp_y
    grid = MapGrid(
        (origin_um[0] / mpp[0], origin_um[1] / mpp[1]),
        (cell_um[0] / mpp[0], cell_um[1] / mpp[1]),
        (channels.shape[1], channels.shape[2]),
        cell_um,
    )
    return Heatmap(channels[:-1], channels[-1] > 0, grid)
