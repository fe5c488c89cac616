import errno
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

import histo
from histo.data.slide import open_slide
from histo.data.stain_norm import MOST_GAIN, NUCLEAR_GAIN
from histo.errors import UsageError
from histo.geometry import MapGrid
from histo.infer import inspect_slide, load_model, predict_slide
from histo.models.engine import Engines
from histo.models.engine_torch import TorchEngine
from histo.opening import open_for
from histo.outlines import area_px2, to_polygon
from histo.results import Areas


def test_painted_deposits_are_found_where_they_are(painted, colour_model):
    result = predict_slide(painted, colour_model).result
    assert result.verdict.label == "heterotopic_ossification"
    assert result.verdict.also == ("calcification",)
    assert [lesion.class_name for lesion in result.lesions] == ["bone", "calcification"]
    for lesion, (left, top, right, bottom) in zip(
        result.lesions, [(1200, 600, 1700, 1100), (400, 500, 800, 900)], strict=True
    ):
        box = to_polygon(lesion.outline).bounds
        assert np.allclose(box, (left, top, right, bottom), atol=32)  # one map cell
        assert lesion.area_mm2 == pytest.approx((right - left) * (bottom - top) * 0.25e-6, rel=0.15)
        assert lesion.area_mm2 == pytest.approx(area_px2(lesion.outline) * 0.25e-6)


def test_tissue_is_scored_unreadable_or_excluded(painted, colour_model):
    prediction = predict_slide(painted, colour_model)
    areas = prediction.result.areas
    assert areas.tissue_mm2 == pytest.approx(areas.scored_mm2 + areas.unreadable_mm2 + areas.excluded_mm2, abs=1e-9)
    assert areas.tissue_mm2 == pytest.approx(1648 * 1136 * 0.25e-6, rel=0.06)
    assert areas.unreadable_mm2 == 0


def test_what_lies_wholly_under_ink_is_not_scored(paint_slide, write_tiff, tmp_path, colour_model):
    """Regression: the heatmap showed heat there, and its channel `scored` more tissue than the report."""
    image = paint_slide()
    image[420:980, 320:880] = (40, 60, 200)  # over the calcium
    prediction = predict_slide(write_tiff(tmp_path / "inked.svs", [image]), colour_model)
    under = prediction.slide_map.excluded >= prediction.slide_map.tissue
    assert prediction.result.areas.excluded_mm2 > 0.05
    assert not prediction.slide_map.valid[under].any()
    assert not prediction.slide_map.probability[:, under].any()


def test_the_same_slide_twice_gives_the_same_numbers(painted, colour_model):
    """Regression: a loaded model was left in training mode, and dropout made every run another."""
    first, second = (predict_slide(painted, colour_model, readers=n) for n in (1, 3))
    assert first.result == second.result
    np.testing.assert_array_equal(first.slide_map.probability, second.slide_map.probability)


def test_a_result_says_what_its_stain_was_multiplied_by(phantoms, painted, colour_model):
    assert predict_slide(painted, colour_model).result.stain_gains is None, "its model asks for no density"
    gains = predict_slide(phantoms["normal"].slide, load_model()).result.stain_gains
    assert all(1 / MOST_GAIN <= gain <= MOST_GAIN for gain in gains.channels)
    assert NUCLEAR_GAIN[0] <= gains.haematoxylin <= NUCLEAR_GAIN[1]


