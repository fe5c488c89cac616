"""What is said of a cohort as a whole: the numbers it names, and where each sentence begins and ends."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from histo.config import ClassesConfig
from histo.data import cohort_findings
from histo.data.cohort_findings import class_findings, copy_findings, outline_findings, site_findings
from histo.data.findings import Finding
from histo.data.manifest import Rows
from histo.data.records import SlideRecord

CALCIUM, BONE = "calcinosis_cutis", "heterotopic_ossification"


def row(number: int, label: str = "normal", patient: str | None = None, **said: object) -> tuple[int, SlideRecord]:
    """Return a slide of its own patient, on a line of its own."""
    name = f"s{number}"
    return number + 2, SlideRecord(
        name, Path(f"{name}.svs"), f"p{number}" if patient is None else patient, label, **said
    )


def words(findings: Iterable[Finding], place: str) -> str:
    return "; ".join(f.message for f in findings if f.place == place)


@pytest.mark.parametrize(
    ("patients", "learn", "test"),
    [(1, False, False), (2, True, True), (4, True, True), (5, False, True), (19, False, True), (20, False, False)],
)
def test_a_label_of_few_patients_is_told_by_what_it_is_too_few_for(
    patients: int, learn: bool, test: bool, classes: ClassesConfig
) -> None:
    said = words(class_findings([row(n) for n in range(patients)], classes), "label normal")
    assert ("too few to learn from" in said) == learn
    assert ("too few to test on" in said) == test
    assert ("has 1 patient, who can be learnt from or tested on, not both" in said) == (patients == 1)


def test_patients_are_counted_once_and_only_where_they_are_named(classes: ClassesConfig) -> None:
    rows = [row(0), row(1), row(2, patient="p1"), row(3, patient=""), row(4, CALCIUM, patient="")]
    found = list(class_findings(rows, classes))
    assert words(found, "label normal").startswith("has 2 patients, too few to learn from")
    # 0.025 ** (1 / 2)
    assert "if all 2 were right, the sensitivity would be proven only to be above 0.16 " in words(found, "label normal")
    assert words(found, f"label {CALCIUM}") == "", (
        "it has a slide, and that its patient is not named is told by its row"
    )
    assert words(found, f"label {BONE}") == "has no slide; a model cannot learn it"


def test_one_site_for_all_says_nothing_and_one_site_for_a_label_does() -> None:
    alone = [row(0, site="A"), row(1, CALCIUM, site="A"), row(2, CALCIUM)]
    assert list(site_findings(alone)) == []
    (found,) = site_findings([*alone, row(3, site="B")])
    of = "comes from site A as far as it is known, of 1 of 2 slides"
    assert str(found) == f"label {CALCIUM}: {of}; a model may learn the site instead"


def test_slides_with_a_lesion_alone_are_counted_for_their_outlines(classes: ClassesConfig) -> None:
    outlined = row(0, CALCIUM, annotation=Path("s0.geojson"))
    (found,) = outline_findings([outlined, row(1, CALCIUM), row(2, BONE), row(3), row(4)], classes)
    assert found.message == "2 of 3 slides with a lesion have no outlines, only a diagnosis"
    assert list(outline_findings([outlined, row(3)], classes)) == []


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int, float]]:
    """Pairs that count as near copies, empty to begin with."""
    pairs: list[tuple[int, int, float]] = []
    monkeypatch.setattr(cohort_findings, "near_copies", lambda fingerprints: pairs)
    return pairs


@pytest.mark.parametrize(
    ("patient", "likeness", "severity", "said"),
    [
        ("p1", 0.75, "error", "the same scan under two patients"),
        ("p1", 0.74, "warning", "perhaps the same scan under two patients"),
        ("p0", 0.75, "warning", "the same scan of one patient"),
        ("p0", 0.74, "warning", "perhaps the same scan of one patient"),
    ],
)
def test_a_near_copy_is_an_error_only_beyond_doubt_and_between_two_patients(
    patient: str, likeness: float, severity: str, said: str, alike: list[tuple[int, int, float]]
) -> None:
    alike.append((0, 2, likeness))
    (found,) = copy_findings([row(0), row(1), row(2, patient=patient)], [])
    assert (found.severity, found.place) == (severity, "line 4")
    assert found.message.startswith(f"s2 looks like s0 of line 2 (likeness {likeness} of 1): {said}")


@pytest.mark.parametrize(
    ("first", "second", "named"),
    [
        ({}, {}, False),
        ({"twin_of": ""}, {"twin_of": ""}, False),
        ({"twin_of": ""}, {"twin_of": "s0"}, True),
        ({"twin_of": "s1"}, {"twin_of": ""}, True),
        ({"twin_of": "s9"}, {"twin_of": "s9"}, True),
        ({"twin_of": "s8"}, {"twin_of": "s9"}, False),
        ({"varied": "seed=1"}, {"varied": "seed=2"}, True),
        ({"varied": "seed=1"}, {"varied": ""}, False),
    ],
)
def test_only_variants_that_the_manifest_names_may_be_alike(
    first: dict[str, str], second: dict[str, str], named: bool, alike: list[tuple[int, int, float]]
) -> None:
    alike.append((0, 1, 0.9))
    rows: Rows = [row(0, patient="p", extra=first), row(1, patient="p", extra=second)]
    assert (list(copy_findings(rows, [])) == []) == named
