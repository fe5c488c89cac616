from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from histo.data.sampling import DrawnTiles, draw_epoch, open_labelled, with_tiles
from histo.errors import UsageError
from histo.geometry import MapGrid, TileSpec
from histo.infer import predict_slide
from histo.learning import screen_threshold
from histo.learning.objective import one_cycle
from histo.learning.screen_bundle import config_of, screen_bundle
from histo.learning.screen_threshold import Stake, choose_threshold, finer, measure, stake_of
from histo.learning.screen_tiles import ScreenTiles
from histo.learning.screening import add_screen, parts_of, screen_loss, start_from
from histo.models.bundle import SHIPPED, load_bundle
from histo.models.classifier import TileClassifier
from histo.statistics import share_by_group


@st.composite
def slides_at_stake(draw):
    stakes, scores = [], []
    for number in range(draw(st.integers(1, 4))):
        n = draw(st.integers(1, 12))
        lesion = np.array(draw(st.lists(st.sampled_from([0, 0, 0.001, 0.01, 0.2]), min_size=n, max_size=n)), float)
        under = draw(st.lists(st.lists(st.integers(0, n - 1), min_size=1, max_size=3), max_size=3))
        deposits = dict(enumerate(np.array(u, np.int64) for u in under))
        stakes.append(Stake(f"s{number}", f"p{number % 2}", np.full(n, 0.2), lesion, deposits))
        scores.append(np.array(draw(st.lists(st.floats(0, 1, width=32), min_size=n, max_size=n)), np.float32))
    return stakes, scores


@given(slides_at_stake(), st.sampled_from([0.0, 0.005, 0.1, 1.0]))
def test_a_threshold_misses_no_deposit_and_little_area_and_is_no_lower_than_it_must(drawn, most):
    stakes, scores = drawn
    threshold = choose_threshold(stakes, scores, most)
    missed = measure(stakes, scores, threshold, 0)
    assert missed.missed_share <= most + 1e-9
    assert missed.deposits_missed == 0
    higher = measure(stakes, scores, threshold + 0.0021, 0)
    assert threshold > 0.99 or higher.missed_share > most or higher.deposits_missed or not any(
        s.lesion_mm2.any() or s.deposits for s in stakes
    )  # fmt: skip


def test_what_is_missed_is_counted_by_area_and_by_deposit():
    stakes = [
        Stake("s", "a", np.array([0.2, 0.2]), np.array([0.1, 0.0]), {0: np.array([0])}),
        Stake("t", "b", np.array([0.2, 0.2]), np.array([0.1, 0.2]), {0: np.array([0]), 1: np.array([0, 1])}),
    ]
    missed = measure(stakes, [np.array([0.9, 0.1]), np.array([0.3, 0.6])], 0.5, 0)
    assert missed.missed_share == pytest.approx(0.25)
    assert (missed.deposits, missed.deposits_missed) == (3, 1)
    assert missed.shown_share == pytest.approx(0.5)
    assert missed.missed_share_interval == pytest.approx((0, 1 / 3))
    assert missed.patients == 2


def test_a_share_that_rounding_lifts_above_one_is_one():
    """Regression: sums in another order made a share of 1.0000000000000002, which no card accepts."""
    lesion = np.array([0, 0, 0, 0.01, 0.01, 0, 0.001, 0])
    stake = Stake("s", "p", np.full(8, 0.2), lesion, {})
    missed = measure([stake], [np.zeros(8)], 0.5, 0)
    assert (missed.missed_share, missed.missed_share_interval) == (1, (1, 1))


def test_a_deposit_in_several_views_counts_once():
    """Regression: one deposit in four stains was four deposits, and its interval far too narrow."""
    views = [Stake("s", "a", np.array([0.2]), np.array([0.1]), {0: np.array([0])})] * 4
    missed = measure(views, [np.array([score]) for score in (0.9, 0.1, 0.9, 0.9)], 0.5, 0)
    assert (missed.slides, missed.views, missed.deposits, missed.deposits_missed) == (1, 4, 1, 1)
    assert missed.deposits_missed_interval == pytest.approx((0.025, 1))


