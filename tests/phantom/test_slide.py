"""What a phantom slide promises: a readable pyramid, reproducible pixels and a truth that fits them."""

import json
from pathlib import Path

import cv2
import numpy as np
import openslide
import pytest
import tifffile
from numpy.typing import NDArray

from histo.errors import UsageError
from histo.outlines import area_px2
from histo.phantom import KINDS, PhantomFiles, make_slide
from histo.phantom.recipe import DOMAINS, LABELS, Stain, draw_stain, draw_tissue
from histo.phantom.render import render
from histo.phantom.slide import parameters, plan

SIZE = (1400, 1200)


def pixels(files: PhantomFiles) -> NDArray[np.uint8]:
    with openslide.OpenSlide(str(files.slide)) as slide:
        return np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))


def asked(kind: str, seed: int, size: tuple[int, int] = SIZE, domain: str = "train") -> dict[str, object]:
    return parameters(kind=kind, seed=seed, size_px=size, mpp=0.5, domain=domain, patient_seed=None)


def darkness(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    return -np.log((image.astype(float).mean(axis=2) + 1) / 256)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PhantomFiles]:
    folder = tmp_path_factory.mktemp("phantoms")
    return {kind: make_slide(folder, kind, kind=kind, seed=5, size_px=(2048, 1600)) for kind in KINDS}


