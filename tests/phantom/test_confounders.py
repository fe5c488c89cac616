"""Every look-alike, form of calcium and artefact: it is there, it has its id, and chunks leave no trace in it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.phantom import calcium
from histo.phantom.artefact_paint import paint_artefacts
from histo.phantom.artefacts import ARTEFACTS, plan_artefacts
from histo.phantom.bone import BONE, plan_bone
from histo.phantom.bone_paint import paint_bone
from histo.phantom.calcium import CALCIUM, FORMS, paint_calcium, plan_calcium
from histo.phantom.canvas import Canvas
from histo.phantom.colours import nuclear_share
from histo.phantom.confounder_paint import paint_confounder
from histo.phantom.confounders import CONFOUNDERS, SHIFT_ONLY, plan_confounder
from histo.phantom.noise import Window
from histo.phantom.recipe import Lot, stream
from histo.phantom.region import Region, true_outside
from histo.phantom.scene import Scene
from histo.phantom.skin import paint_skin
from histo.phantom.slide import parameters, plan

HALO = 24  # as chunks have one, wide enough for what looks at neighbours


@pytest.fixture(scope="module")
def scene() -> Scene:
    asked = parameters(kind="normal", seed=8, size_px=(1400, 1400), mpp=0.5, domain="train", patient_seed=None)
    return plan(asked)[0]


def painted(scene: Scene, region: Region, window: Window) -> Canvas:
    canvas = Canvas(window)
    paint_skin(canvas, scene)
    {CALCIUM: paint_calcium, BONE: paint_bone}.get(region.label, paint_confounder)(canvas, region, scene)
    return canvas


def heart(scene: Scene, region: Region) -> tuple[int, int]:
    j, i = np.unravel_index(int(np.argmax(region.sdf_um)), region.sdf_um.shape)
    factor = scene.frame.factor
    return (region.cells.y + int(j)) * factor, (region.cells.x + int(i)) * factor


def check(scene: Scene, region: Region) -> None:
    y, x = heart(scene, region)
    large, small = Window(y - 210, x - 190, 420, 400), Window(y - 133, x - 101, 277, 250)
    one, two = painted(scene, region, large), painted(scene, region, small)
    assert (one.label == region.label).any()
    plain = Canvas(large)
    paint_skin(plain, scene)
    ink = 0 if one.ink is None else np.abs(one.ink).max()
    assert max(np.abs(one.h - plain.h).max(), np.abs(one.e - plain.e).max(), ink) > 0.05
    inner = Window(small.y + HALO, small.x + HALO, small.h - 2 * HALO, small.w - 2 * HALO)
    for name in ("h", "e", "n", "label", "ink"):
        a, b = getattr(one, name), getattr(two, name)
        if a is not None and b is not None:
            np.testing.assert_allclose(a[inner.within(large)], b[inner.within(small)], atol=1e-4, err_msg=name)


@pytest.mark.parametrize("name", CONFOUNDERS)
def test_every_confounder_is_painted_alike_in_any_chunk(scene: Scene, name: str) -> None:
    for seed in (3, 4):
        region = plan_confounder(Lot(stream(seed, "confounders"), "shift"), scene.layout, name)
        assert region.label == CONFOUNDERS[name]
        if name not in ("ink", "precipitate"):  # those need not meet the window
            check(scene, region)


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_calcium_is_painted_alike_in_any_chunk(
    scene: Scene, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calcium, "FORMS", {f: float(f == form) for f in FORMS})
    for seed in (3, 4):
        region = plan_calcium(Lot(stream(seed, "lesions"), "shift"), scene.layout)
        assert region.name == f"calcium_{form}"
        check(scene, region)


def test_bone_is_painted_alike_in_any_chunk(scene: Scene) -> None:
    regions = [plan_bone(Lot(stream(seed, "lesions"), "shift"), scene.layout) for seed in range(7)]
    assert {bool(r.number("detached_um")) for r in regions} == {False, True}
    for region in regions:
        check(scene, region)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_painting_only_where_a_region_reaches_changes_nothing(
    scene: Scene, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lots = [Lot(stream(seed, name), "shift") for name in ("lesions", "confounders")]
    names = list(CONFOUNDERS)[seed::4]
    regions = [plan_calcium(lots[0], scene.layout), plan_bone(lots[0], scene.layout)]
    regions += [plan_confounder(lots[1], scene.layout, name) for name in names if name != "precipitate"]
    for region in regions:
        y, x = heart(scene, region)
        window = Window(y - 300, x - 260, 610, 590)
        short = painted(scene, region, window)
        with monkeypatch.context() as patch:
            patch.setattr(Region, "part", lambda self, frame, canvas, *_: self.window(frame).meet(canvas))
            whole = painted(scene, region, window)
        for layer in ("h", "e", "n", "label"):
            np.testing.assert_allclose(getattr(short, layer), getattr(whole, layer), atol=2e-3, err_msg=region.name)


def test_some_kinds_are_kept_from_training(scene: Scene) -> None:
    drawn = {
        domain: {plan_confounder(Lot(stream(s, "confounders"), domain), scene.layout).name for s in range(60)}
        for domain in ("train", "shift")
    }
    assert not drawn["train"] & set(SHIFT_ONLY)
    assert drawn["shift"] & set(SHIFT_ONLY)
    forms = {plan_calcium(Lot(stream(s, "lesions"), "train"), scene.layout).numbers["form"] for s in range(60)}
    assert not forms & set(calcium.SHIFT_ONLY)


def test_colonies_grow_on_the_surface(scene: Scene) -> None:
    layout = scene.layout
    for seed in range(6):
        region = plan_confounder(Lot(stream(seed, "confounders"), "train"), layout, "bacteria")
        window = region.cells
        inside = region.sdf_um > 0
        here = layout.tissue[window.y : window.y + window.h, window.x : window.x + window.w]
        assert here[inside].min() < 40, seed


@given(h=st.floats(0.1, 2.5), cover=st.floats(0.02, 0.95), seed=st.integers(0, 10_000))
def test_nuclei_and_ground_keep_the_drawn_colour(h: float, cover: float, seed: int) -> None:
    """However ground and nuclei share it, the mean haematoxylin is the drawn one, and no nucleus is a black spot."""
    ground, strength = nuclear_share(Lot(np.random.default_rng(seed), "train"), h, cover)
    assert 0.35 <= strength <= 1.5
    if strength > 0.35:
        assert abs(ground + strength * max(cover, 0.08) - h) < 1e-6
    assert ground >= 0


def test_confounders_leave_most_of_the_specimen(scene: Scene) -> None:
    tissue = float((scene.layout.tissue > 0).sum())
    for seed in range(12):
        region = plan_confounder(Lot(stream(seed, "confounders"), "train"), scene.layout)
        if region.name not in ("ink", "fold", "precipitate"):
            assert (region.sdf_um > 0).sum() < 0.5 * tissue, region.name


def test_nothing_is_cut_off_by_its_own_rectangle(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rim that ends in a straight line would betray where lesions are drawn."""
    frame = scene.frame
    for k in range(40):
        monkeypatch.setattr(calcium, "FORMS", {f: float(f == list(FORMS)[k % len(FORMS)]) for f in FORMS})
        name = list(CONFOUNDERS)[k % len(CONFOUNDERS)]
        for region, least in (
            (plan_calcium(Lot(stream(k, "lesions"), "shift"), scene.layout), 160),
            (plan_confounder(Lot(stream(k, "confounders"), "shift"), scene.layout, name), 40),
        ):
            y, x, h, w = region.cells
            sides = {
                "top": (y > 0, region.sdf_um[0]),
                "left": (x > 0, region.sdf_um[:, 0]),
                "bottom": (y + h < frame.shape[0], region.sdf_um[-1]),
                "right": (x + w < frame.shape[1], region.sdf_um[:, -1]),
            }
            for side, (free, values) in sides.items():
                assert not free or values.max() < -least, (region.name, side, float(values.max()))


