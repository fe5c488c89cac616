"""One phantom slide from its seed: draw, render, trace, write."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from histo.errors import UsageError
from histo.files import whole
from histo.geometry import is_credible_mpp
from histo.phantom.adnexa import plan_adnexa
from histo.phantom.artefacts import ARTEFACTS, CHANCES, Artefacts, plan_artefacts
from histo.phantom.bone import BONE
from histo.phantom.calcium import CALCIUM
from histo.phantom.collagen import weave
from histo.phantom.confounders import CONFOUNDERS
from histo.phantom.kinds import IDS, check_domain, check_kind, label_of, look_alike
from histo.phantom.layout import Frame, frame_for, lay_out
from histo.phantom.nuclei import bank_of
from histo.phantom.overrides import PLANNED, check_overrides, put_in
from histo.phantom.planning import NoRoom, Numbers, plan_regions
from histo.phantom.pyramid import write_slide
from histo.phantom.recipe import Lot, Stain, draw_stain, draw_tissue, new_seed, stream
from histo.phantom.region import Region
from histo.phantom.render import MASK_DOWN, render
from histo.phantom.scene import Scene
from histo.phantom.skin import place_nuclei
from histo.phantom.strands import plan_strands
from histo.phantom.truth import (
    Component,
    areas_of,
    as_geojson,
    find_components,
    mask_levels,
    rows_of,
    write_json,
    write_mask,
)

SMALLEST_PX: Final = 1000
_SHAPING: Final = {
    "count", "form", "radius_um", "diameter_um", "name", "colour", "lacunae", *PLANNED["bone"],
}  # fmt: skip  # used in planning
_ATTEMPTS = 20
_LEAST_MM2: Final = {CALCIUM: 0.008, BONE: 0.03}  # above what the decision rule calls a finding
_PROMISED: Final = {
    "calcinosis_cutis": (CALCIUM,),
    "heterotopic_ossification": (BONE,),
    "mixed": (CALCIUM, BONE),
}
FORMAT: Final = 7  # raised when the same seed gives other pixels, or another truth


@dataclass(frozen=True)
class PhantomFiles:
    """The four files of one slide and its label in the manifest."""

    slide: Path
    geojson: Path
    mask: Path
    json: Path
    label: str


def files_of(folder: Path, name: str, kind: str, lesions: bool = True) -> PhantomFiles:
    """Name the files of a slide without making them."""
    return PhantomFiles(
        folder / f"{name}.svs",
        folder / f"{name}.geojson",
        folder / f"{name}.mask.tif",
        folder / f"{name}.json",
        label_of(kind, lesions),
    )


def parameters(
    *,
    kind: str,
    seed: int,
    size_px: tuple[int, int],
    mpp: float,
    domain: str,
    patient_seed: int | None,
    lesions: bool = True,
    overrides: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Check what identifies a slide and return it as it stands in the slide's JSON."""
    check_domain(domain)
    kind = check_kind(kind, domain)
    if min(size_px) < SMALLEST_PX:
        raise UsageError(f"a phantom of {size_px[0]} x {size_px[1]} px is too small; use at least {SMALLEST_PX} px")
    if not is_credible_mpp(mpp):
        raise UsageError(f"{mpp:g} µm per pixel is not a microscope's scale; use about 0.25 to 1")
    if seed < 0:
        raise UsageError(f"the seed {seed} is negative; use 0 or a positive whole number")
    settings = check_overrides(overrides, domain) if overrides else {}
    if kind == "mixed" and {"calcium.count", "bone.count"} & set(settings):
        raise UsageError("a mixed slide holds one deposit and one bone; leave calcium.count and bone.count away")
    return {
        "format": FORMAT,
        "kind": kind,
        "seed": int(seed),
        "size_px": [int(size_px[0]), int(size_px[1])],
        "mpp": float(mpp),
        "domain": domain,
        "patient_seed": int(seed if patient_seed is None else patient_seed),
        "lesions": lesions,
        "overrides": settings,
    }