@pytest.mark.parametrize("mpp", [0.25, 0.5, 1.0])
def test_openslide_reads_scale_and_levels(tmp_path: Path, mpp: float) -> None:
    files = make_slide(tmp_path, "a", kind="normal", seed=1, size_px=(2100, 1300), mpp=mpp)
    with openslide.OpenSlide(str(files.slide)) as slide:
        assert slide.properties["openslide.vendor"] == "aperio"
        assert float(slide.properties["openslide.mpp-x"]) == mpp
        assert float(slide.properties["openslide.mpp-y"]) == mpp
        assert slide.dimensions == (2100, 1300)
        assert slide.level_count >= 2
        assert slide.level_downsamples == pytest.approx([2.0**k for k in range(slide.level_count)], rel=0.01)
        coarse = np.asarray(slide.read_region((0, 0), 1, slide.level_dimensions[1]).convert("RGB"), float)
        fine = np.asarray(slide.read_region((0, 0), 0, slide.dimensions).convert("RGB"))
    half = cv2.resize(fine, coarse.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(half - coarse).mean() < 4


def test_same_seed_gives_same_bytes(tmp_path: Path) -> None:
    one, two = (make_slide(tmp_path / d, "s", kind="mixed", seed=3, size_px=SIZE) for d in "ab")
    for name in ("slide", "geojson", "mask", "json"):
        assert getattr(one, name).read_bytes() == getattr(two, name).read_bytes(), name
    other = make_slide(tmp_path / "c", "s", kind="mixed", seed=4, size_px=SIZE)
    assert other.mask.read_bytes() != one.mask.read_bytes()
    assert not list(tmp_path.glob("*/.*")), "temporary files are left over"


@pytest.mark.parametrize(("kind", "seed"), [("mixed", 4), ("confounder", 6), ("calcinosis_cutis", 9)])
def test_chunks_and_threads_leave_no_trace(kind: str, seed: int) -> None:
    scene, regions, stain = plan(asked(kind, seed))
    ways = ((512, 1), (900, 3))
    images, truths = zip(*(render(scene, regions, stain, chunk_px=c, threads=t) for c, t in ways), strict=True)
    np.testing.assert_array_equal(images[0], images[1])
    np.testing.assert_array_equal(truths[0], truths[1])


@pytest.mark.parametrize(("kind", "label"), [("calcinosis_cutis", 1), ("heterotopic_ossification", 2)])
def test_pixels_differ_from_the_slide_without_the_lesion_only_near_it(kind: str, label: int) -> None:
    size = (2000, 1800)
    plain = render(*plan(asked("normal", 12, size)))[0]
    scene, regions, stain = plan(asked(kind, 12, size))
    image, truth = render(scene, regions, stain)
    inside = np.kron(truth == label, np.ones((2, 2), np.uint8))[: image.shape[0], : image.shape[1]] > 0
    assert inside.any()
    changed = np.abs(image.astype(int) - plain).max(axis=2)
    assert (changed[inside] > 12).mean() > 0.6
    # A lesion may change its outline's inside and a rim of up to four times 40 µm.
    near = np.zeros(scene.frame.shape, np.uint8)
    for region in regions:
        if region.label == label:
            top, left, height, width = region.cells
            near[top : top + height, left : left + width] |= region.maps.get("outer", region.sdf_um) > -190
    reach = np.kron(near, np.ones((scene.frame.factor,) * 2, np.uint8))[: image.shape[0], : image.shape[1]] > 0
    assert (~reach).mean() > 0.1
    assert changed[~reach].max() == 0


def test_truth_lies_on_the_pixels() -> None:
    scene, regions, stain = plan(asked("calcinosis_cutis", 21))
    lesions = [r for r in regions if r.label == 1]
    with_, without = (darkness(render(scene, some, stain)[0]) for some in (lesions, []))
    truth = render(scene, lesions, stain)[1] == 1
    gain = cv2.resize(with_ - without, truth.shape[::-1], interpolation=cv2.INTER_AREA)
    # Moving the mask in any direction must fit the darkening worse than leaving it.
    fit = {(dy, dx): float(gain[np.roll(truth, (dy, dx), (0, 1))].mean()) for dy in (-6, 0, 6) for dx in (-6, 0, 6)}
    assert max(fit, key=lambda k: fit[k]) == (0, 0)
    assert fit[(0, 0)] > 0.15


def test_outlines_have_the_area_of_the_mask(made: dict[str, PhantomFiles]) -> None:
    for kind in ("calcinosis_cutis", "heterotopic_ossification", "mixed"):
        features = json.loads(made[kind].geojson.read_text())["features"]
        rows = json.loads(made[kind].json.read_text())["components"]
        mask = tifffile.imread(made[kind].mask)
        assert len({f["id"] for f in features}) == len(features) == len(rows) > 0
        for label, name in ((1, "calcification"), (2, "bone")):
            mine = [f for f in features if f["properties"]["classification"]["name"] == name]
            outlined = sum(area_px2(f["geometry"]["coordinates"]) for f in mine)
            assert outlined == pytest.approx(4 * float((mask == label).sum()), rel=0.02)
            measured = sum(f["properties"]["measurements"]["area_mm2"] for f in mine)
            assert measured == pytest.approx(outlined * 0.25e-6, rel=0.01)


def test_every_kind_holds_what_it_says(made: dict[str, PhantomFiles]) -> None:
    lesions = {
        "normal": set(),
        "confounder": set(),
        "calcinosis_cutis": {1},
        "heterotopic_ossification": {2},
        "mixed": {1, 2},
    }
    for kind, files in made.items():
        found = set(np.unique(tifffile.imread(files.mask)).tolist())
        assert found & {1, 2} == lesions[kind], kind
        assert files.label == LABELS[kind]
        if kind == "confounder":
            assert {v for v in found if v >= 10}
        image = pixels(files)
        assert 0.08 < (image.min(axis=2) < 215).mean() < 0.95, kind


def test_domains_are_disjoint() -> None:
    drawn = {d: [draw_stain(s, s + 1, d) for s in range(40)] for d in DOMAINS}
    tissue = {d: [draw_tissue(s, s + 1, d) for s in range(40)] for d in DOMAINS}

    def degrees(stain: Stain) -> float:
        reference = np.array((0.5626, 0.7201, 0.4062))
        cosine = np.dot(stain.haematoxylin, reference) / np.linalg.norm(reference)
        return float(np.degrees(np.arccos(min(1.0, cosine))))

    for gain in ("gain_h", "gain_e"):
        values = {d: np.array([getattr(s, gain) for s in drawn[d]]) for d in DOMAINS}
        assert ((values["train"] >= 0.55) & (values["train"] <= 1.8)).all()
        shift = values["shift"]
        assert (((shift >= 0.4) & (shift < 0.55)) | ((shift > 1.8) & (shift <= 2.6))).all()
        assert ((values["extreme"] < 0.4) | (values["extreme"] > 2.6)).all()
    for domain, (low, high) in {"train": (0, 4), "shift": (6, 12), "extreme": (12, 16)}.items():
        assert all(low - 0.01 <= degrees(s) <= high + 0.01 for s in drawn[domain]), domain
    for name in ("bundle_um", "fine_um", "eosin"):
        inside = [getattr(t, name) for t in tissue["train"]]
        for domain in ("shift", "extreme"):
            assert not any(min(inside) <= getattr(t, name) <= max(inside) for t in tissue[domain]), (name, domain)


def test_an_extreme_slide_can_be_made(tmp_path: Path) -> None:
    files = make_slide(tmp_path, "e", kind="mixed", seed=2, size_px=SIZE, domain="extreme")
    assert set(np.unique(tifffile.imread(files.mask))) >= {1, 2}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"kind": "wart"}, "kind"),
        ({"domain": "mars"}, "domain"),
        ({"size_px": (999, 2000)}, "small"),
        ({"mpp": 40.0}, "scale"),
    ],
)
def test_wrong_requests_are_refused(tmp_path: Path, change: dict[str, object], word: str) -> None:
    request: dict[str, object] = {"kind": "normal", "seed": 1, "size_px": SIZE} | change
    with pytest.raises(UsageError, match=word):
        make_slide(tmp_path, "x", **request)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
