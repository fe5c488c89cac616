from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from histo.data.labels import IGNORED
from histo.data.sampling import Draw, choose_by_patient
from histo.data.transforms import build_augmentation
from histo.errors import SlideFailed, UsageError
from histo.learning.bags import (
    LABELLED,
    BagTile,
    Found,
    StepTiles,
    _draw_bag,
    _without_repeats,
    draw_steps,
    read_bag_tile,
)

NOTHING = Found({}, {}, {})


def test_a_step_holds_labelled_tiles_and_then_bags_of_one_slide(labelled, small_training):
    config = small_training("weak={bag_tiles: 3, bags_per_step: 2}")
    steps = draw_steps(labelled, config, 0, NOTHING)
    assert len(steps) == 2
    for step in steps:
        assert [isinstance(t, Draw) for t in step] == [True] * 6 + [False] * 6
        assert len({t.slide for t in step[6:9]}) == len({t.slide for t in step[9:]}) == 1
        assert all(labelled[t.slide].diagnosis_only for t in step[6:])
    assert draw_steps(labelled, config, 0, NOTHING) == steps != draw_steps(labelled, config, 1, NOTHING)
    assert draw_steps(labelled, config, 0, NOTHING, (1, 2)) != draw_steps(labelled, config, 0, NOTHING, (0, 2))
    only = draw_steps(labelled, small_training("loss.slide_weight=0"), 0, NOTHING)
    assert all(isinstance(t, Draw) for step in only for t in step)


def test_both_diagnoses_are_drawn_alike_often(labelled, small_training):
    config = small_training("data.tiles_per_epoch=1200")
    drawn = Counter(labelled[step[6].slide].record.label for step in draw_steps(labelled, config, 0, NOTHING))
    assert min(drawn.values()) > 0.4 * sum(drawn.values())


def test_patients_are_drawn_alike_often_however_many_slides_they_have(labelled):
    one, *others = labelled[:4]
    twin = [replace(s, record=replace(s.record, patient="twin")) for s in others]
    rng = np.random.default_rng(0)
    drawn = Counter(choose_by_patient([one, *twin], [0, 1, 2, 3], rng) for _ in range(2000))
    assert 900 < drawn[0] < 1100


def test_strong_tiles_and_false_positives_are_drawn_in_their_share(labelled, small_training):
    weak = next(s for s, slide in enumerate(labelled) if slide.diagnosis_only)
    config = small_training("data.tiles_per_epoch=600", "mining={every_epochs: 1, share: 0.5}", "data.lesion_share=0")
    spot = np.array([[12, 12]])
    found = Found({0: spot}, {}, {weak: spot})
    steps = draw_steps(labelled, config, 1, found)
    near = [_holds(labelled, t, (12, 12)) for step in steps for t in step if isinstance(t, Draw) and t.slide == 0]
    spread = [
        _holds(labelled, t, (12, 12)) for s in draw_steps(labelled, config, 1, NOTHING) for t in s if t.slide == 0
    ]
    assert len(near) > 1.5 * len(spread)
    assert np.mean(near) > np.mean(spread)
    bag = [t for step in steps for t in step if isinstance(t, BagTile) and t.slide == weak]
    reach = labelled[weak].tiles.spec.kept_cells // 3
    close = [max(abs(t.cell_map_px[0] - 12), abs(t.cell_map_px[1] - 12)) <= reach for t in bag]
    assert np.mean(close) > 0.5


def test_missed_lesions_are_shown_in_place_of_lesions_and_mistakes_in_place_of_other_tissue(labelled, small_training):
    config = small_training("data.tiles_per_epoch=240", "mining={every_epochs: 1, share: 0.25}", "data.lesion_share=1")
    spot = np.array([[12, 12]])
    assert labelled[0].record.label == "normal", "no lesion is drawn of it otherwise"

    def of_the_normal(found):
        return [
            t for step in draw_steps(labelled, config, 1, found) for t in step if isinstance(t, Draw) and not t.slide
        ]

    assert of_the_normal(Found({0: spot}, {}, {})) == of_the_normal(NOTHING) == []
    shown = of_the_normal(Found({}, {0: spot}, {}))
    assert 40 <= len(shown) <= 80
    assert all(t.class_index > 0 and _holds(labelled, t, (12, 12)) for t in shown)


def test_several_processes_share_the_steps_of_an_epoch(labelled, small_training):
    """Twelve tiles in steps of six."""
    config = small_training()
    assert [len(draw_steps(labelled, config, 0, NOTHING, (0, parts))) for parts in (1, 2)] == [2, 1]


def test_tiles_that_fill_no_step_are_left_out(labelled, small_training):
    steps = draw_steps(labelled, small_training("data.tiles_per_epoch=17"), 0, NOTHING)
    assert [sum(isinstance(t, Draw) for t in step) for step in steps] == [6, 6]


