"""Coarse to fine: what is skipped is accounted for, what is shown is scored as in full mode."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histo.archive.examine import RunOptions
from histo.archive.local import run_slides
from histo.data.records import SlideRecord
from histo.errors import SlideFailed, UsageError
from histo.export.report import write_report
from histo.export.tables import write_slides
from histo.geometry import Pyramid, TileGrid, TileSpec, lay_tiles
from histo.infer import load_model, predict_slide
from histo.judging import Judge
from histo.models.bundle import Model, load_bundle
from histo.models.conformal import Conformal, LabelBound
from histo.models.engine import Engines, Seen
from histo.models.slide_scores import EVIDENCE, SlideCalibration
from histo.models.stitching import Stitcher
from histo.opening import open_for
from histo.reference import fit_reference, put
from histo.scoring import Pace
from histo.screening import Screening
from histo.timing import Timings


@pytest.fixture(params=[1, 2])
def screened(screened_bundle: Path, request: pytest.FixtureRequest) -> Model:
    """A model whose tiles are shown whole, or in two by two windows."""
    model = load_bundle(screened_bundle)
    screen = model.card.screen.model_copy(update={"parts": request.param})
    return replace(model, card=model.card.model_copy(update={"screen": screen}))


def test_what_is_shown_has_the_numbers_of_full_mode_and_the_rest_is_screened(painted, screened):
    full, coarse = (predict_slide(painted, screened, mode=mode) for mode in ("full", "screen"))
    areas = coarse.result.areas
    assert areas.screened_mm2 > 0.1 * areas.tissue_mm2
    assert areas.unreadable_mm2 == 0
    parts = areas.scored_mm2 + areas.unreadable_mm2 + areas.excluded_mm2 + areas.screened_mm2
    assert areas.tissue_mm2 == pytest.approx(parts, abs=1e-9)
    assert areas.tissue_mm2 == pytest.approx(full.result.areas.tissue_mm2, rel=1e-6)
    seen = coarse.slide_map.valid
    np.testing.assert_array_equal(coarse.slide_map.probability[:, seen], full.slide_map.probability[:, seen])
    assert not coarse.slide_map.probability[:, ~seen].any()
    assert not (coarse.slide_map.screened & seen).any()
    assert coarse.result.verdict == full.result.verdict
    nameless = [[replace(lesion, lesion_id="") for lesion in p.result.lesions] for p in (coarse, full)]
    assert nameless[0] == nameless[1]  # an id hangs on the mode, too
    assert full.result.areas.screened_mm2 == 0
    assert full.slide_map.screened is None


def test_the_mode_is_one_of_the_settings(painted, screened):
    full, coarse = (predict_slide(painted, screened, mode=mode).result.provenance for mode in ("full", "screen"))
    assert (full.settings["mode"], coarse.settings["mode"]) == ("full", "screen")
    assert full.settings_digest != coarse.settings_digest


def test_a_slide_without_anything_to_look_at_is_normal_and_wholly_screened(write_tiff, tmp_path, screened):
    image = np.full((1536, 2048, 3), (244, 243, 245), np.uint8)
    image[200:1300, 200:1800] = (225, 170, 195)
    prediction = predict_slide(write_tiff(tmp_path / "plain.svs", [image]), screened, mode="screen")
    result = prediction.result
    assert (result.status, result.verdict.label, result.lesions) == ("done", "normal", ())
    assert result.areas.scored_mm2 == 0
    assert result.areas.screened_mm2 == pytest.approx(result.areas.tissue_mm2)
    assert prediction.evidence == ()
    write_report(prediction, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    # Regression: the less the network saw, the surer the report was, up to "> 0.99" of a slide that it never saw.
    assert "Probability not measured: nothing was scored." in page
    assert "<h2>Diagnoses</h2>" not in page
    write_slides([result], tmp_path / "slides.csv", {})
    (row,) = csv.DictReader((tmp_path / "slides.csv").read_text(encoding="utf-8").splitlines())
    assert (row["verdict"], row["prob_normal"], row["prob_any_bone"]) == ("normal", "", "")


def test_no_set_of_diagnoses_is_certified_where_not_everything_was_looked_at(painted, screened):
    """Regression: sets that were calibrated in full mode stood as certified beside slides that were screened."""
    bound = LabelBound(patients=20, level=0.95, largest_score=0.9)
    sets = Conformal(wanted=0.95, labels=dict.fromkeys(screened.card.classes.labels, bound))
    curve = SlideCalibration(evidence=EVIDENCE, source="test", slides=1, patients=1, classes={})
    calibration = screened.card.calibration.model_copy(update={"slides": curve, "conformal": sets})
    model = replace(screened, card=screened.card.model_copy(update={"calibration": calibration}))
    full, coarse = (predict_slide(painted, model, mode=mode).result.verdict for mode in ("full", "screen"))
    assert (full.level, coarse.level) == (0.95, None)
    # What speaks for a review in full mode does in screen mode.
    tight = sets.model_copy(
        update={"labels": {name: bound.model_copy(update={"largest_score": 0.0}) for name in sets.labels}}
    )
    doubtful = replace(
        model, card=model.card.model_copy(update={"calibration": calibration.model_copy(update={"conformal": tight})})
    )
    for mode in ("full", "screen"):
        codes = {reason.code for reason in predict_slide(painted, doubtful, mode=mode).result.reasons}
        assert "no_diagnosis" in codes


def test_what_the_screen_cannot_read_is_left_to_the_network(paint_slide, write_tiff, tmp_path, screened):
    """A damaged spot of plain dermis is unreadable, never screened."""
    path = write_tiff(tmp_path / "hurt.svs", [paint_slide()], faults={8 + 6: b"\xff\xd8garbage"})
    patient = screened.card.rule.model_copy(update={"max_unreadable_share": 0.9})
    model = replace(screened, card=screened.card.model_copy(update={"rule": patient}))
    full, coarse = (predict_slide(path, model, mode=mode).result.areas for mode in ("full", "screen"))
    assert full.unreadable_mm2 > 0
    if screened.card.screen.parts == 1:
        assert coarse.unreadable_mm2 == pytest.approx(full.unreadable_mm2)
    else:  # a damaged block costs the windows that need it
        assert 0 < coarse.unreadable_mm2 < full.unreadable_mm2
    assert coarse.screened_mm2 > 0


def test_a_model_without_a_screen_refuses_to_screen(painted, colour_model, tmp_path):
    with pytest.raises(UsageError, match=r"mean-colour has no screen.*--mode full"):
        predict_slide(painted, colour_model, mode="screen")
    with pytest.raises(UsageError, match="has no screen"):
        run_slides([painted], tmp_path / "out", colour_model, RunOptions(mode="screen"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(UsageError, match="'fast' is not a mode; use full or screen"):
        predict_slide(painted, colour_model, mode="fast")


def test_a_run_in_another_mode_computes_anew_and_says_its_mode(painted, screened_bundle, tmp_path):
    folder, out = tmp_path / "slides", tmp_path / "out"
    folder.mkdir()
    shutil.copy(painted, folder / "a.svs")
    model, kept = load_model(screened_bundle, lazy=True), []
    for mode in ("full", "screen", "screen"):
        run_slides(
            [folder], out, model, RunOptions(mode=mode, profile=True), on_step=lambda step: kept.append(step.kept)
        )
    assert kept == [False, False, True]
    header, row = (line.split(",") for line in (out / "slides.csv").read_text().splitlines()[:2])
    assert row[header.index("mode")] == "screen"
    assert float(row[header.index("screened_mm2")]) > 0
    assert "Coarse look only (screened)" in (out / "slides" / "a" / "report.html").read_text(encoding="utf-8")
    assert "Fitted on nothing: a test." in (out / "slides" / "a" / "report.html").read_text(encoding="utf-8")


def test_tissue_that_the_screen_passes_over_is_judged_all_the_same(write_tiff, tmp_path, screened):
    """Regression: with nothing to look at, nothing was looked at, and a slide of another stain was normal and done."""
    image = np.full((1536, 2048, 3), 244, np.uint8)
    image[200:1300, 200:1800] = (225, 200, 130)
    path = write_tiff(tmp_path / "yellow.svs", [image])
    full, coarse = (predict_slide(path, screened, mode=mode).result for mode in ("full", "screen"))
    assert coarse.areas.scored_mm2 == 0
    assert [reason.code for reason in coarse.reasons] == [reason.code for reason in full.reasons]
    assert "not_h_and_e" in {reason.code for reason in coarse.reasons}
    assert coarse.checks.unexplained_share == full.checks.unexplained_share > 0


def test_the_network_follows_a_lesion_beyond_what_the_screen_picks(painted, screened, monkeypatch):
    """The screen need not see all of a lesion: where the network finds some, it is shown the rest."""
    full = predict_slide(painted, screened)
    tiles = open_for(painted, screened).laid.tiles
    tiles = tiles.split(full.result.pyramid, screened.card.screen.parts, full.slide_map.tissue)
    calcium = full.slide_map.probability[screened.card.classes.names.index("calcification")] >= screened.card.rule.grow
    on_calcium = np.array([calcium[box].any() for box in tiles.kept_boxes()])
    one = np.arange(len(tiles)) == np.flatnonzero(on_calcium)[0]
    monkeypatch.setattr("histo.screening._scores", lambda *args: one.astype(np.float32))
    coarse = predict_slide(painted, screened, mode="screen")
    assert on_calcium.sum() > 2
    assert coarse.slide_map.valid[calcium & (full.slide_map.tissue > 0)].all()
    found = [
        [replace(x, lesion_id="") for x in p.result.lesions if x.class_name == "calcification"] for p in (full, coarse)
    ]
    assert found[0] == found[1] != []
    assert coarse.result.areas.screened_mm2 > 0


def test_focus_and_stain_are_judged_on_the_same_tiles_as_in_full_mode(write_tiff, tmp_path, screened):
    """Regression: numbers of tiles were taken for numbers of windows, so only the top of a slide was judged."""
    image = np.full((3072, 2048, 3), (244, 243, 245), np.uint8)
    image[200:1500, 200:1800] = (225, 170, 195)
    image[1500:2900, 200:1800] = (170, 225, 160)
    path = write_tiff(tmp_path / "half.svs", [image])
    full, coarse = (predict_slide(path, screened, mode=mode).result for mode in ("full", "screen"))
    assert 0.2 < full.checks.unexplained_share < 0.8
    assert coarse.checks == full.checks


def test_foreign_tissue_is_told_where_the_network_is_shown_nothing(write_tiff, tmp_path, screened):
    """Regression: in screen mode it was not judged."""

    def plain(name: str, colour: tuple[int, int, int]) -> Path:
        image = np.full((1536, 2048, 3), (244, 243, 245), np.uint8)
        image[40:1500, 40:2010] = colour
        return write_tiff(tmp_path / name, [image])

    records = [
        SlideRecord(f"s{k}", plain(f"s{k}.svs", (220 + 3 * k, 172 - k, 198 - 2 * k)), f"p{k}", "normal")
        for k in range(5)
    ]
    put(tmp_path / "bundle", screened, *fit_reference(screened, records))
    model = load_bundle(tmp_path / "bundle")
    like, other = (
        predict_slide(plain("new.svs", colour), model, mode="screen").result
        for colour in ((226, 170, 194), (225, 195, 165))
    )
    assert like.areas.scored_mm2 == other.areas.scored_mm2 == 0
    assert like.checks.foreign_limit == model.card.reference.glance_limit
    whole = predict_slide(tmp_path / "new.svs", model).result
    assert whole.checks.foreign_limit == model.card.reference.limit != model.card.reference.glance_limit
    # Six tiles say less of such a small reference's middle than all of a slide do.
    assert like.checks.foreign_distance < 0.2 * other.checks.foreign_distance
    assert "foreign_tissue" in [r.code for r in other.reasons]


def test_six_tiles_from_all_over_the_slide_are_shown_for_their_texture(write_tiff, tmp_path, screened):
    image = np.full((4096, 2048, 3), (225, 170, 195), np.uint8)
    opened = open_for(write_tiff(tmp_path / "long.svs", [image]), screened)
    judge = Judge.of(opened.laid)
    seen = []

    class Counting:
        lanes = 1

        def see(self, tiles):
            seen.append(tiles)
            number = np.float32(np.nan if len(seen) > 6 else len(seen))
            return Seen(*(np.full((len(tiles), 2), number) for _ in Seen._fields))

    judge.read_missing(opened.laid, Counting())
    assert len(seen) == 6
    assert len(judge.sample.tiles) > 6
    assert judge._gathered.texture == pytest.approx([3.5, 3.5], abs=0.3)
    again = Judge.of(opened.laid)
    with pytest.raises(SlideFailed, match="no numbers"):
        again.read_missing(opened.laid, Counting())


def test_a_lesion_is_followed_beyond_what_cannot_be_read(painted, screened):
    """Regression: what was shown and could not be read led nowhere, and what lay behind it was passed over."""
    windows = open_for(painted, screened).laid.tiles
    lost = Stitcher(windows, 3)  # a slide of which nothing can be read
    one = np.arange(len(windows)) == len(windows) // 2
    tissue = np.ones(windows.map_grid.shape, np.float32)
    rounds = Screening(windows, tissue, 0.5, np.zeros(len(windows), bool), one).rounds(lost)
    first, second = next(rounds), next(rounds)
    assert len(first) == 1
    assert len(second) > 2


@pytest.fixture
def nine() -> tuple[TileGrid, NDArray[np.float32]]:
    """Three by three windows of two by two cells, and their tissue."""
    pyramid = Pyramid((96, 96), (1.0,), 1.0, 1.0, "recorded", (0, 0, 96, 96))
    tissue = np.ones((6, 6), np.float32)
    return lay_tiles(pyramid, TileSpec(64, 1.0, 16, 16), tissue), tissue


def screening_of(windows: TileGrid, tissue: NDArray[np.float32], picked: int) -> Screening:
    return Screening(windows, tissue, 0.5, np.zeros(len(windows), bool), np.arange(len(windows)) == picked)


@pytest.mark.parametrize(("probability", "led_to"), [(0.5, [2, 4, 5]), (0.499, [])])
def test_a_lesion_that_just_grows_is_followed_and_normal_tissue_never(nine, probability, led_to):
    windows, tissue = nine
    stitcher = Stitcher(windows, 3)
    stitcher.valid[:] = True
    stitcher.probability[0] = 1
    stitcher.probability[2, 1, 3] = probability  # the lower right cell of the second window
    rounds = screening_of(windows, tissue, 1).rounds(stitcher)
    assert next(rounds).tolist() == [1]
    follow = [n for numbers in rounds for n in numbers.tolist()]
    assert sorted(follow) == led_to


def test_glass_is_not_passed_over(nine):
    windows, tissue = nine
    tissue[:, 3:] = 0
    screening = screening_of(windows, tissue, 0)
    screening.shown[0] = True
    wanted = np.zeros((6, 6), bool)
    wanted[:, :3] = True
    wanted[:2, :2] = False
    np.testing.assert_array_equal(screening.passed_over, wanted)


def test_a_window_on_the_threshold_itself_is_shown(painted, screened, monkeypatch):
    threshold = screened.card.screen.threshold
    monkeypatch.setattr(
        "histo.screening._scores",
        lambda laid, windows, *rest: np.where(np.arange(len(windows)) < 3, threshold, threshold - 1e-6),
    )
    laid = open_for(painted, screened).laid
    screening = Screening.of(laid, Engines(screened, "torch", "cpu"), Pace(1), Timings())
    assert next(screening.rounds(Stitcher(screening.windows, 3))).tolist() == [0, 1, 2]


def test_a_profile_counts_what_the_network_was_shown(painted, screened):
    opened = open_for(painted, screened)
    tiles = len(opened.laid.tiles)
    shown = predict_slide(painted, screened, mode="screen", opened=opened)
    cells = sum(int(shown.slide_map.valid[box].any()) for box in opened.shown.kept_boxes())
    assert len(opened.shown) == cells < tiles * screened.card.screen.parts**2
