"""Aliases: which class other words of annotation files mean, in the configuration and in training."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from histo.config import ClassesConfig, DataConfig, TileConfig, TrainConfig
from histo.data.annotations import IGNORE, Vocabulary, read_annotations
from histo.data.records import SlideRecord
from histo.data.sampling import open_labelled
from histo.errors import UsageError
from histo.geometry import Pyramid

CLASSES = ("normal", "bone", "calcification")
SLIDE = Pyramid((2048, 1536), (1.0,), 0.5, 0.5, "recorded", (0, 0, 2048, 1536))


def write(path: Path, *words: str | None) -> Path:
    features = [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[400, 500], [800, 500], [800, 900], [400, 500]]]},
            "properties": {"classification": {"name": word}} if word else {"name": "Kalk"},
        }
        for word in words
    ]
    path.write_text(json.dumps(features))
    return path


@pytest.mark.parametrize("word", ["Tumor", "tumor", " TUMOR ", "tumor*"])
def test_an_alias_is_known_however_it_is_capitalised(word: str, tmp_path: Path) -> None:
    assert set(read_annotations(write(tmp_path / "a", word), CLASSES, SLIDE, {"Tumor": "bone"})) == {"bone"}


def test_a_word_may_be_ignored_and_a_class_keeps_its_own_name(tmp_path: Path) -> None:
    found = read_annotations(write(tmp_path / "a", "Vessel", "bone"), CLASSES, SLIDE, {"vessel": IGNORE})
    assert set(found) == {IGNORE, "bone"}


def test_unclassified_stands_for_objects_without_a_class_and_for_no_others(tmp_path: Path) -> None:
    aliases = {"unclassified": "bone"}
    assert set(read_annotations(write(tmp_path / "a", None), CLASSES, SLIDE, aliases)) == {"bone"}
    with pytest.raises(UsageError, match="unknown class 'Vessel'"):
        read_annotations(write(tmp_path / "a", "Vessel"), CLASSES, SLIDE, aliases)


def test_the_name_of_an_object_without_a_class_may_mean_one(tmp_path: Path) -> None:
    aliases = {"Kalk": "calcification", "unclassified": "bone"}
    assert set(read_annotations(write(tmp_path / "a", None), CLASSES, SLIDE, aliases)) == {"calcification"}


def test_an_unknown_word_is_an_error_that_lists_known_and_found_ones(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_annotations(write(tmp_path / "a", "Tumor", "Vessel", "bone"), CLASSES, SLIDE, {"vessel": IGNORE})
    assert "use one of normal, bone, calcification or ignore" in str(caught.value)
    assert "the file's words are Tumor, Vessel, bone" in str(caught.value)


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"x": "spam"}, "the alias 'x' means 'spam'; use one of"),
        ({"Bone": "calcification"}, "means calcification and also bone"),
        ({"X": "bone", "x*": "calcification"}, "means calcification and also bone"),
    ],
)
def test_aliases_that_contradict_are_refused(aliases: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("*", r"\*")):
        Vocabulary(CLASSES, aliases)


def test_training_reads_with_the_aliases_of_its_configuration(
    painted: Path, classes: ClassesConfig, tmp_path: Path
) -> None:
    config = TrainConfig(
        name="t",
        intended_use="Tests.",
        classes=classes,
        data=DataConfig(manifest=Path("s.csv"), aliases={"Kalk": "calcification"}),
        tile=TileConfig(size_px=256, mpp=1.0, stride_px=16, margin_px=32),
    )
    record = SlideRecord("s", painted, "p", "calcinosis_cutis", write(tmp_path / "a", "kalk"))
    labelled = open_labelled(record, config)
    labelled.slide.close()
    assert set(labelled.outlines) == {"calcification"}
    bare = replace(record, annotation=write(tmp_path / "b", "Stein"))
    with pytest.raises(UsageError, match=r"or say in `data\.aliases` .* what it means"):
        open_labelled(bare, config)
