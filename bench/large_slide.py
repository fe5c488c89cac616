"""Peak memory and time of `histo infer` on a 60,000 x 60,000 px slide that is mostly glass.

    python bench/large_slide.py [--side 60000] [--tissue 8000] [--one-level]

Prints the size, the tissue, the wall time and the peak resident memory of the command, which is one process.
"""

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import openslide
import tifffile

from histo.phantom import make_slide
from histo.phantom.pyramid import call_jpeg
from histo.results import load_result

TILE = 256
GLASS = 243


def encode(tile: np.ndarray) -> bytes:
    """Return one JPEG tile."""
    return cv2.imencode(".jpg", tile[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes()


def tiles(side: int, picture: np.ndarray, corner: int) -> Iterator[bytes]:
    """Yield the encoded tiles of a square level with `picture` at (corner, corner) and glass around it."""
    blank = np.full((TILE, TILE, 3), GLASS, np.uint8)
    glass = encode(blank)
    height, width = picture.shape[:2]
    for y in range(0, side, TILE):
        for x in range(0, side, TILE):
            top, left = y - corner, x - corner
            if top + TILE <= 0 or left + TILE <= 0 or top >= height or left >= width:
                yield glass
                continue
            tile = blank.copy()
            part = picture[max(top, 0) : top + TILE, max(left, 0) : left + TILE]
            tile[max(-top, 0) :, max(-left, 0) :][: part.shape[0], : part.shape[1]] = part
            yield encode(tile)


def make(path: Path, side: int, tissue: int, one_level: bool, folder: Path) -> None:
    """Write the slide at 0.5 µm/px, with downsamples 1, 4 and 16 or with one level only."""
    made = make_slide(folder, "piece", kind="mixed", seed=5, size_px=(tissue, tissue))
    slide = openslide.OpenSlide(made.slide)
    with tifffile.TiffWriter(path, bigtiff=False) as writer:
        for down in (1,) if one_level else (1, 4, 16):
            level = slide.get_best_level_for_downsample(down)
            piece = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]).convert("RGB"))
            if slide.level_downsamples[level] < down * 0.99:
                piece = cv2.resize(piece, (tissue // down, tissue // down), interpolation=cv2.INTER_AREA)
            # A multiple of the tile and of all downsamples, so that the levels agree.
            corner = side // 2 // (16 * TILE) * 16 * TILE // down
            writer.write(
                tiles(side // down, piece, corner),
                shape=(side // down, side // down, 3),
                dtype=np.uint8,
                tile=(TILE, TILE),
                photometric="rgb",
                compression="zlib",
                description=f"Aperio histo bench |AppMag = 20|MPP = {0.5}",
                metadata=None,
            )
    call_jpeg(path)


def main() -> None:
    """Make the slide, run the command, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=60000)
    parser.add_argument("--tissue", type=int, default=8000)
    parser.add_argument("--one-level", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A child begins with the peak of its parent, so the slide is made by another child.
        what = folder / "large.svs", given.side, given.tissue, given.one_level, folder
        maker = multiprocessing.get_context("spawn").Process(target=make, args=what)
        maker.start()
        maker.join()
        command = [
            str(Path(sys.executable).parent / "histo"),
            "infer",
            str(folder / "large.svs"),
            "--out",
            str(folder / "out"),
        ]
        started = time.perf_counter()
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        result = load_result(folder / "out" / "slides" / "large" / "result.json")
    peak_mib = used.ru_maxrss / 1024  # Linux counts KiB
    tissue_mm2 = result.areas.tissue_mm2 if result.areas else 0.0
    levels = 1 if given.one_level else 3
    print(f"{given.side} x {given.side} px, {tissue_mm2:.1f} mm² of tissue, {levels} level(s)")
    print(f"exit {code}, {result.status}, {seconds:.1f} s, peak resident memory {peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
