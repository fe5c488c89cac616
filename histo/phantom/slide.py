"""One phantom slide from its seed: draw, render, trace, write."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from histo.errors import UsageError
from histo.geometry import is_credible_mpp
from histo.phantom.adnexa import plan_adnexa
from histo.phantom.artefacts import ARTEFACTS, plan_artefacts
from histo.phantom.bone import BONE, plan_bone
from histo.phantom.calcium import CALCIUM, plan_calcium
from histo.phantom.collagen import weave
from histo.phantom.confounders import CONFOUNDERS, plan_confounder
from histo.phantom.layout import Layout, frame_for, lay_out
from histo.phantom.nuclei import bank_of
from histo.phantom.pyramid import write_slide
from histo.phantom.recipe import DOMAINS, KINDS, LABELS, Lot, Stain, draw_stain, draw_tissue, new_seed, stream
from histo.phantom.region import Region, Spot
from histo.phantom.render import MASK_DOWN, render
from histo.phantom.scene import Scene
from histo.phantom.skin import place_nuclei
from histo.phantom.truth import Component, as_geojson, find_components, rows_of, write_json, write_mask

SMALLEST_PX: Final = 1000
_ATTEMPTS = 20
_LEAST_MM2: Final = {CALCIUM: 0.008, BONE: 0.03}  # above what the decision rule calls a finding
_PROMISED: Final = {
    "calcinosis_cutis": (CALCIUM,),
    "heterotopic_ossification": (BONE,),
    "mixed": (CALCIUM, BONE),
}
FORMAT: Final = 3  # raised when the same seed gives other pixels


@dataclass(frozen=True)
class PhantomFiles:
    """The four files of one slide and its label in the manifest."""

    slide: Path
    geojson: Path
    mask: Path
    json: Path
    label: str


def files_of(folder: Path, name: str, kind: str) -> PhantomFiles:
    """Name the files of a slide without making them."""
    return PhantomFiles(
        folder / f"{name}.svs",
        folder / f"{name}.geojson",
        folder / f"{name}.mask.tif",
        folder / f"{name}.json",
        LABELS[kind],
    )


def parameters(
    *, kind: str, seed: int, size_px: tuple[int, int], mpp: float, domain: str, patient_seed: int | None
) -> dict[str, Any]:
    """Check what identifies a slide and return it as it stands in the slide's JSON."""
    if kind not in KINDS:
        raise UsageError(f"unknown phantom kind {kind!r}; choose one of {', '.join(KINDS)}")
    if domain not in DOMAINS:
        raise UsageError(f"unknown phantom domain {domain!r}; choose one of {', '.join(DOMAINS)}")
    if min(size_px) < SMALLEST_PX:
        raise UsageError(f"a phantom of {size_px[0]} x {size_px[1]} px is too small; use at least {SMALLEST_PX} px")
    if not is_credible_mpp(mpp):
        raise UsageError(f"{mpp:g} µm per pixel is not a microscope's scale; use about 0.25 to 1")
    return {
        "format": FORMAT,
        "kind": kind,
        "seed": int(seed),
        "size_px": [int(size_px[0]), int(size_px[1])],
        "mpp": float(mpp),
        "domain": domain,
        "patient_seed": int(seed if patient_seed is None else patient_seed),
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
) -> PhantomFiles:
    """Make one slide of (width, height) px with its truth; equal arguments give equal pixels and truth.

    Raises UsageError for an unknown kind or domain, a size below 1000 px or a scale no microscope has.
    """
    asked = parameters(kind=kind, seed=seed, size_px=size_px, mpp=mpp, domain=domain, patient_seed=patient_seed)
    for attempt in range(_ATTEMPTS):
        scene, regions, stain = plan(asked, attempt)
        image, truth = render(scene, regions, stain)
        components = find_components(truth, mpp, MASK_DOWN)
        if holds_lesions(kind, components, size_px[0] * size_px[1] * mpp**2 * 1e-6):
            break
    else:
        raise UsageError(f"no lesion of kind {kind} fits on a slide of {size_px[0]} x {size_px[1]} px with seed {seed}")
    record = asked | {
        "label": LABELS[kind],
        "attempt": attempt,
        "mask_ids": {"calcification": 1, "bone": 2} | CONFOUNDERS | ARTEFACTS,
        "stain": dataclasses.asdict(stain),
        "tissue": dataclasses.asdict(scene.tissue),
        "surface_angle": scene.layout.angle,
        "regions": [{"name": r.name, "label": r.label, **r.numbers} for r in regions],
        "artefacts": scene.artefacts.names(),
        "components": rows_of(components, scene.layout),
    }
    folder.mkdir(parents=True, exist_ok=True)
    files = files_of(folder, name, kind)
    _write(files.slide, lambda p: write_slide(p, image, mpp, stain.quality))
    _write(files.mask, lambda p: write_mask(p, truth, mpp * MASK_DOWN))
    _write(files.geojson, lambda p: write_json(p, as_geojson(name, components)))
    _write(files.json, lambda p: write_json(p, record))  # last: its presence says that the slide is whole
    return files


