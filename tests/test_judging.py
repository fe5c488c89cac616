"""A slide that may not be judged is sent to review with the reason, end to end."""

from collections.abc import Callable
from html import unescape
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from histo.data.records import SlideRecord
from histo.data.stain_norm import AS_THEY_ARE
from histo.data.tile_sample import TileSample
from histo.export.checks import check_rows
from histo.export.report import write_report
from histo.geometry import Pyramid, TileSpec, lay_tiles, map_grid_for
from histo.infer import predict_slide
from histo.judging import Judge
from histo.models.bundle import Model, load_bundle
from histo.opening import Laid
from histo.reference import fit_reference, put
from histo.results import Overview, load_result, to_json

Rgb = NDArray[np.uint8]


def grey(picture: Rgb) -> Rgb:
    return np.repeat(picture[..., 1:2], 3, axis=-1)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda p: p, None),
        (lambda p: 255 - p, "not_h_and_e"),
        (lambda p: cv2.GaussianBlur(p, (0, 0), 8), "out_of_focus"),
        (grey, "no_colour"),
    ],
    ids=["as it is", "inverted", "blurred", "grey"],
)
def test_a_spoilt_slide_is_in_review_with_the_reason_in_its_report(
    spoil, code: str | None, colour_model: Model, paint_slide: Callable[..., Rgb], write_tiff, tmp_path: Path
) -> None:
    path = write_tiff(tmp_path / "slide.svs", [np.asarray(spoil(paint_slide()), np.uint8)])
    prediction = predict_slide(path, colour_model, engine="torch")
    result = prediction.result
    own = {"not_h_and_e", "no_colour", "unusual_stain", "out_of_focus", "implausible_scale", "foreign_tissue"}
    assert [r.code for r in result.reasons if r.code in own] == ([code] if code else [])
    assert result.checks is not None
    assert code is None or result.status == "review"
    # Bug: only of foreign tissue was nothing excluded; a stain the model does not know was certified as calcinosis.
    assert result.verdict is not None
    assert result.verdict.exclusions_hold == (code is None)
    assert code is None or (set(result.verdict.not_excluded), result.verdict.level) == ({*result.model.labels}, None)
    (tmp_path / "result.json").write_text(to_json(result))
    assert load_result(tmp_path / "result.json").checks == result.checks
    write_report(prediction, tmp_path / "report.html")
    text = unescape((tmp_path / "report.html").read_text())
    assert "cannot be judged: this model" in text
    assert all(r.message.split(":")[0].split("(")[0] in text for r in result.reasons)


def test_a_slide_of_a_few_tiles_has_one_limit_in_both_modes(monkeypatch: pytest.MonkeyPatch) -> None:
    # Bug: the limit for six tiles, which is wider, was taken of slides that have no more.
    for name in ("stream_batches", "score_batches"):
        monkeypatch.setattr(f"histo.judging.{name}", lambda *a, **k: ())
    monkeypatch.setattr("histo.judging.open_blocks", lambda *a: None)
    monkeypatch.setattr("histo.judging.TileDataset.of", lambda *a: None)
    for tiles, at_a_glance in ((4, False), (40, True)):
        shares = np.ones(tiles)
        judge = Judge(TileSample.of(shares), shares, np.full(3, 255.0), 1.0, None)
        judge.read_missing(MagicMock(), MagicMock())
        assert judge._at_a_glance == at_a_glance


def test_ink_changes_neither_what_tells_foreign_tissue_nor_the_share_of_black() -> None:
    """A third of the tissue under a black stroke is judged as the same tissue without that third."""
    spec, size = TileSpec(256, 1.0, 16, 0), (1536, 1024)
    pyramid = Pyramid(size, (1.0,), 1.0, 1.0, "recorded", (0, 0, *size))
    grid, _ = map_grid_for(pyramid, spec)
    left = np.repeat(np.arange(grid.shape[1])[None] < grid.shape[1] * 2 // 3, grid.shape[0], axis=0)
    right = (~left).astype(np.float32)
    rgb = np.where(left[..., None], (225, 170, 195), (20, 20, 20)).astype(np.uint8)
    rgb[:2] = rgb[-2:] = 244
    overview = Overview(rgb, grid)
    everywhere, nowhere = np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    tiles = lay_tiles(pyramid, spec, everywhere)

    def judge_of(tissue: NDArray[np.float32], excluded: NDArray[np.float32]) -> Judge:
        return Judge.of(Laid(MagicMock(), overview, tiles, tissue, excluded, AS_THEY_ARE))

    inked = judge_of(everywhere, right)
    clean = judge_of(left.astype(np.float32), nowhere)
    assert inked.counted.tolist() == clean.counted.tolist() == ([1.0] * 4 + [0.0] * 2) * 4
    assert inked.sample.chosen == clean.sample.chosen
    assert inked.black == clean.black == 0
    assert judge_of(everywhere, nowhere).black == pytest.approx(1 / 3, abs=0.03)


def test_a_reference_fitted_on_slides_tells_another_tissue(
    colour_bundle: Path, painted: Path, write_tiff, tmp_path: Path
) -> None:
    """The texture of this model is mean and spread of colours: tissue of another colour is foreign to it."""
    rng = np.random.default_rng(0)

    def slide(name: str, colour: tuple[int, int, int]) -> Path:
        image = np.full((1536, 2048, 3), 244, np.uint8)
        noise = cv2.GaussianBlur(rng.normal(0, 12, (1200, 1700)).astype(np.float32), (0, 0), 1.5)
        image[150:1350, 150:1850] = np.clip(np.array(colour) + noise[..., None], 0, 255)
        return write_tiff(tmp_path / name, [image])

    model = load_bundle(colour_bundle)
    records = [
        SlideRecord(f"s{i}", slide(f"s{i}.svs", (222 + i, 168 + i, 194 + i)), f"p{i}", "normal") for i in range(6)
    ]
    reference, arrays = fit_reference(model, records)
    assert reference.slides == 6
    assert set(reference.stain) == {"red", "blue", "density"}
    folder = tmp_path / "bundle"
    put(folder, model, reference, arrays)
    judged = load_bundle(folder)
    assert judged.digest != model.digest
    like, other = (
        predict_slide(slide(name, colour), judged, engine="torch").result
        for name, colour in (("like.svs", (224, 170, 196)), ("other.svs", (150, 60, 130)))
    )
    assert "foreign_tissue" not in [r.code for r in like.reasons]
    assert "foreign_tissue" in [r.code for r in other.reasons]
    # Bug: beside "exclusions do not hold" stood "at 95 % certainty normal alone remains".
    assert (set(other.verdict.not_excluded), other.verdict.level) == ({*other.model.labels}, None)
    assert not {"several_diagnoses", "no_diagnosis"} & {r.code for r in other.reasons}
    (row,) = (words for name, words in check_rows(other) if name.startswith("Distance of the tissue"))
    assert "of the limit, review above it; limit from 6 slides of 6 patients, too few" in row
