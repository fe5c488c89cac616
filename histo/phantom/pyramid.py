"""Writing a slide as a tiled JPEG pyramid that OpenSlide reads as an Aperio scan, with its scale."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

TILE_PX = 256
_SMALLEST_PX = 512
_JPEG, _YCBCR = 7, 6  # TIFF tag values; chroma is halved both ways unless a tag says otherwise


def _tiles(image: NDArray[np.uint8], quality: int) -> Iterator[bytes]:
    """Encode tile after tile; edge tiles are filled up with their last row and column."""
    flags = [
        cv2.IMWRITE_JPEG_QUALITY,
        quality,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    ]
    for y in range(0, image.shape[0], TILE_PX):
        for x in range(0, image.shape[1], TILE_PX):
            tile = image[y : y + TILE_PX, x : x + TILE_PX]
            missing = (TILE_PX - tile.shape[0], TILE_PX - tile.shape[1])
            if any(missing):
                tile = np.pad(tile, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
            done, data = cv2.imencode(".jpg", cv2.cvtColor(tile, cv2.COLOR_RGB2BGR), flags)
            if not done:
                raise OSError(f"could not encode the tile at ({x}, {y})")
            yield data.tobytes()


def write_slide(path: Path, image: NDArray[np.uint8], mpp: float, quality: int) -> None:
    """Write RGB pixels (H, W, 3) as a pyramid with downsamples 1, 2, 4, …; the scale is in µm per pixel."""
    about = f"Aperio histo phantom {image.shape[1]}x{image.shape[0]} |AppMag = {10 / mpp:g}|MPP = {mpp:g}"
    # Classic TIFF has 32-bit offsets; a slide above 1 Gpx could outgrow them.
    with tifffile.TiffWriter(path, bigtiff=image.size > 3e9) as writer:
        level = image
        while True:
            writer.write(
                _tiles(level, quality),
                shape=level.shape,
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="zlib",
                description=about,
                metadata=None,
                software=False,
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
            )
            if min(level.shape[:2]) < 2 * _SMALLEST_PX:
                break
            half = (level.shape[1] // 2, level.shape[0] // 2)
            cut = level[: half[1] * 2, : half[0] * 2]
            level = np.asarray(cv2.resize(cut, half, interpolation=cv2.INTER_AREA), np.uint8)
            about = f"Aperio histo phantom {half[0]}x{half[1]} |AppMag = {10 / mpp:g}|MPP = {mpp:g}"
    # tifffile takes ready JPEG tiles only where imagecodecs is installed, which this project does not need:
    # the tiles went in under another name, and the tags are set right here.
    with tifffile.TiffFile(path, mode="r+") as made:
        for page in made.pages:
            assert isinstance(page, tifffile.TiffPage)
            page.tags["Compression"].overwrite(_JPEG)
            page.tags["PhotometricInterpretation"].overwrite(_YCBCR)