def test_a_share_is_resampled_by_group():
    part, whole = np.array([1.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0])
    assert share_by_group(part, whole, ["a", "a", "a"], 50, 0) == pytest.approx((1 / 3, 1 / 3))
    low, high = share_by_group(part, whole, ["a", "b", "c"], 2000, 0)
    assert (low, high) == pytest.approx((0, 1), abs=0.34)
    assert share_by_group(part * 0, whole * 0, ["a", "b", "c"], 50, 0) == (0, 1)


def test_nothing_lost_of_few_patients_is_no_certainty():
    """Regression: a screen that lost nothing on three patients was said to lose 0.00 to 0.00 %."""
    low, high = share_by_group(np.zeros(4), np.array([1.0, 1, 1, 0]), ["a", "b", "c", "d"], 50, 0)
    assert (low, high) == (0, pytest.approx(0.7076, abs=1e-3))


def test_outlines_stand_on_the_tiles_that_they_lie_on(labelled, small_training, monkeypatch):
    monkeypatch.setattr(screen_threshold, "DEPOSIT_UM", 190.0)  # it measures 195
    config = small_training()
    slide = labelled[4]
    stake = stake_of(
        with_tiles(slide, config.tile.spec(), config.classes.names), config.classes, np.ones(slide.cells.shape, bool)
    )
    outline = slide.outlines["calcification"][0]
    (left, top), (right, bottom) = outline.box  # a rectangle is outlined
    area_mm2 = (right - left) * (bottom - top) * slide.slide.pyramid.pixel_mm2
    assert stake.lesion_mm2.sum() == pytest.approx(area_mm2, rel=0.05)
    assert len(stake.deposits) == 1
    assert set(np.flatnonzero(stake.lesion_mm2 > 0.002)) <= set(stake.deposits[0].tolist())
    assert stake.tissue_mm2.sum() == pytest.approx(slide.tissue.sum() * slide.tiles.map_grid.cell_mm2, rel=1e-4)


