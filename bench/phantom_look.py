"""A blinded look: phantom and real fields of 512 px mixed in one contact sheet. SYNTHETIC: no clinical meaning.

    python bench/phantom_look.py sheet DATA --seed 1 --sheet sheet.png --key key.csv [--phantoms 20] [--real 20]
    python bench/phantom_look.py score --key key.csv --answers answers.csv

`sheet` matches tissues, cuts real fields out of DATA/patches and DATA/slides at about 0.5 µm per pixel, draws as many
phantom fields, encodes all alike, numbers them and writes what each is to the key, which the scorer does not open. The
answers hold `number,called` with `real` or `phantom`. `score` prints, per tissue, how many of each were called real.
The sheet shows real tissue: it stays outside the repository.
"""

import argparse
import csv
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
import openslide
from numpy.typing import NDArray

from histo.phantom.noise import Window
from histo.phantom.recipe import Stain
from histo.phantom.region import Region
from histo.phantom.render import paint_window
from histo.phantom.scene import Scene
from histo.phantom.slide import parameters, plan

FIELD_PX, GAP_PX, TITLE_PX, COLUMNS, QUALITY = 512, 16, 36, 8, 88
SLIDE_PX = 3000
SHARES: Final = {"bone": 0.25, "calcification": 0.2, "dermis": 0.25, "nuclei_rich": 0.2, "epidermis": 0.1}
# Where a real slide shows a tissue: left, top, right, bottom of the fields' top-left corners in level-0 px.
PLACES: Final = {
    "bone": (("bone-hyperostosis.tif", (0, 0, 7600, 4500)),),
    "calcification": (("calcification-brain.tif", (1750, 1900, 2500, 2600)),),
    "dermis": (("dermis-morphea.tif", (2700, 2200, 5000, 5600)),),
    "epidermis": (
        ("CMU-1-Small-Region.svs", (900, 700, 1050, 1300)),
        ("CMU-1-Small-Region.svs", (450, 2200, 550, 2450)),
        ("dermis-morphea.tif", (6700, 2650, 6900, 2900)),
        ("dermis-morphea.tif", (7600, 4050, 7800, 4250)),
    ),
}
KINDS: Final = {"bone": "heterotopic_ossification", "calcification": "calcinosis_cutis", "nuclei_rich": "confounder"}
NUCLEI_RICH: Final = ("lymphoid", "nuclei_sheet", "basaloid")


class Field(NamedTuple):
    """One field: RGB pixels (512, 512, 3), `real` or `phantom`, tissue, and where it comes from."""

    rgb: NDArray[np.uint8]
    source: str
    tissue: str
    origin: str


def quotas(count: int) -> dict[str, int]:
    """Share `count` fields among the tissues."""
    exact = {tissue: share * count for tissue, share in SHARES.items()}
    dealt = {tissue: int(value) for tissue, value in exact.items()}
    for tissue in sorted(exact, key=lambda t: dealt[t] - exact[t])[: count - sum(dealt.values())]:
        dealt[tissue] += 1
    return dealt