def test_a_bag_holds_its_share_of_strongest_tiles_each_moved_by_up_to_a_third(labelled, small_training):
    config = small_training("weak={bag_tiles: 8, strongest_share: 0.25}")
    s = next(s for s, slide in enumerate(labelled) if slide.diagnosis_only)
    far, rng = 1000, np.random.default_rng(0)  # a cell that no other tile is near
    weak = {s: np.ones(len(labelled[s].tiles))}
    moves = []
    for _ in range(100):
        bag = _draw_bag(labelled, weak, config, {s: np.array([[far, far]])}, rng)
        assert len(bag) == 8
        moves.append([np.subtract(t.cell_map_px, far) for t in bag if min(t.cell_map_px) > far // 2])
    assert {len(moved) for moved in moves} == {2}
    reach = labelled[s].tiles.spec.kept_cells // 3
    assert reach == 1
    assert {int(v) for v in np.ravel(moves)} == {-1, 0, 1}


def test_the_other_tiles_of_a_bag_are_drawn_by_their_tissue(labelled, small_training):
    config = small_training("weak={bag_tiles: 1}")
    s = next(s for s, slide in enumerate(labelled) if slide.diagnosis_only)
    tiles = labelled[s].tiles
    tissue = np.zeros(len(tiles))
    tissue[-1] = 0.25
    rng = np.random.default_rng(0)
    cells = [t.cell_map_px for _ in range(20) for t in _draw_bag(labelled, {s: tissue}, config, {}, rng)]
    assert len(tiles) > 5
    assert np.abs(np.subtract(cells, tiles.cells_map_px[-1])).max() <= tiles.spec.kept_cells // 3


def test_none_is_drawn_twice_before_all_were_taken():
    picks = _without_repeats(np.array([8.0, 1.0, 1.0, 1.0, 1.0]), 12, np.random.default_rng(0))
    assert set(picks[:5]) == set(picks[5:10]) == set(range(5))
    assert len(picks) == 12
    assert _without_repeats(np.array([0.0, 0.0, 0.5, 0.0]), 1, np.random.default_rng(0)) == [2]


def _holds(slides, draw, cell):
    """Tell whether a tile learns a map cell."""
    tiles = slides[draw.slide].tiles
    column, row = tiles.map_grid.to_map_px(np.array([draw.position_level0_px], float))[0] + tiles.spec.margin_cells
    kept = tiles.spec.kept_cells
    return bool(row - 1 <= cell[0] <= row + kept and column - 1 <= cell[1] <= column + kept)


def test_without_any_label_nothing_can_be_drawn(labelled, small_training):
    weak = [s for s in labelled if s.diagnosis_only]
    with pytest.raises(UsageError, match="no slide shows labelled tissue"):
        draw_steps(weak, small_training(), 0, NOTHING)


@pytest.mark.parametrize("cell", [(12, 12), (-5, -5), (27, 35), (2, 30)])
def test_a_bag_tile_knows_its_tissue_where_the_picture_shows_it(labelled, cell):
    rgb, labels = read_bag_tile(labelled[1], cell)
    spec = labelled[1].tiles.spec
    assert rgb.shape == (spec.size_px, spec.size_px, 3)
    dark = rgb.mean(axis=-1) < 225
    tissue = labels == 0
    assert (dark == tissue).mean() > 0.93  # tissue comes by whole cells of 16 px
    assert set(np.unique(labels)) <= {0, IGNORED}


def test_a_cell_of_a_bag_tile_is_tissue_where_more_than_half_of_it_is(labelled):
    tissue = np.full(labelled[1].tissue.shape, 0.5, np.float32)
    tissue[14:, 12] = 0.51
    labels = read_bag_tile(replace(labelled[1], tissue=tissue), (12, 11))[1]
    spec = labelled[1].tiles.spec
    wanted = np.zeros((spec.map_cells, spec.map_cells), bool)
    wanted[spec.margin_cells + 2 :, spec.margin_cells + 1] = True  # the first cell beyond the margin is (12, 11)
    np.testing.assert_array_equal(labels[:: spec.stride_px, :: spec.stride_px] == 0, wanted)


def test_augmentation_moves_tissue_with_the_picture(labelled, small_training):
    config = small_training("augment={stain: 0, light: 0, scale: 0, blur: 0, noise: 0, jpeg: 0}")
    tiles = [BagTile(1, (5, 5), seed) for seed in range(6)]
    turned = StepTiles(labelled, tiles, config.classes.names, build_augmentation(config.augment))
    seen = set()
    for rgb, fractions, weights, number in (turned[i] for i in range(len(turned))):
        assert number == 1
        assert fractions.shape[0] == 3
        assert not fractions.any()
        cells = rgb.reshape(8, 16, 8, 16, 3).mean(axis=(1, 3, 4)) < 225
        inner = np.s_[2:6, 2:6]
        assert (cells[inner] == (weights[inner] > 0.5)).mean() > 0.8
        assert not weights[:2].any()
        seen.add(rgb.tobytes())
    assert len(seen) > 1


def test_labelled_tiles_are_those_of_drawn_tiles(labelled, small_training):
    config = small_training()
    step = draw_steps(labelled, config, 0, NOTHING)[0]
    samples = StepTiles(labelled, step, config.classes.names, None)
    assert len(samples) == len(step)
    numbers = [samples[i][3] for i in range(len(samples))]
    assert numbers == [LABELLED] * 6 + [step[6].slide] * 3
    assert all(samples[i][2].any() for i in range(6))


def test_a_bag_tile_that_cannot_be_read_teaches_nothing(labelled, monkeypatch):
    def broken(*arguments):
        raise SlideFailed("unreadable", "broken")

    monkeypatch.setattr("histo.data.slide.Slide.read_tile", broken)
    rgb, labels = read_bag_tile(labelled[1], (5, 5))
    assert (rgb == 255).all()
    assert (labels == IGNORED).all()