def test_only_what_the_network_finds_is_at_stake_and_a_deposit_stands_on_all_its_tiles(
    labelled, small_training, monkeypatch
):
    monkeypatch.setattr(screen_threshold, "DEPOSIT_UM", 190.0)
    config = small_training()
    slide = with_tiles(labelled[4], config.tile.spec(), config.classes.names)

    def at_stake(found):
        return stake_of(slide, config.classes, found)

    every = at_stake(np.ones(slide.tissue.shape, bool))
    _, columns = np.nonzero(slide.cells == config.classes.names.index("calcification"))
    left = np.ones(slide.tissue.shape, bool)
    left[:, (columns.min() + columns.max()) // 2 :] = False
    part, none = at_stake(left), at_stake(~np.ones(slide.tissue.shape, bool))
    assert 0.3 < part.lesion_mm2.sum() / every.lesion_mm2.sum() < 0.7
    assert part.deposits[0].tolist() == every.deposits[0].tolist()
    assert len(every.deposits[0]) > 1
    assert (none.lesion_mm2.sum(), dict(none.deposits)) == (0, {})
    np.testing.assert_array_equal(none.tissue_mm2, every.tissue_mm2)


def test_a_finer_lattice_has_the_same_corner_and_sides():
    assert finer(MapGrid((1.0, 2.0), (8.0, 4.0), (3, 5), (16.0, 12.0))) == MapGrid(
        (1.0, 2.0), (2.0, 1.0), (12, 20), (4.0, 3.0)
    )


def test_a_threshold_lies_a_step_below_the_score_that_must_be_shown():
    stake = Stake("s", "p", np.array([0.2, 0.2]), np.zeros(2), {0: np.array([0, 1])})
    assert choose_threshold([stake], [np.array([0.25, 0.5])], 0.0) == pytest.approx(0.499, abs=1e-9)


def test_a_slide_laid_anew_is_the_slide_opened_so(labelled, small_training):
    config = small_training("tile={size_px: 96, mpp: 2.0, stride_px: 16, margin_px: 0}")
    opened = open_labelled(labelled[4].record, config)
    laid = with_tiles(labelled[4], TileSpec(96, 2.0, 16, 0), config.classes.names)
    assert laid.cells.shape == opened.cells.shape
    assert (laid.cells == opened.cells).mean() > 0.97  # cells with a trace of tissue may differ
    np.testing.assert_allclose(laid.tissue, opened.tissue, atol=0.26)
    assert laid.tissue.mean() == pytest.approx(opened.tissue.mean(), rel=0.01)
    assert laid.decoded is None


def test_tiles_of_a_screen_are_those_of_training_but_for_a_pixel(labelled, small_training, tmp_path):
    names = small_training().classes.names
    slides = [with_tiles(s, TileSpec(160, 4.0, 8, 24), names) for s in labelled[4:6]]
    draws = draw_epoch(slides, 6, 0.5, 3, 0)
    ours, theirs = ScreenTiles(slides, draws, names, None, tmp_path), DrawnTiles(slides, draws, names, None)
    assert len(ours) == len(theirs) == 6
    for index in range(6):
        (rgb, fractions, weights), (wanted_rgb, wanted, wanted_weights) = ours[index], theirs[index]
        np.testing.assert_array_equal(rgb, wanted_rgb)
        np.testing.assert_array_equal(weights > 0, wanted_weights > 0)
        np.testing.assert_allclose(fractions, wanted, atol=0.26)  # half a pixel of 8, twice
        assert fractions.shape == (3, 20, 20)
    assert not list(tmp_path.iterdir())


def test_tiles_are_divided_only_where_no_score_needs_the_whole_tile(small_training):
    shipped = load_bundle(SHIPPED)
    assert parts_of(shipped) == 2
    torch.manual_seed(0)
    network = TileClassifier("mobilenet_v3_small", 3, 16, (0.8, 0.65, 0.77), (0.18, 0.24, 0.18)).eval()
    assert parts_of(SimpleNamespace(card=shipped.card, network=network)) == 1


def test_a_screen_starts_from_what_the_network_knows():
    torch.manual_seed(0)
    network, screen = (TileClassifier("compact", 3, stride, (0, 0, 0), (1, 1, 1)) for stride in (16, 8))
    assert start_from(screen, network)
    theirs = network.trunk.state_dict()
    for name, values in screen.trunk.state_dict().items():
        assert torch.equal(values, theirs[name])
    other = TileClassifier("resnet18", 3, 16, (0, 0, 0), (1, 1, 1))
    kept = {name: values.clone() for name, values in screen.trunk.state_dict().items()}
    assert not start_from(screen, other)
    assert all(torch.equal(values, kept[name]) for name, values in screen.trunk.state_dict().items())


def test_a_cell_with_a_lesion_weighs_more():
    logits = torch.zeros(1, 2, 1, 2)
    logits[0, 1, 0, 0] = -3.0  # a lesion not seen
    fractions = torch.tensor([[[[0.5, 1.0]], [[0.5, 0.0]]]])
    weights = torch.ones(1, 1, 2)
    light, heavy = (float(screen_loss(logits, fractions, weights, w)) for w in (1.0, 9.0))
    assert heavy > light > 0
    assert float(screen_loss(logits, fractions, weights * 0, 4.0)) == 0


def test_a_screen_learns_what_colour_tells(labelled, small_training, colour_model, tmp_path, painted):
    """From nine painted slides to a bundle whose screen mode finds what full mode finds."""
    config = small_training(
        "screen={enabled: true, steps: 60, batch_size: 4, stains: 1, learning_rate: 4e-3}",
        "augment={stain: 0.1, rescan: 0}",
    )
    said = []
    missed = add_screen(colour_model, tmp_path / "bundle", config, labelled[:6], labelled[6:], said.append)
    assert missed.missed_share <= 0.005
    assert missed.lesion_mm2 > 0.03
    model = load_bundle(tmp_path / "bundle")
    assert model.card.screen.missed == missed
    assert said[-1] == model.card.screen.fitted_on
    full, coarse = (predict_slide(painted, model, mode=mode).result for mode in ("full", "screen"))
    assert (coarse.verdict.label, coarse.verdict.also) == (full.verdict.label, full.verdict.also)
    assert [x.name for x in coarse.lesions] == [x.name for x in full.lesions]


def test_a_model_that_has_no_screen_is_given_one(colour_bundle, painted_cohort, tmp_path):
    lines = painted_cohort.read_text().splitlines()
    sides = dict.fromkeys(("s0", "s2", "s4", "s6"), "train") | dict.fromkeys(("s3", "s5", "s7", "s8"), "validation")
    rows = [line.replace(f",{name}.", f",{painted_cohort.parent / name}.") + f",{sides[name]}"
            for line in lines[1:] if (name := line.split(",")[0]) in sides]  # fmt: skip
    manifest, said = tmp_path / "slides.csv", []
    manifest.write_text("\n".join([lines[0] + ",split", *(r for r in rows if not r.startswith("s5"))]))
    screen_bundle(colour_bundle, manifest, tmp_path / "new" / "bundle", steps=2, say=said.append)
    model, old = load_bundle(tmp_path / "new" / "bundle"), load_bundle(colour_bundle)
    assert said[0].startswith("4 slides to train the screen on, 3 to choose")
    assert len(model.card.training["learnt_from"]["slides_sha256"]) == 7, "nobody may judge it by them"
    assert (model.card.screen.missed.slides, model.card.screen.missed.views) == (2, 2 * 4)
    assert {k: v for k, v in model.card.training.items() if k not in ("learnt_from", "screen")} == old.card.training
    assert model.card.training["screen"]["steps"] == 2  # Bug: the card went on to tell of the main training's
    assert model.card.golden == old.card.golden
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["bundle"]
    manifest.write_text("\n".join([lines[0] + ",split", *(r for r in rows if not r.startswith("s8"))]))
    with pytest.raises(UsageError, match="outlines no lesion"):
        screen_bundle(colour_bundle, manifest, tmp_path / "none", steps=2)
    assert not (tmp_path / "none").exists()


def test_a_model_in_the_way_is_not_overwritten(colour_bundle, painted_cohort, tmp_path):
    # Bug: `histo screen --out` put the new bundle in the place of any other.
    before = {f.name: f.read_bytes() for f in colour_bundle.iterdir()}
    with pytest.raises(UsageError, match="holds a model already and is not overwritten"):
        screen_bundle(colour_bundle, painted_cohort, colour_bundle, steps=2)
    assert {f.name: f.read_bytes() for f in colour_bundle.iterdir()} == before


@pytest.mark.parametrize("steps", range(1, 9))
def test_a_cycle_of_any_length_can_be_stepped_to_its_end(steps):
    # Bug: one of five steps ended in a division by zero.
    adam = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    cycle = one_cycle(adam, 1e-3, steps)
    for _ in range(steps):
        adam.step()
        cycle.step()
    assert 0 <= cycle.get_last_lr()[0] < 1e-3


def test_without_outlines_there_is_no_screen(labelled, small_training, colour_model, tmp_path):
    config, said = small_training("screen={enabled: true, steps: 1}"), []
    bare = [replace(s, diagnosis_only=True) for s in labelled]
    assert add_screen(colour_model, tmp_path / "bundle", config, labelled, bare, said.append) is None
    assert said[0].startswith("no screen")
    assert not (tmp_path / "bundle").exists()


def test_where_the_network_finds_nothing_there_is_no_screen(
    labelled, small_training, colour_model, tmp_path, monkeypatch
):
    """Regression: it got one that passes over all tissue, and said that 0.00 % of 0.00 mm² is missed."""
    monkeypatch.setattr(
        "histo.learning.screening.found_by", lambda model, slide, look: np.zeros(slide.tissue.shape, bool)
    )
    config, said = small_training("screen={enabled: true, steps: 1, stains: 0}"), []
    assert add_screen(colour_model, tmp_path / "bundle", config, labelled, labelled, said.append) is None
    assert said[-1].startswith("no screen: the network finds no lesion")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_tells_how_its_screen_is_to_be_trained(colour_model, painted_cohort):
    config = config_of(colour_model.card, painted_cohort, 7)
    assert (config.screen.enabled, config.screen.steps) == (True, 7)
    assert config.classes == colour_model.card.classes
    assert config.tile == colour_model.card.tile
