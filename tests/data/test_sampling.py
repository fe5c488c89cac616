"""Drawing tiles to learn from: reproducible, balanced, aligned with the outlines, and safe from damage."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from histo.config import ClassesConfig, DataConfig, TileConfig, TrainConfig
from histo.data.labels import IGNORED
from histo.data.records import SlideRecord
from histo.data.sampling import (
    Draw,
    DrawnTiles,
    LabelledSlide,
    _place,
    choose_by_patient,
    draw_epoch,
    expected_cells,
    gaps_of,
    keep_decoded,
    open_all,
    open_labelled,
    with_tiles,
)
from histo.errors import SlideRefused, UsageError
from histo.models.bundle import SHIPPED, load_bundle
from histo.opening import open_for

Rgb = NDArray[np.uint8]
GARBAGE = b"\xff\xd8\xff\xe0" + b"garbage" * 20
CALCIUM_BOX, BONE_BOX = (400, 500, 800, 900), (1200, 600, 1700, 1100)  # where the painted slide has them


def outline(name: str, box: tuple[int, int, int, int]) -> dict[str, object]:
    x0, y0, x1, y1 = box
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


@pytest.fixture(scope="module")
def annotation(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("annotations") / "painted.geojson"
    features = [outline("calcification", CALCIUM_BOX), outline("bone", BONE_BOX)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture(scope="module")
def config(classes: ClassesConfig) -> TrainConfig:
    return TrainConfig(
        name="t",
        intended_use="Tests.",
        classes=classes,
        data=DataConfig(manifest=Path("s.csv")),
        tile=TileConfig(size_px=256, mpp=1.0, stride_px=16, margin_px=32),
    )


def ignoring(config: TrainConfig) -> TrainConfig:
    return config.model_copy(update={"data": config.data.model_copy(update={"unannotated": "ignore"})})


@pytest.fixture(scope="module")
def painted_record(painted: Path, annotation: Path) -> SlideRecord:
    return SlideRecord("painted", painted, "p1", "heterotopic_ossification", annotation)


@pytest.fixture(scope="module")
def labelled(painted_record: SlideRecord, config: TrainConfig) -> LabelledSlide:
    return open_labelled(painted_record, config)


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory, write_tiff: Callable[..., Path], config: TrainConfig
) -> LabelledSlide:
    """A normal slide without outlines."""
    picture = np.full((1024, 1024, 3), (225, 170, 195), np.uint8)
    path = write_tiff(tmp_path_factory.mktemp("plain") / "plain.svs", [picture])
    return open_labelled(SlideRecord("plain", path, "p2", "normal"), config)


# Opening


def test_a_slide_that_teaches_less_than_it_seems_is_told(
    painted_record: SlideRecord, config: TrainConfig, tmp_path: Path, write_tiff: Callable[..., Path]
) -> None:
    # Bug: slides without tissue, or with outlines beside it, taught nothing, and nobody said so.
    glass = write_tiff(tmp_path / "glass.svs", [np.full((1024, 1024, 3), 245, np.uint8)])
    ring = [[2, 2], [20, 2], [20, 20], [2, 20], [2, 2]]
    beside = tmp_path / "beside.geojson"
    beside.write_text(
        json.dumps(
            [
                {
                    "type": "Feature",
                    "geometry": {"type": "Polygon", "coordinates": [ring]},
                    "properties": {"classification": {"name": "bone"}},
                }
            ]
        )
    )
    said: list[str] = []
    records = [
        painted_record,
        SlideRecord("glass", glass, "p3", "normal"),
        replace(painted_record, slide="beside", annotation=beside),
    ]
    assert len(open_all(records, config, said.append)) == 3
    assert [line.split(":")[1].split(" teaches ")[1] for line in said] == ["nothing", "its diagnosis alone"]


def test_outlines_that_reach_no_cell_do_not_teach_that_the_lesion_is_normal(
    painted_record: SlideRecord, config: TrainConfig, tmp_path: Path
) -> None:
    # Bug: all tissue of such a slide was taught as normal, against its diagnosis.
    ring = [[700, 700], [703, 700], [703, 703], [700, 703], [700, 700]]  # 1.5 µm on the tissue
    feature = {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": "bone"}},
    }
    (tmp_path / "speck.geojson").write_text(json.dumps([feature]))
    slide = open_labelled(replace(painted_record, annotation=tmp_path / "speck.geojson"), config)
    assert slide.diagnosis_only
    assert not slide.class_cells.any()


def test_the_expected_cells_of_a_tile_are_those_that_an_epoch_shows(
    labelled: LabelledSlide, plain: LabelledSlide
) -> None:
    slides = [labelled, plain]
    draws = draw_epoch(slides, 400, 0.5, 0, 0)
    drawn = DrawnTiles(slides, draws, ("normal", "bone", "calcification"), None)
    shown = np.mean([(f * w).sum(axis=(1, 2)) for _, f, w in map(drawn.__getitem__, range(len(drawn)))], axis=0)
    assert expected_cells(slides, 0.5) == pytest.approx(shown, rel=0.3)


def test_class_areas_are_those_of_the_outlines(labelled: LabelledSlide) -> None:
    cells = labelled.class_cells.sum(axis=0)
    cell_px2 = np.prod(labelled.tiles.map_grid.cell_level0_px)
    assert cells[2] * cell_px2 == pytest.approx(400 * 400, rel=0.05)
    assert cells[1] * cell_px2 == pytest.approx(500 * 500, rel=0.05)
    assert cells[0] * cell_px2 == pytest.approx(1648 * 1136 - 400 * 400 - 500 * 500, rel=0.06)


def test_a_normal_slide_is_normal_wherever_there_is_tissue(plain: LabelledSlide, config: TrainConfig) -> None:
    assert plain.unannotated == 0
    assert plain.class_cells[:, 1:].sum() == 0
    assert plain.class_cells[:, 0].all()


def test_unannotated_tissue_of_a_lesion_slide_is_left_out_when_asked(
    painted_record: SlideRecord, config: TrainConfig
) -> None:
    slide = open_labelled(painted_record, ignoring(config))
    assert slide.unannotated == IGNORED
    assert slide.class_cells[:, 0].sum() == 0
    assert slide.class_cells[:, 1:].sum() > 0


def test_unannotated_tissue_of_a_normal_slide_is_normal_even_then(plain: LabelledSlide, config: TrainConfig) -> None:
    assert open_labelled(plain.record, ignoring(config)).unannotated == 0


def test_a_lesion_slide_without_annotation_has_a_diagnosis_only(painted: Path, config: TrainConfig) -> None:
    slide = open_labelled(SlideRecord("s1", painted, "p1", "calcinosis_cutis"), config)
    assert slide.diagnosis_only
    assert slide.unannotated == IGNORED
    assert (slide.cells == IGNORED).all()
    assert not slide.class_cells.any()
    assert (slide.tissue > 0.5).any()


def test_traits_say_what_could_give_a_label_away(labelled: LabelledSlide, plain: LabelledSlide) -> None:
    assert not labelled.diagnosis_only
    assert labelled.traits.keys() == plain.traits.keys()
    assert labelled.traits["scale (µm per pixel)"] == 0.5
    assert labelled.traits["share of ink"] == 0
    assert 0 < labelled.traits["tissue area (mm²)"] < labelled.traits["scanned area (mm²)"]
    # The median over the tissue is the dermis, whatever lies in it.
    assert abs(labelled.traits["tissue colour, red"] - 225) < 12


@pytest.mark.parametrize(
    "features",
    [[], [outline("normal", BONE_BOX)]],
    ids=["empty", "normal-only"],
)
def test_a_lesion_slide_whose_annotation_holds_no_lesion_is_refused(
    features: list[object], painted: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """All of its bone would be taught as normal."""
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    with pytest.raises(UsageError, match="s1"):
        open_labelled(SlideRecord("s1", painted, "p1", "heterotopic_ossification", path), config)


@pytest.mark.parametrize("unannotated", ["normal", "ignore"])
def test_what_is_to_be_ignored_is_not_learnt_from_by_a_diagnosis_either(
    unannotated: str, painted: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Regression: bags pooled over it, and with `unannotated: normal` an artefact could not be left out at all."""
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [outline("Ignore*", BONE_BOX)]}))
    config = config.model_copy(update={"data": config.data.model_copy(update={"unannotated": unannotated})})
    bare = open_labelled(SlideRecord("s1", painted, "p1", "heterotopic_ossification"), config)
    slide = open_labelled(SlideRecord("s1", painted, "p1", "heterotopic_ossification", path), config)
    assert slide.diagnosis_only
    left, top, right, bottom = (round(v / 32) for v in BONE_BOX)  # a map cell is 32 px wide
    inside = np.s_[top + 1 : bottom - 1, left + 1 : right - 1]
    assert bare.tissue[inside].all()
    assert not slide.tissue[inside].any()
    assert 0 < slide.tissue.sum() < bare.tissue.sum()


