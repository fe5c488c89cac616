"""What `histo inspect` prints and draws."""

import os
from pathlib import Path

import cv2
import numpy as np

from histo.config import TileConfig
from histo.console import out
from histo.data.scanned import left_out
from histo.data.stain_norm import Density
from histo.errors import SlideError, UsageError
from histo.export.checks import gains_in_words
from histo.files import whole
from histo.infer import Inspection, inspect_slide, load_model

PICTURES = (".png", ".jpg")


def show_inspection(path: Path, model_path: Path | None, mpp: float | None, preview: Path | None) -> int:
    """Print a slide's scale, levels, tissue and tiles; return 0, or 3 when the slide would be refused or fails."""
    if os.path.isdir(path):
        raise UsageError(f"{path} is a folder, and inspect looks at one slide; name a file in it")
    if preview is not None and preview.suffix.lower() not in PICTURES:
        raise UsageError(f"--preview {preview} must end in {' or '.join(PICTURES)}")
    model = load_model(model_path)
    try:
        inspection = inspect_slide(path, model, mpp)
    except SlideError as error:
        out.print(f"{type(error).__name__.removeprefix('Slide').lower()}: {error.code}: {error}", markup=False)
        return error.exit_code
    _print(inspection, model.card.tile, model.card.screen is not None)
    if preview is not None:
        _draw(inspection, preview)
        out.print(f"tissue outlined in {preview}", markup=False)
    return 0 if inspection.reason is None else 3


def _stain(density: Density | None, tile: TileConfig) -> str:
    if density is None:
        return "none"
    red, green, blue = density.tissue
    nuclei = "cannot be measured" if density.nuclei is None else f"stand out by {density.nuclei:.2f} in red"
    # Tissue as bright in red as its glass has no density there to be brought to the model's.
    if density.nuclei is not None and tile.tissue_od is not None and tile.nuclear_od is not None and red > 0:
        there = density.nuclei * tile.tissue_od[0] / red
        nuclei += f" ({there:.2f} at the density of this model's tissue, which asks {tile.nuclear_od:g})"
    median = f"{red:.3f}, {green:.3f}, {blue:.3f} (red, green, blue; natural logarithm"
    median += ")" if tile.tissue_od is None else "; this model's {:.2f}, {:.2f}, {:.2f})".format(*tile.tissue_od)
    return f"median optical density of the tissue {median}; nuclei {nuclei}"


def _verdict(seen: Inspection) -> str:
    if seen.reason is not None:
        return f"none: {seen.reason.code}: {seen.reason.message}"
    if seen.review:
        return f"would go to review: {' '.join(f'{reason.code}: {reason.message}' for reason in seen.review)}"
    return "would be given; whether it needs review is seen when the slide is scored"


def _left_out(seen: Inspection) -> str:
    share = left_out(seen.overview, seen.pyramid)
    return f"; {share:.0%} of it was left out by the scanner, or filled" if share >= 0.005 else ""


def _print(seen: Inspection, tile: TileConfig, has_screen: bool) -> None:
    pyramid, areas = seen.pyramid, seen.areas
    unreadable = f" and {areas.unreadable_mm2:.3f} mm² cannot be read" if areas.unreadable_mm2 else ""
    width, height = pyramid.size_level0_px
    levels = ", ".join(f"{d:g}" for d in pyramid.downsamples)
    lines = {
        "slide": str(seen.path),
        "size": f"{width} x {height} px, {width * pyramid.mpp_x / 1e3:.2f} x {height * pyramid.mpp_y / 1e3:.2f} mm",
        "scale": f"{pyramid.mpp_x:.4g} x {pyramid.mpp_y:.4g} µm per pixel, {pyramid.scale_source}",
        "levels": f"{len(pyramid.downsamples)}, downsamples {levels}",
        "bounds": "x {} y {} width {} height {} px".format(*pyramid.bounds_level0_px) + _left_out(seen),
        "tissue": f"{areas.tissue_mm2:.3f} mm², of which {areas.excluded_mm2:.3f} mm² under ink{unreadable}",
        "stain": _stain(seen.density, tile),
        "gains": f"optical density is multiplied by {gains_in_words(seen.gains)}",
        "tiles": f"{seen.tiles} at {tile.mpp:g} µm per pixel",
        "modes": "full, screen" if has_screen else "full; this model has no screen",
        "verdict": _verdict(seen),
    }
    for name, text in lines.items():
        out.print(f"{name:<8} {text}", markup=False)


def _draw(seen: Inspection, path: Path) -> None:
    picture = seen.overview.rgb[..., ::-1].copy()
    for mask, colour in ((seen.tissue.mask, (60, 160, 0)), (seen.tissue.excluded, (0, 120, 255))):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, colour, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        temporary.write_bytes(cv2.imencode(path.suffix.lower(), picture)[1].tobytes())