def make_slide(
    folder: Path,
    name: str,
    *,
    kind: str,
    seed: int,
    size_px: tuple[int, int] = (6000, 6000),
    mpp: float = 0.5,
    domain: str = "train",
    patient_seed: int | None = None,
    lesions: bool = True,
    overrides: Mapping[str, Any] | None = None,
) -> PhantomFiles:
    """Make one slide of (width, height) px with its truth; equal arguments give equal pixels and truth.

    `kind` is one of `KINDS` or `confounder:NAME`. With `lesions=False` the same slide is made without its calcium and
    bone, all else alike. `overrides` sets single numbers instead of drawing them, see `histo.phantom.overrides`.
    Raises UsageError for what is unknown, a size below 1000 px, a scale no microscope has, a lesion without room, or
    numbers with which nothing can be drawn.
    """
    asked = parameters(
        kind=kind,
        seed=seed,
        size_px=size_px,
        mpp=mpp,
        domain=domain,
        patient_seed=patient_seed,
        lesions=lesions,
        overrides=overrides,
    )
    try:
        drawing = draw(asked)
    except (ArithmeticError, ValueError) as error:
        if not asked["overrides"]:
            raise
        given = ", ".join(f"{number}={value}" for number, value in asked["overrides"].items())
        raise UsageError(f"{name} cannot be made with {given} ({error}); take other values") from error
    files = files_of(folder, name, asked["kind"], lesions)
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{name}.*.tmp"):  # of a run that was killed
        left.unlink(missing_ok=True)
    levels = mask_levels(drawing.truth, size_px, MASK_DOWN)
    layout = drawing.scene.layout
    with whole(files.slide) as path:
        write_slide(path, drawing.image, mpp, drawing.stain.quality)
    with whole(files.mask) as path:
        write_mask(path, levels, mpp * MASK_DOWN)
    with whole(files.geojson) as path:
        write_json(path, as_geojson(name, drawing.components, layout))
    record = record_of(name, asked, drawing) | {"bytes": _bytes(files)}
    with whole(files.json) as path:  # last: its presence says that the slide is whole
        write_json(path, record)
    return files


@dataclass(frozen=True, eq=False)
class Drawing:
    """A slide before it is written: pixels (H, W, 3), truth on the mask's cells, and what they were made from."""

    image: NDArray[np.uint8]
    truth: NDArray[np.uint8]
    components: list[Component]
    scene: Scene
    regions: list[Region]
    stain: Stain
    attempt: int


def draw(asked: Mapping[str, Any]) -> Drawing:
    """Draw a slide from its checked parameters, again with other lesions until it holds what its kind promises."""
    width, height = asked["size_px"]
    for attempt in range(_ATTEMPTS):
        try:
            scene, regions, stain = plan(asked, attempt)
        except NoRoom:
            continue
        image, truth = render(scene, regions, stain)
        components = find_components(truth, asked["mpp"], MASK_DOWN)
        if holds(asked, truth, components):
            return Drawing(image, truth, components, scene, regions, stain, attempt)
    raise UsageError(
        f"nothing of kind {asked['kind']} as asked fits on a slide of {width} x {height} px with seed {asked['seed']}; "
        "try a larger slide, another seed or other overrides"
    )


def record_of(name: str, asked: Mapping[str, Any], drawing: Drawing) -> dict[str, Any]:
    """Return the content of a slide's JSON: every drawn number and a row per component."""
    scene = drawing.scene
    return {
        **asked,
        "label": label_of(asked["kind"], asked["lesions"]),
        "attempt": drawing.attempt,
        "mask_ids": IDS,
        "areas_mm2": areas_of(drawing.truth, asked["mpp"] * MASK_DOWN),
        "stain": dataclasses.asdict(drawing.stain),
        "tissue": dataclasses.asdict(scene.tissue),
        "surface_angle": scene.layout.angle,
        "regions": [{"name": r.name, "label": r.label, **r.numbers} for r in drawing.regions],
        "artefacts": scene.artefacts.names(),
        "components": rows_of(name, drawing.components, scene.layout),
        "overrides_without_effect": without_effect(asked["overrides"], drawing.regions),
    }


def without_effect(overrides: Mapping[str, Any], regions: list[Region]) -> list[str]:
    """Return the set numbers that no region of the slide used when it was painted."""
    wide = ("stain", "tissue", "artefacts")
    idle = []
    for name in overrides:
        subject, _, key = name.partition(".")
        if subject in wide or (key == "count" and not overrides[name]):
            continue
        mine = [r for r in regions if _subject(r) == subject or (subject == "confounder" and r.name in CONFOUNDERS)]
        used = {k for r in mine if isinstance(r.numbers, Numbers) for k in r.numbers.used}
        if not mine or key not in used | _SHAPING:
            idle.append(name)
    return idle


def _subject(region: Region) -> str:
    return {CALCIUM: "calcium", BONE: "bone"}.get(region.label, region.name)


