"""The slide map as a pyramidal OME-TIFF with one channel per class."""

import hashlib
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from histo.files import whole
from histo.geometry import MapGrid
from histo.results import RESEARCH_USE, ModelInfo, SlideMap
from histo.wording import printable

TILE_PX = 256
SCORED = "scored"
# Viewers add up the channels: what is everywhere must be nearly black, or it would drown the lesions.
_BACKGROUND = (32, 32, 36)
_NAMESPACE = uuid.UUID("1f6a1d0e-84c5-5d0b-9a55-0f2f4a3f7c11")


def write_heatmap(slide_map: SlideMap, model: ModelInfo, path: Path) -> None:
    """Write the map so that QuPath and OMERO open it: one channel a class of `model`, then `scored`.

    Values are whole numbers 0 to 255; value / 255 is the calibrated probability, 0 where nothing was scored.
    Eight bits keep every viewer on the fixed scale 0 to 255, where floats would be stretched. The origin of
    the lattice on the slide is in PositionX and PositionY.
    """
    if len(model.class_names) != slide_map.probability.shape[0]:
        raise ValueError(f"{len(model.class_names)} classes for {slide_map.probability.shape[0]} channels")
    levels = _levels(_channels(slide_map))
    metadata = _metadata(slide_map.grid, model)
    content = hashlib.sha256(levels[0].tobytes() + repr(metadata).encode()).hexdigest()
    metadata["UUID"] = str(uuid.uuid5(_NAMESPACE, content))  # the same map gives the same bytes
    options: dict[str, Any] = {
        "tile": (TILE_PX, TILE_PX),
        "photometric": "minisblack",
        "compression": "zlib",
    }
    with whole(path) as temporary, tifffile.TiffWriter(temporary, bigtiff=False, ome=True) as tif:
        tif.write(levels[0], subifds=len(levels) - 1, metadata=metadata, **options, **_resolution(slide_map.grid, 1))
        for i, level in enumerate(levels[1:], start=1):
            tif.write(level, subfiletype=1, metadata=None, **options, **_resolution(slide_map.grid, 2**i))


def _channels(slide_map: SlideMap) -> NDArray[np.uint8]:
    """Return (C + 1, H, W): probabilities times 255, then 255 where the cell was scored."""
    known = np.nan_to_num(slide_map.probability.astype(np.float32), nan=0.0) * slide_map.valid
    values = np.concatenate([known, slide_map.valid[None].astype(np.float32)])
    out: NDArray[np.uint8] = np.floor(np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)
    return out


def _levels(full: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """Return the pyramid, finest first, until a level fits in one tile."""
    levels = [full]
    while max(levels[-1].shape[1:]) > TILE_PX:
        levels.append(_halve(levels[-1]))
    return levels


def _halve(channels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Halve (C + 1, H, W): probabilities are means over what was scored, the last channel is the share scored."""
    count, height, width = channels.shape
    even = np.zeros((count, height + height % 2, width + width % 2), np.float32)
    even[:, :height, :width] = channels
    weight = even[-1:] / 255
    sums, weights = _over_four(even * weight), _over_four(weight)
    means = sums / np.maximum(weights, 1e-6)
    means[-1] = weights[0] / 4 * 255
    out: NDArray[np.uint8] = np.floor(means + 0.5).astype(np.uint8)
    return out


def _over_four(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sum maps (C, H, W) of even sides over squares of four cells."""
    rows = values[:, ::2] + values[:, 1::2]
    return rows[..., ::2] + rows[..., 1::2]


def _metadata(grid: MapGrid, model: ModelInfo) -> dict[str, Any]:
    """Return the OME metadata in the form that tifffile takes."""
    names = [printable(n) for n in model.class_names] + [SCORED]
    colours = {c.name: c.colour for c in model.classes}
    made_by = f"Model: {printable(model.name)}, digest {printable(model.digest)}."
    position_um = [
        o * um / px for o, um, px in zip(grid.origin_level0_px, grid.cell_um, grid.cell_level0_px, strict=True)
    ]
    return {
        "axes": "CYX",
        "Name": "histo class probability",
        "Creator": "histo",
        "Description": (
            f"{RESEARCH_USE} Value / 255 is the calibrated probability of the channel's class; 0 where nothing was "
            f"scored. Channel '{SCORED}' is 255 where the tissue was read and scored. PositionX and PositionY are the "
            f"offset of the top-left corner on level 0 of the slide. Level-0 px: origin {grid.origin_level0_px}, "
            f"cell {grid.cell_level0_px}. {made_by}"
        ),
        "PhysicalSizeX": grid.cell_um[0],
        "PhysicalSizeXUnit": "µm",
        "PhysicalSizeY": grid.cell_um[1],
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": names, "Color": [_ome_colour(colours.get(n, _BACKGROUND)) for n in names]},
        "Plane": {
            "PositionX": [position_um[0]] * len(names),
            "PositionXUnit": ["µm"] * len(names),
            "PositionY": [position_um[1]] * len(names),
            "PositionYUnit": ["µm"] * len(names),
        },
    }


def _ome_colour(colour: tuple[int, int, int]) -> int:
    """Return RGBA as the signed 32-bit number that OME wants, opaque."""
    red, green, blue = colour
    return int.from_bytes(bytes((red, green, blue, 255)), "big", signed=True)


def _resolution(grid: MapGrid, downsample: int) -> dict[str, Any]:
    """Return the TIFF resolution tags in pixels per centimetre, for viewers that read no OME."""
    per_cm = tuple(1e4 / (um * downsample) for um in grid.cell_um)
    return {"resolution": per_cm, "resolutionunit": "CENTIMETER"}
