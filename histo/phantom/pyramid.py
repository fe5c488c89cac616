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


def level_sizes(size_px: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (width, height) of every level: halved, rounded down, until the shorter side is below 1024 px."""
    sizes = [size_px]
    while min(sizes[-1]) >= 2 * _SMALLEST_PX:
        sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
    return sizes


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


def write_slide(path: Path, image: NDArray[np.uint8], mpp: float, quality: int | None) -> None:
    """Write RGB pixels (H, W, 3) as a pyramid with downsamples 1, 2, 4, …; the scale is in µm per pixel.

    Without a JPEG `quality` no pixel is changed.
    """
    # Classic TIFF has 32-bit offsets; a slide above 1 Gpx could outgrow them.
    with tifffile.TiffWriter(path, bigtiff=image.size > 3e9) as writer:
        level = image
        for width, height in level_sizes((image.shape[1], image.shape[0])):
            if width < level.shape[1]:
                cut = level[: height * 2, : width * 2]
                level = np.asarray(cv2.resize(cut, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
            writer.write(
                level if quality is None else _tiles(level, quality),
                shape=level.shape,
                dtype=np.uint8,
                tile=(TILE_PX, TILE_PX),
                photometric="rgb",
                compression="zlib",
                description=f"Aperio histo phantom {width}x{height} |AppMag = {10 / mpp:g}|MPP = {mpp:g}",
                metadata=None,
                software=False,
                resolution=(1e4 / mpp, 1e4 / mpp),
                resolutionunit="CENTIMETER",
            )
    if quality is not None:
        call_jpeg(path)


def call_jpeg(path: Path) -> None:
    """Say in a TIFF file's tags that its tiles, written as zlib and RGB, are JPEG in YCbCr.

    tifffile takes ready JPEG tiles only where imagecodecs is installed, which this project does not need.
    """
    with tifffile.TiffFile(path, mode="r+") as made:
        for page in made.pages:
            assert isinstance(page, tifffile.TiffPage)
            page.tags["Compression"].overwrite(_JPEG)
            page.tags["PhotometricInterpretation"].overwrite(_YCBCR)