def test_a_map_is_the_same_when_the_slide_is_moved_by_half_a_tile(phantoms, write_tiff, tmp_path):
    """No seams: tiles fall elsewhere on the tissue, and the map does not show it."""
    with open_slide(phantoms["heterotopic_ossification"].slide) as slide:
        image = slide.read((0, 0), 0, slide.pyramid.size_level0_px)
    model = load_model()
    kept = model.card.tile.spec().kept_cells
    shift = kept // 2 * 32  # whole map cells of 32 level-0 px: the lattices stay aligned
    moved = cv2.copyMakeBorder(image, shift, 0, shift, 0, cv2.BORDER_REPLICATE)
    maps = []
    for name, picture in (("here", image), ("there", moved)):
        half = cv2.resize(picture, (picture.shape[1] // 2, picture.shape[0] // 2), interpolation=cv2.INTER_AREA)
        path = write_tiff(tmp_path / f"{name}.svs", [picture, half])
        maps.append(predict_slide(path, model).slide_map)
    here, there = maps
    cells = shift // 32
    there_p = there.probability[:, cells:, cells:].astype(np.float32)[:, : here.valid.shape[0], : here.valid.shape[1]]
    both = here.valid & there.valid[cells:, cells:][: here.valid.shape[0], : here.valid.shape[1]] & (here.tissue > 0.5)
    difference = np.abs(here.probability.astype(np.float32) - there_p).max(axis=0)
    assert both.sum() > 1000
    assert difference[both].mean() < 0.02
    # Cells beside a seam of the first run differ no more than the others.
    columns = np.arange(here.valid.shape[1])
    beside = np.isin(columns % kept, (0, kept - 1))[None, :] & both
    assert difference[beside].mean() < difference[both & ~beside].mean() + 0.02


def test_one_damaged_tile_costs_that_tile(paint_slide, write_tiff, tmp_path, colour_model):
    image = paint_slide()
    path = write_tiff(tmp_path / "hurt.svs", [image], faults={40: b"\xff\xd8garbage"})
    rule = colour_model.card.rule.model_copy(update={"max_unreadable_share": 0.9})
    patient = replace(colour_model, card=colour_model.card.model_copy(update={"rule": rule}))
    result = predict_slide(path, patient).result
    assert result.status == "review"
    assert "unreadable_tissue" in [r.code for r in result.reasons]
    assert result.areas.unreadable_mm2 > 0
    assert result.areas.scored_mm2 > 0
    assert "calcification" in {lesion.class_name for lesion in result.lesions}


def test_bare_glass_is_not_scored(phantoms):
    # Bug: the heatmap of a normal slide was red around the tissue: what a network says of glass means nothing.
    slide_map = predict_slide(phantoms["normal"].slide, load_model()).slide_map
    glass = slide_map.tissue == 0
    assert glass.any()
    assert not slide_map.valid[glass].any()
    assert not slide_map.probability[:, glass].any()


def test_too_many_damaged_tiles_fail_the_slide(paint_slide, write_tiff, tmp_path, colour_model):
    path = write_tiff(
        tmp_path / "hurt.svs", [paint_slide()], faults=dict.fromkeys((17, 18, 19, 27), b"\xff\xd8garbage")
    )
    result = predict_slide(path, colour_model).result
    assert (result.status, result.reasons[0].code, result.verdict) == ("failed", "unreadable", None)


@pytest.mark.parametrize(
    ("description", "mpp", "status", "code"),
    [
        ("Aperio no scale", None, "refused", "no_scale"),
        ("Aperio |MPP = 1000", None, "refused", "no_scale"),
        ("Aperio no scale", 0.5, "review", None),
        ("Aperio |MPP = 2", None, "refused", "too_coarse"),
    ],
)
def test_scale_is_never_guessed(description, mpp, status, code, paint_slide, write_tiff, tmp_path, colour_model):
    path = write_tiff(tmp_path / "s.svs", [paint_slide()], description=description)
    result = predict_slide(path, colour_model, mpp=mpp).result
    assert result.status in (status, "done" if code is None else status)
    if code:
        assert result.reasons[0].code == code
        assert result.verdict is None
    else:
        assert (result.pyramid.mpp_x, result.pyramid.scale_source) == (0.5, "user")
        assert result.provenance.settings["mpp"] == 0.5


@pytest.mark.parametrize(("mpp", "doubted"), [(0.5, False), (0.51, False), (0.25, True)])
def test_a_scale_that_overrules_a_credible_one_goes_to_review(mpp, doubted, painted, colour_model):
    """Regression: one --mpp for a folder changed the areas of slides that know their own scale without a word."""
    result = predict_slide(painted, colour_model, mpp=mpp).result
    assert ("overruled_scale" in [r.code for r in result.reasons]) == doubted
    assert result.pyramid.recorded_mpp == (0.5, 0.5)


def test_black_filling_is_no_tissue(paint_slide, write_tiff, tmp_path, colour_model):
    """Regression: what a converter wrote where the scanner saw nothing was the darkest tissue, and bent the stain."""
    picture = paint_slide()
    filled = np.concatenate([picture, np.zeros((picture.shape[0], 700, 3), np.uint8)], axis=1)
    plain, black = (
        predict_slide(write_tiff(tmp_path / f"{name}.svs", [rgb]), colour_model).result
        for name, rgb in (("plain", picture), ("black", filled))
    )
    assert black.areas.tissue_mm2 == pytest.approx(plain.areas.tissue_mm2, rel=0.01)
    assert black.verdict == plain.verdict


def test_inspection_tells_what_cannot_be_read(paint_slide, write_tiff, tmp_path, colour_model):
    """Regression: `histo inspect` had nothing to say of a slide that `histo infer` fails."""
    faults = dict.fromkeys((*range(17, 23), *range(25, 31)), b"\xff\xd8garbage")
    path = write_tiff(tmp_path / "hurt.svs", [paint_slide()], faults=faults)
    seen, result = inspect_slide(path, colour_model), predict_slide(path, colour_model).result
    assert seen.reason.code == result.reasons[0].code == "unreadable"
    assert seen.areas.unreadable_mm2 == pytest.approx(12 * 256**2 * 0.25e-6, rel=0.2)


def test_what_is_dark_on_a_slide_without_colour_is_not_called_black(paint_slide, write_tiff, tmp_path, colour_model):
    """Regression: every dark nucleus of a grey copy was black, and the advice was to scan it again."""
    picture = paint_slide()
    picture[400:1200, 300:1200] = 15
    grey = np.repeat(picture.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
    codes = [
        [r.code for r in predict_slide(write_tiff(tmp_path / f"{k}.svs", [rgb]), colour_model).result.reasons]
        for k, rgb in enumerate((picture, grey))
    ]
    assert ["black_over_tissue" in found for found in codes] == [True, False]
    assert "no_colour" in codes[1]


def test_a_level_that_was_padded_is_not_used(paint_slide, write_tiff, tmp_path, colour_model, caplog):
    """Regression: OpenSlide takes it for another reduction, and most tissue was looked for beside itself."""
    picture = paint_slide(2400, 2400)
    quarter = np.full((768, 768, 3), 243, np.uint8)
    quarter[:600, :600] = picture[::4, ::4]
    path = write_tiff(tmp_path / "padded.svs", [picture, quarter])
    with open_slide(path) as slide:
        assert slide.pyramid.downsamples == (1.0,)
    assert "level 1 is padded to whole blocks" in caplog.text
    whole = predict_slide(write_tiff(tmp_path / "whole.svs", [picture, picture[::4, ::4]]), colour_model).result
    assert predict_slide(path, colour_model).result.areas.tissue_mm2 == pytest.approx(whole.areas.tissue_mm2, rel=0.02)


def test_empty_glass_is_refused(write_tiff, tmp_path, colour_model):
    path = write_tiff(tmp_path / "glass.svs", [np.full((1024, 1024, 3), 243, np.uint8)])
    result = predict_slide(path, colour_model).result
    assert (result.status, result.reasons[0].code) == ("refused", "too_little_tissue")


def test_a_refusal_does_not_stand_under_the_hash_of_another_content(write_tiff, tmp_path, colour_model, painted):
    """Regression: a blank slide that was being overwritten stayed refused under the hash of the new one."""
    path = write_tiff(tmp_path / "glass.svs", [np.full((1024, 1024, 3), 243, np.uint8)])
    opened = open_for(path, colour_model)
    assert opened.sha256
    path.write_bytes(painted.read_bytes())
    result = predict_slide(path, colour_model, opened=opened).result
    assert (result.status, result.reasons[0].code) == ("failed", "changed")


def test_a_slide_that_vanishes_while_it_is_read_was_not_changed(painted, tmp_path, colour_model):
    """Regression: it was `changed`, which is false, and a run put that in the place of an older result."""
    path = tmp_path / "slide.svs"
    shutil.copy(painted, path)
    opened = open_for(path, colour_model)
    assert opened.sha256
    path.unlink()
    result = predict_slide(path, colour_model, opened=opened).result
    assert (result.status, result.reasons[0].code) == ("failed", "not_found")


def test_a_slide_of_which_nothing_is_left_to_judge_by_is_refused(painted, colour_model, monkeypatch):
    """Regression: with all but 0.02 mm² under ink it was "Normal > 0.99", in review."""
    rule = colour_model.card.rule.model_copy(update={"least_tissue_mm2": 0.1})
    model = replace(colour_model, card=colour_model.card.model_copy(update={"rule": rule}))
    monkeypatch.setattr("histo.infer.account", lambda slide_map: Areas(1.0, 0.02, 0.0, 0.98))
    result = predict_slide(painted, model).result
    assert (result.status, result.reasons[0].code) == ("refused", "too_little_tissue")
    assert "0.020 mm² of tissue beside what looks like ink and 0.1 mm² is the least" in result.reasons[0].message


@pytest.mark.parametrize("size", [(649, 649), (1033, 1001), (800, 800)])
def test_a_slide_has_no_more_tissue_than_area(size, write_tiff, tmp_path, colour_model):
    """Regression: cells of the overview that reach beyond the scan counted whole, 2 % of a small slide."""
    image = np.full((size[1], size[0], 3), (225, 170, 195), np.uint8)
    path = write_tiff(tmp_path / "full.svs", [image])
    result = predict_slide(path, colour_model).result
    area_mm2 = size[0] * size[1] * result.pyramid.mpp_x * result.pyramid.mpp_y / 1e6
    assert result.areas.tissue_mm2 == pytest.approx(area_mm2, rel=1e-4)
    assert inspect_slide(path, colour_model).areas.tissue_mm2 == pytest.approx(area_mm2, rel=1e-4)


def test_what_was_made_for_another_model_or_slide_is_refused(painted, tmp_path, colour_model):
    """Regression: the result named one model or slide, and the scores were another's."""
    other = replace(colour_model)
    with pytest.raises(UsageError, match="`engines` of this very model"):
        predict_slide(painted, colour_model, engines=Engines(other))
    copy = shutil.copy(painted, tmp_path / "copy.svs")
    with open_for(painted, colour_model) as opened, pytest.raises(UsageError, match="give the same path"):
        predict_slide(copy, colour_model, opened=opened)
    with pytest.raises(UsageError, match="a batch of 0 tiles holds none"):
        predict_slide(painted, colour_model, batch_size=0)


def test_numbers_of_a_table_are_taken_as_numbers(painted, tmp_path, colour_model):
    """Regression: a scale of numpy's and an id that is a number ended in tracebacks, after the whole examination."""
    prediction = predict_slide(painted, colour_model, mpp=np.float32(0.5), slide_id=0)
    assert histo.write_outputs(prediction, tmp_path / "0").slide_id == "0"


def test_a_lesion_found_under_other_settings_is_another(painted, colour_model):
    """Regression: what a pathologist said of one was read as said of another, by the same id."""
    once, again, otherwise = (
        {lesion.lesion_id for lesion in predict_slide(painted, colour_model, mpp=mpp).result.lesions}
        for mpp in (0.5, 0.5, 0.52)
    )
    assert once == again
    assert not once & otherwise


def test_a_disk_that_fails_while_the_slide_is_scored_is_the_slide_s(painted, colour_model, monkeypatch):
    """Regression: raised, it was taken for the output folder's disk and stopped a whole archive."""

    def stale(*_, **__):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr("histo.infer.score_tiles", stale)
    result = predict_slide(painted, colour_model).result
    assert (result.status, [r.code for r in result.reasons]) == ("failed", ["unreadable"])
    assert "Stale file handle" in result.reasons[0].message


def test_a_slide_that_is_too_coarse_is_refused_for_that_by_inspect_and_infer(write_tiff, tmp_path, colour_model):
    """Regression: of a blank one `histo infer` asked whether it was the right slide, and only `inspect` said why."""
    path = write_tiff(tmp_path / "glass.svs", [np.full((1024, 1024, 3), 243, np.uint8)])
    result = predict_slide(path, colour_model, mpp=4).result
    assert result.reasons[0].code == inspect_slide(path, colour_model, mpp=4).reason.code == "too_coarse"
    assert "has 4 µm per pixel as given" in result.reasons[0].message


def test_slide_smaller_than_a_tile(write_tiff, tmp_path, colour_model):
    rule = colour_model.card.rule.model_copy(update={"least_tissue_mm2": 0.0})
    model = replace(colour_model, card=colour_model.card.model_copy(update={"rule": rule}))
    for size in ((1, 1), (257, 3), (100, 90)):
        image = np.full((size[1], size[0], 3), (225, 170, 195), np.uint8)
        result = predict_slide(write_tiff(tmp_path / "tiny.svs", [image]), model).result
        assert result.status in ("done", "review"), result.reasons


def test_evidence_shows_the_lesion(painted, colour_model):
    prediction = predict_slide(painted, colour_model)
    calcium = next(x for x in prediction.result.lesions if x.class_name == "calcification")
    field = next(e for e in prediction.evidence if e.lesion_id == calcium.lesion_id)
    middle = field.near_rgb[200:248, 200:248].reshape(-1, 3).mean(axis=0)
    assert np.allclose(middle, (60, 30, 95), atol=12)
    assert field.near_um == pytest.approx(224)
    assert field.far_um == pytest.approx(1120)


def test_a_class_without_lesions_shows_its_strongest_field(painted, colour_model):
    classes = colour_model.card.classes
    strict = classes.model_copy(
        update={"lesions": tuple(c.model_copy(update={"min_area_mm2": 0.05}) for c in classes.lesions)}
    )
    model = replace(colour_model, card=colour_model.card.model_copy(update={"classes": strict}))
    prediction = predict_slide(painted, model)
    assert {x.class_name for x in prediction.result.lesions} == {"bone"}
    suspect = next(e for e in prediction.evidence if e.class_name == "calcification")
    assert (suspect.lesion_id, suspect.why_not) == (None, "small")
    assert suspect.probability > 0.9
    assert np.allclose(suspect.near_rgb[200:248, 200:248].reshape(-1, 3).mean(axis=0), (60, 30, 95), atol=12)


def test_a_slide_with_bounds_is_mapped_inside_them(painted, colour_model, monkeypatch):
    """Only the scanned part is read, and lesions keep their level-0 places."""
    whole = predict_slide(painted, colour_model).result
    bounds = {"x": "300", "y": "250", "width": "1500", "height": "1100"}
    from histo.data import slide as module

    def with_bounds(properties, width, height):
        return original(properties | {f"openslide.bounds-{k}": v for k, v in bounds.items()}, width, height)

    original = module._bounds
    monkeypatch.setattr(module, "_bounds", with_bounds)
    prediction = predict_slide(painted, colour_model)
    assert prediction.slide_map.grid.origin_level0_px == (300, 250)
    assert prediction.overview.grid.origin_level0_px == (300, 250)
    for a, b in zip(whole.lesions, prediction.result.lesions, strict=True):
        assert np.allclose(to_polygon(a.outline).bounds, to_polygon(b.outline).bounds, atol=32)


def test_inspection_counts_what_inference_reads(painted, colour_model):
    seen = inspect_slide(painted, colour_model)
    areas = predict_slide(painted, colour_model).result.areas
    assert seen.areas.tissue_mm2 == pytest.approx(areas.tissue_mm2, rel=1e-4)
    assert seen.reason is None
    assert seen.tiles > 0
    assert isinstance(seen.overview.grid, MapGrid)


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_what_is_given_twice_is_refused(device, painted, colour_model):
    engines = Engines(colour_model, "torch", "cpu")
    with pytest.raises(UsageError, match="either `engines`"):
        predict_slide(painted, colour_model, engines=engines, engine="torch", device=device)
    with open_for(painted, colour_model) as opened, pytest.raises(UsageError, match="path and scale already"):
        predict_slide(painted, colour_model, engines=engines, opened=opened, mpp=0.5)


def test_public_names_are_what_the_readme_says():
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    called = {*re.findall(r"\bhisto\.(\w+)\(", readme)}
    assert called == {"load_model", "predict_slide", "write_outputs"}
    assert called <= {*histo.__all__}
    for name in histo.__all__:
        # Bug: `histo.train` was a function at first, and the module of that name ever after.
        first = getattr(histo, name)
        assert getattr(histo, name) is first
        assert not isinstance(first, ModuleType)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        histo.nothing  # noqa: B018


def test_module_runs_as_a_command():
    done = subprocess.run([sys.executable, "-m", "histo.infer", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "--mpp" in done.stdout


@pytest.mark.parametrize("what", ["probability", "features"])
def test_scores_that_are_no_numbers_fail_the_slide(what, painted, colour_model, monkeypatch):
    """Regression: a map that was not a number was no evidence of anything, so the slide was normal."""
    real = TorchEngine.see

    def see(self, tiles):
        seen = real(self, tiles)
        return seen._replace(**{what: np.full_like(getattr(seen, what), np.nan)})

    monkeypatch.setattr(TorchEngine, "see", see)
    result = predict_slide(painted, colour_model, engine="torch").result
    assert (result.status, [r.code for r in result.reasons]) == ("failed", ["not_finite"])
