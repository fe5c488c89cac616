"""Make docs/gallery.md and its pictures again from the generator. SYNTHETIC: no clinical meaning.

    python bench/phantom_gallery.py [--only TITLE] [--docs docs] [--workers 2]

What is shown stands in bench/phantom_gallery.yaml. Every picture is a field of 288 px at 0.5 µm/px from a small phantom
slide of one kind, in one quiet stain without artefacts, at the place that shows most of what it is about.
"""

import argparse
import multiprocessing
import re
import textwrap
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from histo.files import whole, write_text
from histo.phantom.confounders import CONFOUNDERS, SHIFT_ONLY
from histo.phantom.kinds import IDS
from histo.phantom.render import MASK_DOWN
from histo.phantom.scene import Scene
from histo.phantom.slide import FORMAT, draw, parameters, plan

FIELD_PX = 288
SIZE_PX = 1000
WANT = 0.65  # share of the field that what is shown should fill, so that its border is seen as well
SEEDS = 4  # slides tried for a place that is good enough; more where only their plan must be drawn
PLANS = 30
COLUMNS = 4
ABOUT = (
    "Every picture is drawn by the generator, none is real; nothing here has a clinical meaning. Fields of 288 px at "
    "0.5 µm/px unless it says otherwise, all in one quiet stain (the generator's domains differ far more). Below each "
    "stands what the real thing looks like, and where the project has one to compare with, its file below "
    "`shared/data`, which is no part of this repository. Widths and densities come from textbooks and the few real "
    "fields at hand; the words say how it should look, not that it does. Made by `python bench/phantom_gallery.py` "
    "from `bench/phantom_gallery.yaml`."
)
# One well-stained slide of a good scanner: differences between pictures are those of the tissue.
QUIET: Mapping[str, Any] = {
    "stain.haematoxylin": [0.5626, 0.7201, 0.4062],
    "stain.eosin": [0.2159, 0.8012, 0.5581],
    "stain.gain_h": 1.0,
    "stain.gain_e": 1.0,
    "stain.gamma": 1.0,
    "stain.white": [243.0, 242.0, 244.0],
    "stain.psf_um": 0.3,
    "stain.sensor_noise": 1.0,
    "stain.unsharp": 0.2,
    "tissue.eosin": 0.6,
}


@dataclass(frozen=True)
class Item:
    """One picture: what to make, where to look and what to say."""

    title: str
    words: str
    part: str
    real: str = ""
    kind: str = "normal"
    name: str = ""
    look: str = ""
    domain: str = "train"
    seed: int = 1
    size: int = SIZE_PX
    want: float = WANT
    zoom: int = 1
    set: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> str:
        """The picture's file name."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self.part} {self.title}".lower().replace("µ", "u")).strip("-") + ".jpg"


def read_items(path: Path) -> tuple[dict[str, str], list[Item]]:
    """Return each part's note, and the items with what their part says of all of them."""
    notes, items = {}, []
    for part in yaml.safe_load(path.read_text(encoding="utf-8")):
        notes[part["part"]] = part.get("note", "")
        shared = {k: v for k, v in part.items() if k not in ("items", "note")}
        for own in part["items"]:
            entry = shared | own | {"set": shared.get("set", {}) | own.get("set", {})}
            if name := entry.get("name"):
                entry["kind"] += name
                entry.setdefault("title", name.replace("_", " ").capitalize())
                entry.setdefault("look", name)
                entry.setdefault("domain", "shift" if name in SHIFT_ONLY else "train")
            items.append(Item(**entry))
    return notes, items


def asked(item: Item, seed: int) -> dict[str, Any]:
    """Return the parameters of the item's slide."""
    quiet = dict(QUIET)
    if not item.kind.startswith("confounder:"):
        quiet |= {"artefacts": "none", "confounder.count": 0}
    elif item.name in CONFOUNDERS:
        quiet |= {"confounder.count": 1}
    size = (item.size, item.size)
    return parameters(
        kind=item.kind,
        seed=seed,
        size_px=size,
        mpp=0.5,
        domain=item.domain,
        patient_seed=None,
        overrides=quiet | item.set,
    )