def is_made(folder: Path, name: str, asked: Mapping[str, Any]) -> bool:
    """Tell whether the slide is there, whole, and made with these checked parameters."""
    files = files_of(folder, name, asked["kind"])
    if not all(p.is_file() for p in (files.slide, files.geojson, files.mask, files.json)):
        return False
    record = _record(files.json)
    # Slides of before this was recorded are taken as whole.
    return record is not None and not _differing(record, asked) and record.get("bytes", _bytes(files)) == _bytes(files)


def _bytes(files: PhantomFiles) -> dict[str, int]:
    """Return the sizes of slide, outlines and mask, by which a file that was cut off is known."""
    return {kind: getattr(files, kind).stat().st_size for kind in ("slide", "geojson", "mask")}


def made_otherwise(folder: Path, name: str, asked: Mapping[str, Any]) -> list[str]:
    """Return in which parameters a slide of this name that is there differs; a slide of an older format doesn't."""
    record = _record(files_of(folder, name, asked["kind"]).json)
    return [k for k in _differing(record, asked) if k != "format"] if record else []


def _record(path: Path) -> dict[str, Any] | None:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _differing(record: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    wanted = json.loads(json.dumps(asked))  # tuples become lists
    return [k for k, v in wanted.items() if k not in record or record[k] != v]


def holds(asked: Mapping[str, Any], truth: NDArray[np.uint8], components: list[Component]) -> bool:
    """Tell whether every class that the kind promises is there with an area that a verdict can rest on.

    A slide too small for that must still have its share, and a lesion of a set size most of that size.
    """
    name = look_alike(asked["kind"])
    if name in IDS:
        return bool((truth == IDS[name]).any())
    slide_mm2 = asked["size_px"][0] * asked["size_px"][1] * asked["mpp"] ** 2 * 1e-6
    for label in _PROMISED.get(asked["kind"], ()) if asked["lesions"] else ():
        subject = "calcium" if label == CALCIUM else "bone"
        if asked["overrides"].get(f"{subject}.count") == 0:
            continue
        least = min(_LEAST_MM2[label], 0.01 * slide_mm2)
        sizes = [asked["overrides"].get(f"{subject}.{k}") for k in ("diameter_um", "radius_um")]
        widths = [w for w in (sizes[0], 2 * sizes[1] if sizes[1] else None) if w]
        if widths:
            least = min(least, 0.08 * (widths[0] * 1e-3) ** 2)
        if sum(c.area_mm2 for c in components if c.label == label) < least:
            return False
    return True


def plan(asked: Mapping[str, Any], attempt: int = 0) -> tuple[Scene, list[Region], Stain]:
    """Draw everything about a slide from its checked parameters. Raises NoRoom, see `plan_regions`."""
    seed, domain, patient = asked["seed"], asked["domain"], asked["patient_seed"]
    overrides = asked["overrides"]
    frame = frame_for((asked["size_px"][0], asked["size_px"][1]), asked["mpp"])
    tissue = put_in(draw_tissue(patient, seed, domain), overrides, "tissue")
    layout = lay_out(frame, tissue, seed)
    rng = stream(seed, "texture")
    rng.uniform(size=4)  # draw_tissue took the first ones
    fibres = weave(rng, layout, tissue)
    bank = bank_of(rng, frame.mpp)
    nuclei = place_nuclei(rng, frame, layout, tissue, fibres)
    tubes, tube_nuclei = plan_adnexa(rng, layout)
    strands = plan_strands(Lot(stream(seed, "strands"), domain), layout, tissue, tubes)
    artefacts = _artefacts(asked, frame, attempt)
    scene = Scene(frame, layout, tissue, fibres, bank, nuclei, tubes, tube_nuclei, strands, artefacts, new_seed(rng))
    regions = plan_regions(asked, layout, attempt)
    return scene, regions, put_in(draw_stain(patient, seed, domain), overrides, "stain")


def _artefacts(asked: Mapping[str, Any], frame: Frame, attempt: int) -> Artefacts:
    """Draw the artefacts: by chance, those that are set, or only the one that the slide is of."""
    name, seed = look_alike(asked["kind"]), asked["seed"]
    only = asked["overrides"].get("artefacts", None if name is None else {name} & set(CHANCES))
    if name in ARTEFACTS and attempt:
        seed = new_seed(stream(seed, "artefacts", attempt))
    return plan_artefacts(frame, seed, asked["domain"], only)
