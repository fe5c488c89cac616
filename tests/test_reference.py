"""`histo reference`: what a model tells foreign tissue by, fitted on slides of one's own."""

import csv
import json
from pathlib import Path

import pytest

from histo.data.identities import LEARNT_FROM, identities
from histo.errors import UsageError
from histo.models.bundle import load_bundle, save_bundle
from histo.reference import refit


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


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
    assert said[0] == "7 slides that the network did not learn from, 0 that it did"
    assert "Fewer than 50" in said[-1]
    assert new.card.weights_sha256 != ""
    assert new.card.model_copy(update={"reference": None, "weights_sha256": ""}) == old.card.model_copy(
        update={"weights_sha256": ""}
    )


def test_the_limit_comes_from_patients_that_the_network_did_not_learn_from(
    colour_bundle: Path, painted_cohort: Path, tmp_path: Path
) -> None:
    model = load_bundle(colour_bundle)
    patients = sorted({row["patient"] for row in rows_of(painted_cohort)})
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(tmp_path / "knows", card | {"training": {LEARNT_FROM: identities([], patients[:5])}}, model.network)
    refit(tmp_path / "knows", painted_cohort, tmp_path / "new")
    reference = json.loads((tmp_path / "new" / "card.json").read_text(encoding="utf-8"))["reference"]
    assert (reference["slides"], reference["held_out_slides"]) == (9, 4)


def test_a_model_is_not_overwritten(colour_bundle: Path, painted_cohort: Path) -> None:
    before = (colour_bundle / "card.json").read_bytes()
    with pytest.raises(UsageError, match="holds a model already and is not overwritten"):
        refit(colour_bundle, painted_cohort, colour_bundle)
    assert (colour_bundle / "card.json").read_bytes() == before


def test_two_patients_are_too_few(colour_bundle: Path, painted_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 patients say nothing about others"):
        refit(colour_bundle, marked_test(painted_cohort, 7, tmp_path), tmp_path / "new")
    assert not (tmp_path / "new" / "card.json").exists()
