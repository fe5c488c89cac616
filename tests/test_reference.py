"""`histo reference`: what a model tells foreign tissue by, fitted on slides of one's own."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from histo.data.identities import LEARNT_FROM, REFERENCE_OF, STARTED_FROM, identities
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.data.stain_norm import StainNorm
from histo.errors import UsageError
from histo.infer import load_model
from histo.judging import Judge
from histo.models.bundle import load_bundle, save_bundle
from histo.models.engine import Engines
from histo.opening import open_for
from histo.reference import SETS_LEFT, TILES_A_SLIDE, fit_reference, refit, sample_of


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def reference_of(bundle: Path) -> tuple[int, int]:
    """Slides of a bundle's reference, and those that its limit comes from."""
    reference = load_bundle(bundle).card.reference
    assert reference is not None
    return reference.slides, reference.held_out_slides


def marked_test(manifest: Path, count: int, folder: Path) -> Path:
    """The manifest again, its first slides marked test."""
    rows = rows_of(manifest)
    path = folder / "slides.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        for number, row in enumerate(rows):
            for name in ("path", "annotation"):
                row[name] = row[name] and str(manifest.parent / row[name])
            writer.writerow(row | {"split": "test" if number < count else ""})
    return path


def test_a_reference_is_fitted_on_a_manifest_and_nothing_else_changes(
    colour_bundle: Path, painted_cohort: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    refit(colour_bundle, marked_test(painted_cohort, 2, tmp_path), tmp_path / "new", say=said.append)
    old, new = load_bundle(colour_bundle), load_bundle(tmp_path / "new")
    assert old.card.reference is None
    assert new.card.reference is not None
    assert new.card.reference.slides == 7
    assert new.card.reference.glance_limit is not None
    assert said[:2] == [
        "7 slides to fit on; 2 marked test are left out",
        "the card does not say which slides the model was trained on; all of these are taken as others",
    ]
    assert "Fewer than 50" in said[-1]
    assert len(new.card.training[REFERENCE_OF]["slides_sha256"]) == 7
    same = {"reference": None, "weights_sha256": "", "training": {}}
    assert new.card.model_copy(update=same) == old.card.model_copy(update=same)


def test_sets_of_diagnoses_do_not_outlive_the_gate_that_they_were_fitted_behind(
    colour_bundle: Path, painted_cohort: Path, tmp_path: Path
) -> None:
    """Regression: with a reference of one's own, tissue passed that no calibration had seen, certified at 95 %."""
    model = load_bundle(colour_bundle)
    bound = {"patients": 20, "level": 0.95, "largest_score": 0.5}
    labels = dict.fromkeys(model.card.classes.labels, bound)
    calibration = model.card.calibration.model_dump(mode="json") | {"conformal": {"wanted": 0.95, "labels": labels}}
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"}) | {"calibration": calibration}
    save_bundle(tmp_path / "old", card, model.network)
    said: list[str] = []
    refit(tmp_path / "old", painted_cohort, tmp_path / "new", say=said.append)
    assert load_bundle(tmp_path / "new").card.calibration.conformal is None
    assert said[-1] == SETS_LEFT


@pytest.mark.parametrize("known", [LEARNT_FROM, STARTED_FROM])
def test_the_limit_comes_from_patients_that_neither_the_network_nor_its_start_learnt_from(
    known: str, colour_bundle: Path, painted_cohort: Path, tmp_path: Path
) -> None:
    model = load_bundle(colour_bundle)
    patients = sorted({row["patient"] for row in rows_of(painted_cohort)})
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(tmp_path / "knows", card | {"training": {known: identities([], patients[:5])}}, model.network)
    refit(tmp_path / "knows", painted_cohort, tmp_path / "new")
    assert reference_of(tmp_path / "new") == (9, 4)
    used = load_bundle(tmp_path / "new").card.training[REFERENCE_OF]
    assert used == identities(used["slides_sha256"], patients), "those that it learnt from, too"
    refit(tmp_path / "knows", painted_cohort, tmp_path / "others", other_persons=True)
    assert reference_of(tmp_path / "others") == (9, 9)


def test_a_file_that_the_network_learnt_from_is_known_whatever_its_patient_is_called(
    colour_bundle: Path, painted_cohort: Path, tmp_path: Path
) -> None:
    model = load_bundle(colour_bundle)
    files = [sha256_of(painted_cohort.parent / row["path"]) for row in rows_of(painted_cohort)[:2]]
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(tmp_path / "knows", card | {"training": {LEARNT_FROM: identities(files, [])}}, model.network)
    refit(tmp_path / "knows", painted_cohort, tmp_path / "new", other_persons=True)
    assert reference_of(tmp_path / "new") == (9, 7)


def test_a_model_is_not_overwritten(colour_bundle: Path, painted_cohort: Path) -> None:
    before = (colour_bundle / "card.json").read_bytes()
    with pytest.raises(UsageError, match="holds a model already and is not overwritten"):
        refit(colour_bundle, painted_cohort, colour_bundle)
    assert (colour_bundle / "card.json").read_bytes() == before


def test_two_patients_are_too_few(colour_bundle: Path, painted_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 patients say nothing about others"):
        refit(colour_bundle, marked_test(painted_cohort, 7, tmp_path), tmp_path / "new")
    assert not (tmp_path / "new" / "card.json").exists()


def test_a_reference_glances_at_the_tiles_that_screen_mode_looks_at(
    write_tiff, tmp_path: Path, colour_bundle: Path
) -> None:
    """Bug: on slides of more than 64 tiles two choices of tiles met by chance, in one or two tiles or in none."""
    rng = np.random.default_rng(0)
    image = np.full((6144, 6144, 3), (225, 170, 195), np.uint8)
    image += rng.integers(0, 9, (192, 192, 1), np.uint8).repeat(32, axis=0).repeat(32, axis=1)
    path, model = write_tiff(tmp_path / "large.svs", [image]), load_model(colour_bundle)
    opened = open_for(path, model)
    judge = Judge.of(opened.laid)
    assert np.count_nonzero(judge.counted) > TILES_A_SLIDE
    engines = Engines(model, "torch", "cpu")
    engine = engines.pick(lambda: np.zeros((1, model.card.tile.size_px, model.card.tile.size_px, 3), np.uint8))
    with opened.slide:
        judge.read_missing(opened.laid, engine)
    sampled = sample_of(model, engines, SlideRecord("large", path, "p", "normal"))
    assert sampled is not None
    assert len(sampled.seen.texture) == TILES_A_SLIDE
    assert sampled.glance == pytest.approx(judge._gathered.texture, rel=1e-4, abs=1e-4)
    assert sampled.glance != pytest.approx(sampled.texture, rel=1e-4, abs=1e-4)


def test_the_patients_of_phantoms_are_other_persons(
    colour_bundle: Path, painted_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_bundle(colour_bundle)
    patients = sorted({row["patient"] for row in rows_of(painted_cohort)})
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(tmp_path / "knows", card | {"training": {LEARNT_FROM: identities([], patients[:5])}}, model.network)
    monkeypatch.setattr("histo.data.synthetic.is_phantom", lambda path: True)
    refit(tmp_path / "knows", painted_cohort, tmp_path / "new")
    assert reference_of(tmp_path / "new") == (9, 9)


def test_a_slide_that_tells_too_little_is_left_out_and_told(
    colour_bundle: Path, painted_cohort: Path, tmp_path: Path, write_tiff
) -> None:
    picture = np.full((1024, 1024, 3), 244, np.uint8)
    picture[100:300, 100:300] = (225, 170, 195)
    bare = write_tiff(tmp_path / "bare.svs", [picture], description="Aperio made for a test |AppMag = 20")
    small = write_tiff(tmp_path / "small.svs", [picture])
    (tmp_path / "text.svs").write_text("no slide")
    model = load_bundle(colour_bundle)
    rule = model.card.rule.model_copy(update={"least_tissue_mm2": 0.001})
    model = replace(model, card=model.card.model_copy(update={"rule": rule}))
    rows = [
        SlideRecord(r["slide"], painted_cohort.parent / r["path"], r["patient"], "normal")
        for r in rows_of(painted_cohort)
    ]
    odd = [SlideRecord(p.stem, p, p.stem, "normal") for p in (bare, small, tmp_path / "text.svs")]
    said: list[str] = []
    reference, _ = fit_reference(model, [*odd, *rows[:4]], device="cpu", say=said.append)
    assert reference.slides == 4
    seen = sample_of(model, Engines(model, "torch", "cpu"), odd[1])
    assert seen is not None
    assert seen.texture is None
    assert [line.split(" is left out of the reference")[0] for line in said] == ["bare", "small", "text"]


def test_a_slide_is_seen_at_the_manifest_s_scale_and_with_its_stain_made_equal(
    colour_bundle: Path, painted: Path, write_tiff, paint_slide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(colour_bundle)
    engines = Engines(model, "torch", "cpu")
    bare = write_tiff(tmp_path / "bare.svs", [paint_slide()], description="Aperio made for a test |AppMag = 20")
    assert sample_of(model, engines, SlideRecord("s", bare, "p", "normal")) is None
    sampled = sample_of(model, engines, SlideRecord("s", bare, "p", "normal", mpp=0.5))
    assert sampled is not None
    assert np.ptp(sampled.seen.features, axis=0).max() > 0
    monkeypatch.setattr(StainNorm, "apply", lambda self, rgb: np.zeros_like(rgb))
    black = sample_of(model, engines, SlideRecord("s", painted, "p", "normal"))
    assert black is not None
    assert np.ptp(black.seen.features, axis=0).max() == 0
