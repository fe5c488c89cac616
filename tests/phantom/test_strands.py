"""Plain nerves and hair muscles: every dermis has them, and they carry no label."""

import dataclasses

import numpy as np
import pytest

from histo.phantom.adnexa import paint_adnexa
from histo.phantom.canvas import Canvas
from histo.phantom.noise import Window
from histo.phantom.recipe import Lot, stream
from histo.phantom.scene import Scene
from histo.phantom.skin import paint_skin
from histo.phantom.slide import parameters, plan
from histo.phantom.strands import paint_strands, plan_strands
from histo.phantom.tube import Tube


def scene_of(seed: int) -> Scene:
    asked = parameters(kind="normal", seed=seed, size_px=(1200, 1200), mpp=0.5, domain="train", patient_seed=None)
    return plan(asked)[0]


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    made = [scene_of(seed) for seed in range(2)]
    lots = [Lot(stream(seed, "strands"), "train") for seed in range(6)]
    more = [r for lot in lots for r in plan_strands(lot, made[0].layout, made[0].tissue, made[0].tubes)]
    return [dataclasses.replace(made[0], strands=more), made[1]]


def painted(scene: Scene, window: Window) -> tuple[Canvas, Canvas]:
    plain, canvas = Canvas(window), Canvas(window)
    for target in (plain, canvas):
        paint_skin(target, scene)
        paint_adnexa(target, scene)
    paint_strands(canvas, scene)
    return plain, canvas


def test_nerve_and_muscle_are_there_without_a_label(scenes: list[Scene]) -> None:
    seen = set()
    for scene in scenes:
        for strand in scene.strands:
            if strand.sdf_um.max() < 12:  # cut away by the specimen's edge
                continue
            seen.add(strand.name)
            plain, canvas = painted(scene, strand.window(scene.frame))
            assert np.abs(canvas.e - plain.e).max() > 0.05, strand.name
            assert not canvas.label.any()
    assert seen == {"nerve", "smooth_muscle"}


def test_most_follicles_have_a_muscle(scenes: list[Scene]) -> None:
    scene, hair = scenes[0], Tube(300, 300, 60, 50, 0.0, 20, (0.35, 0.55), (0.05, 0.9), False, 7, hair=True)

    def muscles(tubes: list[Tube]) -> int:
        lots = [Lot(stream(seed, "strands"), "train") for seed in range(8)]
        planned = [s for lot in lots for s in plan_strands(lot, scene.layout, scene.tissue, tubes)]
        return sum(s.name == "smooth_muscle" for s in planned)

    assert 8 <= muscles([hair, hair]) - muscles([]) <= 16


def test_strands_are_painted_alike_in_any_chunk(scenes: list[Scene]) -> None:
    scene = next(s for s in scenes if s.strands)
    strand = max(scene.strands, key=lambda s: float(s.sdf_um.max()))
    y, x, h, w = strand.window(scene.frame)
    large, small = Window(y, x, h, w), Window(y + h // 4 + 3, x + w // 4 + 1, h // 2, w // 2)
    one, two = (painted(scene, window)[1] for window in (large, small))
    inner = Window(small.y + 4, small.x + 4, small.h - 8, small.w - 8)
    for name in ("h", "e", "n"):
        a, b = getattr(one, name), getattr(two, name)
        np.testing.assert_allclose(a[inner.within(large)], b[inner.within(small)], atol=1e-3, err_msg=name)