def holds_lesions(kind: str, components: list[Component], slide_mm2: float) -> bool:
    """Tell whether every class that the kind promises is there with an area that a verdict can rest on.

    A slide too small for that must still have its share.
    """
    areas = {label: sum(c.area_mm2 for c in components if c.label == label) for label in _LEAST_MM2}
    return all(areas[label] >= min(_LEAST_MM2[label], 0.01 * slide_mm2) for label in _PROMISED.get(kind, ()))


def plan(asked: dict[str, Any], attempt: int = 0) -> tuple[Scene, list[Region], Stain]:
    """Draw everything about a slide from its checked parameters."""
    seed, domain, patient = asked["seed"], asked["domain"], asked["patient_seed"]
    frame = frame_for((asked["size_px"][0], asked["size_px"][1]), asked["mpp"])
    tissue = draw_tissue(patient, seed, domain)
    layout = lay_out(frame, tissue, seed)
    rng = stream(seed, "texture")
    rng.uniform(size=4)  # draw_tissue took the first ones
    fibres = weave(rng, layout, tissue)
    bank = bank_of(rng, frame.mpp)
    nuclei = place_nuclei(rng, frame, layout, tissue, fibres)
    tubes, tube_nuclei = plan_adnexa(rng, layout)
    scene = Scene(
        frame,
        layout,
        tissue,
        fibres,
        bank,
        nuclei,
        tubes,
        tube_nuclei,
        plan_artefacts(frame, seed, domain),
        new_seed(rng),
    )
    regions = plan_regions(asked["kind"], layout, seed, domain, attempt)
    return scene, regions, draw_stain(patient, seed, domain)


def plan_regions(kind: str, layout: Layout, seed: int, domain: str, attempt: int) -> list[Region]:
    """Draw confounders, then lesions, in the order in which they are painted."""
    confounders = Lot(stream(seed, "confounders"), domain)
    few = int(confounders.rng.choice([0, 1, 2, 3], p=[0.3, 0.35, 0.2, 0.15]))
    count = few + (int(confounders.rng.integers(3, 6)) if kind == "confounder" else 0)
    regions = [plan_confounder(confounders, layout) for _ in range(count)]
    lot = Lot(stream(seed, "lesions", attempt), domain)
    rng = lot.rng
    if kind == "calcinosis_cutis":
        regions += [plan_calcium(lot, layout) for _ in range(int(rng.choice([1, 2, 3, 5], p=[0.4, 0.3, 0.2, 0.1])))]
    if kind == "heterotopic_ossification":
        regions += [plan_bone(lot, layout) for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])))]
    if kind == "mixed":
        regions += _mixed(lot, layout)
    return regions


def _mixed(lot: Lot, layout: Layout) -> list[Region]:
    """Bone and calcium: apart, touching, or the one around the other."""
    bone = plan_bone(lot, layout)
    window = bone.cells
    j, i = np.unravel_index(int(np.argmax(bone.sdf_um)), bone.sdf_um.shape)
    cell = layout.frame.cell_um
    x, y = (window.x + float(i)) * cell, (window.y + float(j)) * cell
    way = int(lot.rng.integers(3))
    radius = bone.number("radius_um")
    if way == 0:
        return [bone, plan_calcium(lot, layout)]
    aim = float(lot.rng.uniform(0, 2 * np.pi))
    if way == 1:
        spot = Spot(x + 0.9 * radius * np.cos(aim), y + 0.9 * radius * np.sin(aim), max(80.0, 0.5 * radius))
        return [bone, plan_calcium(lot, layout, spot)]
    return [plan_calcium(lot, layout, Spot(x, y, 1.15 * radius)), bone]


def _write(path: Path, writer: Callable[[Path], None]) -> None:
    """Write beside the final name and rename, so that no half file bears the name."""
    temporary = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        writer(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