def test_an_outline_without_inside_stays_finite() -> None:
    assert np.isfinite(true_outside(np.full((9, 9), -3, np.float32), 4.0)).all()


def test_artefacts_are_painted_alike_in_any_chunk(scene: Scene) -> None:
    seen: set[str] = set()
    for seed in range(14):
        artefacts = plan_artefacts(scene.frame, seed, "extreme")
        seen |= set(artefacts.names())
        large, small = Window(100, 200, 420, 420), Window(180, 240, 200, 260)
        pair = []
        for window in (large, small):
            canvas = Canvas(window)
            paint_skin(canvas, scene)
            paint_artefacts(canvas, artefacts, scene.frame)
            pair.append(canvas)
        for name in ("h", "e", "n", "label"):
            a, b = (getattr(canvas, name) for canvas in pair)
            np.testing.assert_allclose(a[small.within(large)], b, atol=1e-4, err_msg=name)
        for name in ("ink", "defocus"):
            a, b = (getattr(canvas, name) for canvas in pair)
            if a is not None and b is not None:
                np.testing.assert_allclose(a[small.within(large)], b, atol=1e-3, err_msg=name)
        assert set(np.unique(pair[0].label)) <= {0, *ARTEFACTS.values()}
    assert seen == {"bands", "bubble", "chatter", "cover_edge", "defocus", "dust", "knife_line", "stripes", "tear"}