def test_what_is_to_be_ignored_on_a_normal_slide_judges_no_epoch(
    painted: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Regression: normal bone beneath the skin, ignored, counted as normal tissue when the best epoch was chosen."""
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [outline("Ignore*", BONE_BOX)]}))
    slide = open_labelled(SlideRecord("s1", painted, "p1", "normal", path), config)
    left, top, right, bottom = (round(v / 32) for v in BONE_BOX)  # a map cell is 32 px wide
    assert not slide.tissue[top + 1 : bottom - 1, left + 1 : right - 1].any()


def test_normal_outlines_on_a_slide_whose_lesions_nobody_outlined_are_told(
    painted: Path, config: TrainConfig, tmp_path: Path
) -> None:
    """Regression: they were left out without a word."""
    (tmp_path / "a.geojson").write_text(json.dumps([outline("normal", CALCIUM_BOX)]))
    record = SlideRecord("s1", painted, "p1", "heterotopic_ossification", tmp_path / "a.geojson")
    (told,) = gaps_of(open_labelled(record, ignoring(config)))
    assert told.startswith("s1 teaches its diagnosis alone: what is outlined as normal lies")
    assert told.endswith("or is normal where no lesion is outlined")


def test_a_normal_slide_with_outlined_lesions_is_a_contradiction(
    painted: Path, annotation: Path, config: TrainConfig
) -> None:
    with pytest.raises(UsageError, match="s1"):
        open_labelled(SlideRecord("s1", painted, "p1", "normal", annotation), config)


def test_a_slide_too_coarse_for_the_model_is_refused(painted_record: SlideRecord, config: TrainConfig) -> None:
    fine = config.model_copy(update={"tile": TileConfig(size_px=256, mpp=0.25, stride_px=16, margin_px=32)})
    with pytest.raises(SlideRefused):
        open_labelled(painted_record, fine)


def test_a_diagnosis_alone_is_no_gap_and_ignore_over_all_tissue_is_one(
    painted: Path, plain: LabelledSlide, config: TrainConfig, tmp_path: Path
) -> None:
    bare = open_labelled(SlideRecord("s1", painted, "p1", "calcinosis_cutis"), config)
    assert list(gaps_of(bare)) == []
    (tmp_path / "a.geojson").write_text(json.dumps([outline("Ignore*", (0, 0, 1024, 1024))]))
    ignored = open_labelled(replace(plain.record, annotation=tmp_path / "a.geojson"), config)
    (told,) = gaps_of(ignored)
    assert told.startswith("plain teaches nothing")


def test_outlines_in_part_need_not_lead_to_the_label(painted: Path, config: TrainConfig, tmp_path: Path) -> None:
    (tmp_path / "a.geojson").write_text(json.dumps([outline("calcification", CALCIUM_BOX)]))
    record = SlideRecord("s1", painted, "p1", "heterotopic_ossification", tmp_path / "a.geojson")
    assert open_labelled(record, ignoring(config)).class_cells[:, 2].any()
    with pytest.raises(UsageError, match="which means calcinosis_cutis"):
        open_labelled(record, config)


def test_ink_is_not_learnt_from(write_tiff: Callable[..., Path], config: TrainConfig, tmp_path: Path) -> None:
    picture = np.full((1024, 1024, 3), (225, 170, 195), np.uint8)
    picture[448:576] = (20, 60, 200)
    slide = open_labelled(SlideRecord("s", write_tiff(tmp_path / "ink.svs", [picture]), "p", "normal"), config)
    assert slide.traits["share of ink"] > 0
    assert not slide.tissue[16, 2:-2].any()
    assert (slide.cells[16] == IGNORED).all()


# Decoded pixels


def test_tissue_is_kept_decoded_as_long_as_it_fits_budget_and_disk(
    labelled: LabelledSlide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    width, height = labelled.tiles.plan.size_read_px
    gb = 3e-9 * width * height * len(labelled.tiles)

    def kept(budget_gb: float, free_gb: float) -> list[bool]:
        monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free_gb * 1e9))
        return [s.decoded is not None for s in keep_decoded([labelled] * 3, tmp_path, budget_gb)]

    assert kept(2.5 * gb, 1000) == [True, True, False]
    assert kept(0, 1000) == [False] * 3
    assert kept(1000, 2 * gb) == [True, False, False], "a full disk would end the process"


def test_other_tiles_are_not_read_from_what_was_decoded_for_these(
    labelled: LabelledSlide, config: TrainConfig, tmp_path: Path
) -> None:
    (kept,) = keep_decoded([labelled], tmp_path, 1)
    assert kept.decoded is not None
    assert with_tiles(kept, config.tile.spec(), config.classes.names).decoded is None


# Drawing


def test_the_same_seed_and_epoch_draw_the_same_tiles(labelled: LabelledSlide, plain: LabelledSlide) -> None:
    slides = [labelled, plain]
    once = draw_epoch(slides, 50, 0.5, seed=3, epoch=2)
    assert once == draw_epoch(slides, 50, 0.5, seed=3, epoch=2)
    assert once != draw_epoch(slides, 50, 0.5, seed=3, epoch=3)
    assert once != draw_epoch(slides, 50, 0.5, seed=4, epoch=2)
    assert len(once) == 50
    assert len({d.seed for d in once}) > 45


def lesion_share_of(draws: list[Draw], slides: list[LabelledSlide], config: TrainConfig) -> float:
    tiles = DrawnTiles(slides, draws, config.classes.names, None)
    samples = (tiles[i] for i in range(len(tiles)))
    return float(np.mean([bool((fractions[1:].sum(axis=0) * weights).any()) for _, fractions, weights in samples]))


def test_the_lesion_share_is_that_of_tiles_with_a_lesion_in_what_is_learnt(
    labelled: LabelledSlide, plain: LabelledSlide, config: TrainConfig
) -> None:
    """Jittering a tile by up to half its side must not push a small lesion out of it."""
    draws = draw_epoch([labelled, plain], 60, 1.0, seed=0, epoch=0)
    assert lesion_share_of(draws, [labelled, plain], config) > 0.9


def test_no_lesion_share_draws_by_the_normal_tissue(
    labelled: LabelledSlide, plain: LabelledSlide, config: TrainConfig
) -> None:
    draws = draw_epoch([labelled, plain], 200, 0.0, seed=0, epoch=0)
    assert 0.35 < np.mean([d.slide for d in draws]) < 0.65


def test_lesion_classes_are_drawn_in_equal_parts(labelled: LabelledSlide) -> None:
    draws = draw_epoch([labelled], 400, 1.0, seed=0, epoch=0)
    left = np.mean([d.position_level0_px[0] + 256 < 1000 for d in draws])  # the calcium is the left one
    assert 0.4 < left < 0.6


def test_every_lesion_draw_comes_from_a_slide_that_has_one(labelled: LabelledSlide, plain: LabelledSlide) -> None:
    assert {d.slide for d in draw_epoch([plain, labelled], 60, 1.0, seed=0, epoch=0)} == {1}


def test_slides_without_any_lesion_can_still_be_drawn(plain: LabelledSlide) -> None:
    assert len(draw_epoch([plain], 10, 1.0, seed=0, epoch=0)) == 10


def test_slides_without_normal_tissue_are_drawn_by_their_lesions(
    painted_record: SlideRecord, config: TrainConfig
) -> None:
    slide = open_labelled(painted_record, ignoring(config))
    assert {d.class_index for d in draw_epoch([slide], 10, 0.0, 0, 0)} <= {1, 2}
    assert expected_cells([slide], 0.0) == pytest.approx(expected_cells([slide], 1.0))


def test_a_patient_with_many_slides_is_drawn_no_oftener(labelled: LabelledSlide, plain: LabelledSlide) -> None:
    rng = np.random.default_rng(0)
    drawn = [choose_by_patient([labelled] * 9 + [plain], range(10), rng) for _ in range(400)]
    assert 0.4 < np.mean([d == 9 for d in drawn]) < 0.6


def test_tiles_are_drawn_by_the_root_of_what_they_show(labelled: LabelledSlide) -> None:
    """By area a speck of lesion would hardly ever be learnt."""
    shown = labelled.class_cells[:, 2]
    most, least = int(np.argmax(shown)), int(np.argmin(np.where(shown > 0, shown, 10**9)))
    chances = []

    class Noted(np.random.Generator):
        def choice(self, a: Any, *rest: Any, p: Any = None, **options: Any) -> Any:
            chances.append(p)
            return super().choice(a, *rest, p=p, **options)

    _place(labelled, 2, Noted(np.random.PCG64(0)))
    assert shown[most] > 2 * shown[least]
    assert chances[0][most] / chances[0][least] == pytest.approx((shown[most] / shown[least]) ** 0.5)


def test_nothing_to_draw_is_a_usage_error(tmp_path: Path, write_tiff: Callable[..., Path], config: TrainConfig) -> None:
    path = write_tiff(tmp_path / "white.svs", [np.full((512, 512, 3), 244, np.uint8)])
    empty = open_labelled(SlideRecord("white", path, "p", "normal"), config)
    assert len(empty.tiles) == 0
    with pytest.raises(UsageError):
        draw_epoch([empty], 10, 0.5, 0, 0)


def test_a_slide_without_tissue_is_left_out(
    tmp_path: Path, write_tiff: Callable[..., Path], config: TrainConfig, labelled: LabelledSlide
) -> None:
    path = write_tiff(tmp_path / "white.svs", [np.full((512, 512, 3), 244, np.uint8)])
    empty = open_labelled(SlideRecord("white", path, "p", "normal"), config)
    assert {d.slide for d in draw_epoch([empty, labelled], 50, 0.5, 0, 0)} == {1}


# Samples


def test_pictures_and_labels_lie_on_each_other(labelled: LabelledSlide, config: TrainConfig) -> None:
    """The painted deposits are told by colour, the labels come from the outlines."""
    tiles = DrawnTiles([labelled], draw_epoch([labelled], 12, 1.0, 0, 0), config.classes.names, None)
    for i in range(len(tiles)):
        rgb, fractions, weights = tiles[i]
        assert rgb.shape == (256, 256, 3)
        assert fractions.shape == (3, 16, 16)
        assert weights.shape == (16, 16)
        dark = (rgb.astype(int).sum(axis=-1) < 300).reshape(16, 16, 16, 16).mean(axis=(1, 3))
        assert np.abs(dark - fractions[2]).max() < 0.2


def test_the_margin_weighs_nothing(labelled: LabelledSlide, config: TrainConfig) -> None:
    x, y = CALCIUM_BOX[:2]
    tiles = DrawnTiles([labelled], [Draw(0, (x, y), 0)], config.classes.names, None)
    weights = tiles[0][2]
    assert not weights[:2].any()
    assert not weights[-2:].any()
    assert not weights[:, :2].any()
    assert not weights[:, -2:].any()
    assert (weights[2:-2, 2:-2] == 1).all()


def test_a_tile_that_cannot_be_read_is_white_and_weighs_nothing(
    tmp_path: Path,
    write_tiff: Callable[..., Path],
    paint_slide: Callable[..., Rgb],
    annotation: Path,
    config: TrainConfig,
) -> None:
    path = write_tiff(tmp_path / "bad.svs", [paint_slide()], faults={0: GARBAGE, 9: GARBAGE})
    slide = open_labelled(SlideRecord("bad", path, "p", "heterotopic_ossification", annotation), config)

    def upside_down(rgb: Rgb, labels: Rgb, seed: int) -> tuple[Rgb, Rgb]:
        return rgb[::-1], labels[::-1]

    draws = [Draw(0, (0, 0), 0), Draw(0, (1100, 700), 0)]
    for augment in (None, upside_down):
        tiles = DrawnTiles([slide], draws, config.classes.names, augment)
        rgb, fractions, weights = tiles[0]
        assert (rgb == 255).all()
        assert not weights.any()
        assert not fractions.any()
        rgb, fractions, weights = tiles[1]
        assert weights.any()
        assert not (rgb == 255).all()


def test_augmentation_gets_the_draw_s_seed_and_moves_the_labels(labelled: LabelledSlide, config: TrainConfig) -> None:
    seeds = []

    def mirror(rgb: Rgb, labels: Rgb, seed: int) -> tuple[Rgb, Rgb]:
        seeds.append(seed)
        return rgb[:, ::-1], labels[:, ::-1]

    draw = Draw(0, (600, 400), 77)
    plain = DrawnTiles([labelled], [draw], config.classes.names, None)[0]
    mirrored = DrawnTiles([labelled], [draw], config.classes.names, mirror)[0]
    assert seeds == [77]
    for one, two in zip(plain[1:], mirrored[1:], strict=True):
        assert np.allclose(one[..., ::-1], two)
    assert (plain[0][:, ::-1] == mirrored[0]).all()
    assert mirrored[0].flags.c_contiguous


def test_training_and_inference_normalise_a_slide_alike(phantoms, shipped_config):
    record = SlideRecord("one", phantoms["calcinosis_cutis"].slide, "p1", "calcinosis_cutis")
    learnt = open_labelled(record, shipped_config()).stain_norm
    shown = open_for(record.path, load_bundle(SHIPPED, lazy=True)).laid.stain_norm
    assert learnt.haematoxylin is not None
    assert learnt.used == shown.used
