"""Real tissue through training as a new user would: cuts two slides in halves, so that each label has two "patients".

    python bench/real_halves.py SLIDES OUT
    histo manifest check OUT/slides.csv
    histo train configs/few_slides.yaml --set data.manifest=$PWD/OUT/slides.csv --set data.unannotated=ignore …

SLIDES holds the public slides named below; their coarse outlines are in tests/real_outlines. The halves of one slide
stand under two names of patients, which is just what nobody should do: this shows that training bears real files, and
proves nothing of what is learnt (docs/training.md).
"""

import argparse
import json
from pathlib import Path

import numpy as np
import openslide
import shapely
from shapely.geometry import mapping, shape

from histo.files import write_table, write_text
from histo.phantom.pyramid import write_slide

OUTLINES = Path(__file__).parent.parent / "tests" / "real_outlines"
MPP, QUALITY = 0.5, 90
# Label and the column (level-0 px) of the cut: through the middle of the bone, and of the largest deposit.
CUT = {"bone-hyperostosis": ("heterotopic_ossification", 4096), "calcification-brain": ("calcinosis_cutis", 2250)}
WHOLE = {"dermis-morphea.tif": str(MPP), "CMU-1-Small-Region.svs": ""}
HEADER = ("slide", "path", "patient", "label", "annotation", "mpp")


def cut(slides: Path, name: str, out: Path) -> list[list[str]]:
    """Write both halves of a slide with their outlines, and return their rows of the manifest."""
    label, column = CUT[name]
    with openslide.OpenSlide(slides / f"{name}.tif") as opened:
        width, height = opened.dimensions
        rows = []
        for side, left, right in (("left", 0, column), ("right", column, width)):
            half = f"{name}-{side}"
            if not (out / f"{half}.svs").is_file():
                rgb = np.array(opened.read_region((left, 0), 0, (right - left, height)).convert("RGB"))
                write_slide(out / f"{half}.svs", rgb, MPP, QUALITY)
            write_text(out / f"{half}.geojson", json.dumps(clipped(name, left, right, height)))
            rows.append([half, f"{half}.svs", half, label, f"{half}.geojson", ""])
    return rows


def clipped(name: str, left: int, right: int, height: int) -> dict[str, object]:
    """Return the outlines of a slide between two columns, moved to the half's own corner."""
    tree = json.loads((OUTLINES / f"{name}.geojson").read_text(encoding="utf-8"))
    kept = []
    for feature in tree["features"]:
        part = shapely.intersection(shape(feature["geometry"]), shapely.box(left, 0, right, height))
        moved = shapely.transform(part, lambda xy: xy - (left, 0))
        for polygon in shapely.get_parts(moved):
            if polygon.geom_type == "Polygon" and polygon.area > 0:
                kept.append(feature | {"geometry": mapping(polygon)})
    return tree | {"features": kept}


def main() -> None:
    """Cut, and write the manifest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("slides", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    rows = [row for name in CUT for row in cut(given.slides, name, given.out)]
    for name, mpp in WHOLE.items():
        rows.append([Path(name).stem, str((given.slides / name).resolve()), Path(name).stem, "normal", "", mpp])
    write_table(given.out / "slides.csv", HEADER, rows)
    print(f"{len(rows)} slides are listed in {given.out / 'slides.csv'}")


if __name__ == "__main__":
    main()
