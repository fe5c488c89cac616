"""A cohort's specification: what is written wrong is told with its dotted path."""

from pathlib import Path
from typing import Any

import pytest

from histo.errors import UsageError
from histo.phantom.cohort import plan_cohort
from histo.phantom.spec import load_spec, spec_from

EXAMPLE = Path(__file__).parents[2] / "configs" / "cohort.yaml"


@pytest.mark.parametrize(
    ("group", "sentence"),
    [
        ({"slides": 4, "kindz": 1}, r"`groups.0.kindz` unknown key"),
        ({"slides": 4, "size_px": "400x4000"}, r"`groups.0.size_px.0.0` .*greater than or equal to 1000"),
        ({"slides": 4, "size_px": "large"}, r"'large' is no size in pixels"),
        (
            {"slides": 4, "size_px": {"least": 2000, "mst": 3}},
            r"`groups.0.size_px.most` .*; `groups.0.size_px.mst` unk",
        ),
        ({"slides": 4, "size_px": {"least": 4000, "most": 3000}}, r"`groups.0.size_px` least \(4000\) must not be"),
        ({"slides": 4, "size_px": []}, r"`groups.0.size_px`"),
        ({"slides": 4, "slides_per_patient": {"least": 0, "most": 2}}, r"`groups.0.slides_per_patient.least`"),
        ({"slides": 4, "slides_per_patient": {"least": 3, "most": 2}}, r"least \(3\) must not be above most \(2\)"),
        ({"slides": 4, "slides_per_patient": 0}, r"`groups.0.slides_per_patient`"),
        ({"slides": 4, "kinds": {"wart": 1}}, r"unknown phantom kind 'wart'"),
        ({"slides": 4, "kinds": {"bone": -1}}, r"`groups.0.kinds.bone`"),
        ({"slides": 4, "kinds": {"bone": 0}}, r"must not all be 0"),
        ({"slides": 4, "kinds": "confounder:tophus"}, r"tophus is kept from the training domain"),
        ({"slides": 4, "domain": "moon"}, r"`groups.0.domain` unknown phantom domain 'moon'"),
        ({"slides": 4, "mpp": 40}, r"`groups.0.mpp`"),
        ({"slides": 4, "overrides": {"bone.colour": 1}}, r"unknown override 'bone.colour'; bone has canals_mm2"),
        ({"slides": 4, "vary": {"bone.h": [0.1, "x"]}}, r"bone.h must be a number"),
        ({"slides": 4, "vary": {"bone.h": []}}, r"vary needs at least one value"),
        ({"slides": 4, "vary": {"bone.h": [0.1, 0.1]}}, r"vary gives bone.h one value twice"),
        ({"slides": 4, "patients": 3}, r"either slides or patients"),
        ({}, r"either slides or patients"),
        ({"slides": 4, "kind_of": "patient"}, r"kind_of: patient needs patients"),
        ({"slides": 4, "twins": True, "lesions": False}, r"nothing to pair"),
        ({"slides": 4, "split": "dev"}, r"`groups.0.split`"),
    ],
)
def test_wrong_groups_are_refused(group: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError, match=rf"^c\.yaml: .*{sentence}"):
        spec_from({"groups": [group]}, "c.yaml")


def test_wrong_wholes_are_refused(tmp_path: Path) -> None:
    for tree, sentence in (
        ({"groups": []}, "at least one group"),
        ({"seed": 1}, "`groups` Field required"),
        ({"groups": [{"slides": 1}], "sede": 1}, "`sede` unknown key"),
        ({"groups": [{"slides": 1}] * 2}, "group names must be unique"),
        ({"groups": [{"slides": 1}], "seed": -1}, "`seed`"),
    ):
        with pytest.raises(UsageError, match=sentence):
            spec_from(tree, "c.yaml")
    with pytest.raises(UsageError, match="cannot be read"):
        load_spec(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("seed: 1\nseed: 2\n")
    with pytest.raises(UsageError, match="stands twice"):
        load_spec(tmp_path / "c.yaml")
    (tmp_path / "c.yaml").write_text("just words")
    with pytest.raises(UsageError, match=r"see configs/cohort\.yaml"):
        load_spec(tmp_path / "c.yaml")


def test_the_example_is_valid_and_shows_every_key() -> None:
    spec = load_spec(EXAMPLE)
    jobs = plan_cohort(spec)
    assert {j.group for j in jobs} == {g.name for g in spec.groups}
    assert [j.twin_of for j in jobs if j.group == "twins"][1::2] == [j.name for j in jobs if j.group == "twins"][::2]
    text = EXAMPLE.read_text()
    for key in type(spec.groups[0]).model_fields:
        assert f"{key}:" in text or key == "lesions", key