def real_fields(data: Path, tissue: str, count: int, rng: np.random.Generator) -> Iterator[Field]:
    """Draw fields of real tissue, half from patches and half from slides where there are both."""
    with open(data / "patches" / "manifest.csv", encoding="utf-8") as file:
        rows = [row["file"] for row in csv.DictReader(file) if row["label"] == tissue]
    places = PLACES.get(tissue, ())
    patches = min(len(rows), count if not places else count // 2)
    for name in rng.permutation(rows)[:patches]:
        rgb = cv2.imread(str(data / "patches" / name))[..., ::-1]
        yield Field(np.ascontiguousarray(rgb), "real", tissue, str(name))
    for _ in range(count - patches):
        name, (left, top, right, bottom) = places[int(rng.integers(len(places)))]
        x, y = int(rng.integers(left, right)), int(rng.integers(top, bottom))
        with openslide.OpenSlide(str(data / "slides" / name)) as slide:
            rgb = np.asarray(slide.read_region((x, y), 0, (FIELD_PX, FIELD_PX)).convert("RGB"))
        yield Field(rgb, "real", tissue, f"{name} at {x},{y}")


def spread(scene: Scene, regions: list[Region], tissue: str) -> NDArray[np.float32]:
    """Return where the slide shows a tissue, on its grid: 0 to 1."""
    layout = scene.layout
    where = np.zeros(scene.frame.shape, np.float32)
    if tissue == "dermis":
        quiet = (layout.tissue > 20) & (layout.depth > 350) & (layout.fat < 0.1)
        for region in regions:
            cut = region.cells.within(Window(0, 0, *scene.frame.shape))
            quiet[cut] &= region.sdf_um < -100
        return quiet.astype(np.float32)
    if tissue == "epidermis":
        return ((layout.epidermis > 0) & (layout.tissue > 0)).astype(np.float32)
    for region in regions:
        if region.label == {"calcification": 1, "bone": 2}.get(tissue) or (
            tissue == "nuclei_rich" and region.name in NUCLEI_RICH
        ):
            cut = region.cells.within(Window(0, 0, *scene.frame.shape))
            where[cut] = np.maximum(where[cut], region.sdf_um > 0)
    return where


def phantom_fields(tissue: str, count: int, domain: str, rng: np.random.Generator) -> Iterator[Field]:
    """Draw phantom slides until enough of them show the tissue, and paint one field of each."""
    least = {"dermis": 0.93, "nuclei_rich": 0.6, "epidermis": 0.12}.get(tissue, 0.3)
    while count:
        seed = int(rng.integers(1, 2**32))
        kind = KINDS.get(tissue, "normal")
        scene, regions, stain = plan(
            parameters(kind=kind, seed=seed, size_px=(SLIDE_PX, SLIDE_PX), mpp=0.5, domain=domain, patient_seed=None)
        )
        side = FIELD_PX // scene.frame.factor
        share = cv2.blur(spread(scene, regions, tissue), (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
        places = np.argwhere(share[:-side, :-side] >= least)
        if not len(places):
            continue
        y, x = (places[int(rng.integers(len(places)))] * scene.frame.factor).tolist()
        yield Field(paint(scene, regions, stain, y, x), "phantom", tissue, f"{kind} {seed} {domain} at {x},{y}")
        count -= 1


def paint(scene: Scene, regions: list[Region], stain: Stain, y: int, x: int) -> NDArray[np.uint8]:
    """Paint one field and encode it as the slide's own tiles are."""
    return encoded(paint_window(scene, regions, stain, Window(y, x, FIELD_PX, FIELD_PX))[0], stain.quality)


def encoded(rgb: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """Send pixels through JPEG."""
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])


def contact_sheet(fields: list[Field]) -> NDArray[np.uint8]:
    """Lay the fields out in rows under their numbers, all encoded alike."""
    rows = -(-len(fields) // COLUMNS)
    step_y, step_x = FIELD_PX + TITLE_PX, FIELD_PX + GAP_PX
    sheet = np.full((rows * step_y, COLUMNS * step_x, 3), 255, np.uint8)
    for k, field in enumerate(fields):
        top, left = (k // COLUMNS) * step_y, (k % COLUMNS) * step_x
        cv2.putText(sheet, str(k + 1), (left, top + 28), cv2.FONT_HERSHEY_SIMPLEX, 1, (0, 0, 0), 2, cv2.LINE_AA)
        rgb = encoded(field.rgb[:FIELD_PX, :FIELD_PX], QUALITY)
        sheet[top + TITLE_PX : top + TITLE_PX + rgb.shape[0], left : left + rgb.shape[1]] = rgb
    return sheet


def make_sheet(given: argparse.Namespace) -> None:
    """Draw the fields, mix them and write sheet and key."""
    rng = np.random.default_rng(given.seed)
    fields = []
    for tissue, count in quotas(given.real).items():
        fields += real_fields(given.data, tissue, count, rng)
    for tissue, count in quotas(given.phantoms).items():
        fields += phantom_fields(tissue, count, given.domain, rng)
    fields = [fields[k] for k in rng.permutation(len(fields))]
    cv2.imwrite(str(given.sheet), contact_sheet(fields)[..., ::-1])
    with open(given.key, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("number", "source", "tissue", "origin"))
        writer.writerows((k, f.source, f.tissue, f.origin) for k, f in enumerate(fields, start=1))


def score(given: argparse.Namespace) -> None:
    """Print how many of each were called real, per tissue."""
    with open(given.key, encoding="utf-8") as file:
        key = {row["number"]: row for row in csv.DictReader(file)}
    with open(given.answers, encoding="utf-8") as file:
        answers = {row["number"].strip(): row["called"].strip() for row in csv.DictReader(file)}
    if set(answers) != set(key) or not set(answers.values()) <= {"real", "phantom"}:
        sys.exit("the answers must give `real` or `phantom` for every number of the key and for no other")
    for tissue in (*SHARES, None):
        rows: list[dict[str, Any]] = [r for r in key.values() if tissue in (None, r["tissue"])]
        mine = [answers[r["number"]] for r in rows if r["source"] == "phantom"]
        real = [answers[r["number"]] for r in rows if r["source"] == "real"]
        print(
            f"{tissue or 'all':14} phantoms called real {mine.count('real'):2} of {len(mine):2};"
            f" real ones called phantom {real.count('phantom'):2} of {len(real):2}"
        )


def main() -> None:
    """Make a sheet or score one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ways = parser.add_subparsers(required=True)
    sheet = ways.add_parser("sheet")
    sheet.add_argument("data", type=Path)
    sheet.add_argument("--phantoms", type=int, default=20)
    sheet.add_argument("--real", type=int, default=20)
    sheet.add_argument("--seed", type=int, default=1)
    sheet.add_argument("--domain", default="train")
    sheet.add_argument("--sheet", type=Path, required=True)
    sheet.add_argument("--key", type=Path, required=True)
    sheet.set_defaults(run=make_sheet)
    scoring = ways.add_parser("score")
    scoring.add_argument("--key", type=Path, required=True)
    scoring.add_argument("--answers", type=Path, required=True)
    scoring.set_defaults(run=score)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