def interest(look: str, scene: Scene, truth: NDArray[np.uint8] | None) -> NDArray[np.float32]:
    """Return a map of 0 to 1, on the mask's cells or the layout's, of where the thing is."""
    layout = scene.layout
    inside = layout.tissue > 0
    if look == "spaces" and truth is not None:  # what bone encloses
        bone = np.asarray(truth == IDS["bone"], np.uint8)
        rings, _ = cv2.findContours(bone, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        return np.asarray(cv2.drawContours(np.zeros_like(bone), rings, -1, 1, -1) - bone, np.float32)
    if look in IDS:
        return np.asarray(truth == IDS[look], np.float32)
    if look in ("epidermis", "papillary", "fat"):
        found = {"epidermis": layout.epidermis > -40, "papillary": layout.papillary > 0.4, "fat": layout.fat > 0.5}[
            look
        ]
        return np.asarray(found & inside & (layout.epidermis < 1 if look == "papillary" else True), np.float32)
    if look == "defocus" and scene.artefacts.defocus is not None:
        return np.asarray(inside & (scene.artefacts.defocus > 0.5), np.float32)
    if look == "inflamed":
        return np.asarray((layout.tissue > 20) & (layout.inflammation > 2000), np.float32)
    if look == "dermis":
        return np.asarray((layout.tissue > 20) & (layout.epidermis < -150) & (layout.fat < 0.1), np.float32)
    disc = np.zeros(layout.tissue.shape, np.uint8)
    cell = layout.frame.cell_um
    for tube in scene.tubes:
        epithelial = tube.wall[0] > 0.13
        name = "sebaceous" if tube.foam else "vessel" if not epithelial else "follicle" if tube.b_um > 40 else "gland"
        if name == look and (look != "vessel" or tube.b_um > 18):
            centre = (int(tube.x_um / cell), int(tube.y_um / cell))
            cv2.circle(disc, centre, max(1, int(tube.b_um / cell)), 1, -1)
    return np.asarray(disc, np.float32)


def best_place(found: NDArray[np.float32], down: int, item: Item) -> tuple[float, int, int]:
    """Return how far the best field is from holding the wanted share, and its top-left (x, y) in level-0 px."""
    field_px = FIELD_PX * item.zoom
    side = field_px // down
    total = np.pad(found.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    share = (total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]) / side**2
    share = share[: (item.size - field_px) // down + 1, : (item.size - field_px) // down + 1]
    away = np.abs(share - item.want)
    rows, columns = np.nonzero(away <= away.min() + 0.02)
    # Of many equally good places the one nearest to the middle of them: not cut off by the specimen's border.
    middle = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
    y, x = int(rows[middle]), int(columns[middle])
    return float(away[y, x]), x * down, y * down


def make_picture(item: Item, folder: Path) -> str:
    """Draw slides until one shows the item well, and write the field; return a line about it."""
    cv2.setNumThreads(1)
    painted = item.look in (*IDS, "spaces")
    choices = []
    for seed in range(item.seed, item.seed + (SEEDS if painted else PLANS)):
        wanted = asked(item, seed)
        if painted:
            drawing = draw(wanted)
            place = best_place(interest(item.look, drawing.scene, drawing.truth), MASK_DOWN, item)
        else:
            scene = plan(wanted)[0]
            place = best_place(interest(item.look, scene, None), scene.frame.factor, item)
            drawing = None
        choices.append((place, seed, drawing))
        if place[0] < min(0.12, 0.4 * item.want):
            break
    (away, x, y), seed, drawing = min(choices, key=lambda c: c[0][0])
    field_px = FIELD_PX * item.zoom
    image = (drawing or draw(asked(item, seed))).image[y : y + field_px, x : x + field_px]
    if item.zoom > 1:
        image = np.asarray(cv2.resize(image, (FIELD_PX, FIELD_PX), interpolation=cv2.INTER_AREA), np.uint8)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 84])
    assert done
    with whole(folder / item.file) as path:
        path.write_bytes(data.tobytes())
    return f"{item.file}: seed {seed}, share off by {away:.2f}"


def headline(item: Item) -> str:
    """Return the title, with a star for what is kept from training, and the scale where it isn't 0.5 µm/px."""
    scale = f", {item.zoom * 0.5:g} µm/px" if item.zoom > 1 else ""
    return f"**{item.title}**{scale}{' *' * (item.domain != 'train')}"


def page(notes: Mapping[str, str], items: list[Item]) -> str:
    """Return the page: a table of pictures per part, each with its words."""
    lines = [
        "# What the phantoms look like",
        "",
        *textwrap.wrap(f"{ABOUT} Phantoms of format {FORMAT}.", 120),
        "",
    ]
    for part, note in notes.items():
        lines += [f"## {part}", ""] + ([note, ""] if note else [])
        mine = [i for i in items if i.part == part]
        for start in range(0, len(mine), COLUMNS):
            row = mine[start : start + COLUMNS]
            lines.append("| " + " | ".join(headline(i) for i in row) + " |")
            lines.append("|" + "---|" * len(row))
            lines.append("| " + " | ".join(f"![{i.title}](pictures/{i.file})" for i in row) + " |")
            lines.append("| " + " | ".join(i.words + (f" Real: `{i.real}`" if i.real else "") for i in row) + " |")
            lines.append("")
    lines.append("\\* never in the training domain.")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Make all pictures, or those whose title holds a word, and the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    notes, items = read_items(Path(__file__).with_suffix(".yaml"))
    folder = given.docs / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [i for i in items if given.only.lower() in i.file]
    with ProcessPoolExecutor(given.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for line in pool.map(make_picture, chosen, [folder] * len(chosen)):
            print(line, flush=True)
    if not given.only:
        for old in set(folder.glob("*.jpg")) - {folder / i.file for i in items}:
            old.unlink()
    write_text(given.docs / "gallery.md", page(notes, items))
    size = sum(p.stat().st_size for p in folder.glob("*.jpg"))
    print(f"{len(items)} pictures, {size / 1e6:.2f} MB, in {given.docs / 'gallery.md'}")


if __name__ == "__main__":
    main()
