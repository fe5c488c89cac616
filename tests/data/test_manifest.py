"""The manifest: every problem at once with its line, and patients never cross splits."""

import contextlib
import random
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from histo.data.manifest import inspect_manifest, read_manifest
from histo.data.records import SlideRecord
from histo.data.splits import split_by_patient
from histo.errors import UsageError

LABELS = ("normal", "calcinosis_cutis", "heterotopic_ossification")
HEADER = "slide,path,patient,label,annotation,mpp,split,site"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a manifest beside three slides and an annotation."""
    for name in ("a.svs", "b.svs", "c.svs", "a.geojson"):
        (tmp_path / name).write_bytes(name.encode())

    def write(*lines: str, header: str = HEADER, encoding: str = "utf-8", newline: str = "\n") -> Path:
        path = tmp_path / "slides.csv"
        path.write_bytes((newline.join([header, *lines]) + newline).encode(encoding))
        return path

    return write


def problems_of(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_manifest(path, LABELS)
    assert str(caught.value).startswith(f"manifest {path} ")
    return str(caught.value)


# Reading


def test_every_column_is_read(write: Write) -> None:
    path = write("s1,a.svs,p1,calcinosis_cutis,a.geojson,0.25,test,Lund")
    (record,) = read_manifest(path, LABELS)
    folder = path.parent
    assert record == SlideRecord(
        "s1", folder / "a.svs", "p1", "calcinosis_cutis", folder / "a.geojson", 0.25, "test", "Lund"
    )


def test_optional_columns_and_cells_may_be_missing(write: Write) -> None:
    (record,) = read_manifest(write("s1,a.svs,p1,normal", header="slide,path,patient,label"), LABELS)
    assert (record.annotation, record.mpp, record.split, record.site) == (None, None, None, None)
    (short,) = read_manifest(write("s1,a.svs,p1,normal"), LABELS)
    assert short == record


def test_column_order_and_spaces_around_cells_do_not_matter(write: Write) -> None:
    (record,) = read_manifest(write(" normal , p1 , a.svs , s1 ", header="label,patient,path,slide"), LABELS)
    assert (record.slide, record.patient, record.label, record.path.name) == ("s1", "p1", "normal", "a.svs")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_files_from_excel_are_read(encoding: str, newline: str, write: Write) -> None:
    path = write("s1,a.svs,Åsa,normal", "s2,b.svs,p2,normal", encoding=encoding, newline=newline)
    assert [(r.slide, r.patient, r.site) for r in read_manifest(path, LABELS)] == [
        ("s1", "Åsa", None),
        ("s2", "p2", None),
    ]


def test_blank_lines_are_skipped_and_lines_counted_right(write: Write) -> None:
    path = write("", "s1,a.svs,p1,normal", "", "s2,b.svs,p2,wrong")
    assert "line 5: unknown label 'wrong'" in problems_of(path)


def test_paths_count_from_the_manifest_or_are_absolute(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("s1,a.svs,p1,normal")
    monkeypatch.chdir("/")
    assert read_manifest(path, LABELS)[0].path.is_file()
    path = write(f"s1,{path.parent / 'b.svs'},p1,normal")
    assert read_manifest(path, LABELS)[0].path.name == "b.svs"


def test_a_decimal_comma_in_quotes_is_a_scale(write: Write) -> None:
    assert read_manifest(write('s1,a.svs,p1,normal,,"0,25"'), LABELS)[0].mpp == 0.25


# Problems


def test_all_problems_are_reported_at_once_with_their_lines(write: Write) -> None:
    message = problems_of(
        write(
            "s1,a.svs,p1,normal,missing.geojson,,train",
            "s1,b.svs,p2,normal,,,validate",
            ",c.svs,,normal,,abc,",
            "s4,missing.svs,p4,benign",
            "s5,a.svs,p5,,,250,",
            "s6,b.svs,p6,normal",
        )
    )
    for part in (
        "line 2: ", "missing.geojson does not exist",
        "line 3: unknown split 'validate', known are train, validation, test",
        "line 4: no slide", "line 4: no patient", "line 4: mpp 'abc'",
        "line 5: unknown label 'benign', known are normal, calcinosis_cutis, heterotopic_ossification",
        "missing.svs does not exist",
        "line 6: no label", "line 6: mpp '250' is not µm per pixel from 0.05 to 5",
    ):  # fmt: skip
        assert part in message
    assert "line 7: the same path as in line 3" in message


@pytest.mark.parametrize("column", ["slide", "path", "patient", "label"])
def test_a_blank_required_cell_is_a_problem(column: str, write: Write) -> None:
    cells = {"slide": "s1", "path": "a.svs", "patient": "p1", "label": "normal", column: "  "}
    assert f"line 2: no {column}" in problems_of(write(",".join(cells.values())))


def test_the_same_slide_or_file_twice_is_a_problem(write: Write) -> None:
    message = problems_of(write("s1,a.svs,p1,normal", "s1,b.svs,p1,normal", "s3,./a.svs,p2,normal"))
    assert "line 3: the same slide as in line 2" in message
    assert "line 4: the same path as in line 2" in message


def test_the_same_file_under_a_link_is_a_problem(write: Write) -> None:
    path = write("s1,a.svs,p1,normal", "s2,link.svs,p2,normal")
    (path.parent / "link.svs").symlink_to("a.svs")
    assert "line 3: the same path" in problems_of(path)


def test_the_same_content_under_two_names_is_a_problem(write: Write) -> None:
    """A copy lets one slide be trained on under one patient and tested on under another."""
    path = write("s1,a.svs,p1,normal", "s2,copy.svs,p2,normal")
    (path.parent / "copy.svs").write_bytes((path.parent / "a.svs").read_bytes())
    assert "line 3: the same content as in line 2" in problems_of(path)


def test_codes_that_are_one_number_are_told(write: Write) -> None:
    # Bug: 007 in one row and 7 in another, as Excel leaves it, were two patients, one on each side, and nobody said so.
    path = write("s1,a.svs,007,normal", "s2,b.svs,7,normal", "s3,c.svs,7.0,normal", "s1b,a.geojson,70,normal")
    told = [str(f) for f in inspect_manifest(path, LABELS)[1] if f.kind == "spelling"]
    assert len(told) == 2
    assert "patient '7' is '007' in line 2 as a number; are these one patient?" in told[0]


def test_a_patient_over_two_splits_is_a_problem(write: Write) -> None:
    message = problems_of(
        write("s1,a.svs,p1,normal,,,train", "s2,b.svs,p1,normal,,,test", "s3,c.svs,p2,normal,,,train")
    )
    assert "patient p1: is in test and train (lines 2, 3)" in message
    assert "p2" not in message


def test_a_patient_with_a_split_on_one_line_and_none_on_another_is_no_way_across(write: Write) -> None:
    """Drawing the free line could train on a patient of the test set."""
    path = write("s1,a.svs,p1,normal,,,test", "s2,b.svs,p1,normal,,,", "s3,c.svs,p2,normal,,,")
    for seed in range(20):
        try:
            train, held_out = split_by_patient(read_manifest(path, LABELS), 0.5, seed)
        except UsageError:
            continue
        assert "p1" not in {r.patient for r in (*train, *held_out)}


@pytest.mark.parametrize("cell", ["a" * 300, "nul\0.svs", "folder", "."])
def test_a_path_that_no_file_can_have_is_a_problem(cell: str, write: Write) -> None:
    path = write(f"s1,{cell},p1,normal")
    (path.parent / "folder").mkdir()
    assert "line 2: " in problems_of(path)


def test_a_line_with_more_cells_than_columns_is_a_problem(write: Write) -> None:
    """A decimal comma without quotes shifts every cell after it: 1,25 µm/px becomes 1."""
    assert "line 2" in problems_of(write("s1,a.svs,p1,normal,1,25", header="slide,path,patient,label,mpp"))


def test_a_column_that_stands_twice_is_a_problem(write: Write) -> None:
    message = problems_of(write("s1,a.svs,p1,normal,calcinosis_cutis", header="slide,path,patient,label,label"))
    assert "has the column(s) label twice" in message


@pytest.mark.parametrize("column", ["Split", " split", "split "])
def test_a_column_that_is_almost_a_known_one_is_not_overlooked(column: str, write: Write) -> None:
    """Overlooking `Split` would move the test slides into training without a word."""
    path = write("s1,a.svs,p1,normal,test", header=f"slide,path,patient,label,{column}")
    with contextlib.suppress(UsageError):
        (found,) = read_manifest(path, LABELS)
        assert found.split == "test"


@pytest.mark.parametrize(
    ("column", "meant", "value"),
    [
        ("annotations", "annotation", "a.geojson"),
        ("mpp_um", "mpp", "0.25"),
        ("fold", "split", "test"),
        ("contours", "annotation", "a.geojson"),
    ],
)
def test_a_column_that_looks_like_one_of_ours_is_told(column: str, meant: str, value: str, write: Write) -> None:
    """Regression: slides marked `test` in a column `splits` were trained on without a word."""
    path = write(f"s1,a.svs,p1,normal,{value}", header=f"slide,path,patient,label,{column}")
    said: list[str] = []
    read_manifest(path, LABELS, said.append)
    assert any(f"{column} is taken as a column of your own; if {meant} is meant" in line for line in said)


def test_an_empty_column_of_ours_beside_one_that_looks_like_it_is_told(write: Write) -> None:
    """Regression: `histo manifest make` writes every column, so that a `set` beside its empty `split` was not told."""
    path = write("s1,a.svs,p1,normal,,test", header="slide,path,patient,label,split,set")
    said: list[str] = []
    read_manifest(path, LABELS, said.append)
    assert any("set is taken as a column of your own; if split is meant" in line for line in said)


def test_a_site_is_spelt_one_way(write: Write) -> None:
    """Regression: Graz and GRAZ were two hospitals, one of which was held out as never seen."""
    rows = ["s1,a.svs,p1,normal,Graz", "s2,b.svs,p2,normal,GRAZ "]
    problems = problems_of(write(*rows, header="slide,path,patient,label,site"))
    assert "site 'GRAZ' is 'Graz' in line 2; spell a site one way" in problems


def test_a_patient_is_spelt_one_way(write: Write) -> None:
    """Lee and LEE would be two persons, one to learn from and one to be judged."""
    problems = problems_of(write("s1,a.svs,Lee,normal", "s2,b.svs,LEE,normal"))
    assert "line 3: patient 'LEE' is 'Lee' in line 2; spell a patient one way" in problems


def test_what_is_spelt_one_way_is_not_told(write: Write) -> None:
    """One patient on two lines, codes that merely begin alike, and a patient called as another's hospital."""
    rows = (
        "s1,a.svs,7,normal,Graz",
        "s2,b.svs,7,normal,Graz",
        "s3,c.svs,7a,normal,Graz",
        "s4,a.geojson,GRAZ,normal,Graz",
    )
    said: list[str] = []
    read_manifest(write(*rows, header="slide,path,patient,label,site"), LABELS, said.append)
    assert said == []


def test_columns_of_phantoms_are_no_other_names_of_ours(write: Write) -> None:
    """Regression: `domain`, which says train for all of them, was taken for a misnamed `split`; so were other words."""
    said: list[str] = []
    for cells, columns in (("train", "domain"), ("Lee,left", "annotator,side")):
        path = write(f"s1,a.svs,p1,normal,{cells}", header=f"slide,path,patient,label,{columns}")
        read_manifest(path, LABELS, said.append)
    assert not said


def test_a_row_of_blanks_is_no_row_and_a_folder_is_told_as_one(write: Write) -> None:
    """Regression: both were told as something else."""
    (write().parent / "folder").mkdir()
    problems = problems_of(write("   ", " , , , ", "s1,folder,p1,normal"))
    assert "has 1 problem(s)" in problems
    assert "folder is a folder; name the file in it" in problems


def test_a_column_without_a_name_is_told_when_it_holds_something(write: Write) -> None:
    """Regression: its cells vanished from `histo manifest split` without a word."""
    told: list[str] = []
    read_manifest(write("s1,a.svs,p1,normal,x", header="slide,path,patient,label,"), LABELS, told.append)
    assert "column 5 has no name and is not read" in told[0]
    read_manifest(write("s1,a.svs,p1,normal,", header="slide,path,patient,label,"), LABELS, told.append)
    assert len(told) == 1


def test_other_columns_are_the_user_s_own(write: Write) -> None:
    assert read_manifest(write("s1,a.svs,p1,normal,x", header="slide,path,patient,label,stain"), LABELS)


@pytest.mark.parametrize("separator", [";", "\t"])
def test_another_separator_is_named_as_missing_columns(separator: str, write: Write) -> None:
    message = problems_of(write("s1;a.svs;p1;normal", header=HEADER.replace(",", separator)))
    assert "lacks the column(s) slide, path, patient, label" in message
    assert "separated by commas" in message


@pytest.mark.parametrize("content", [b"", b"\n", b"slide,path\n"], ids=["empty", "newline", "half-header"])
def test_a_file_without_the_header_says_which_columns_it_lacks(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "slides.csv").write_bytes(content)
    assert "lacks the column(s)" in problems_of(tmp_path / "slides.csv")


def test_a_header_without_slides_is_a_problem(write: Write) -> None:
    assert "lists no slides" in problems_of(write())


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named(encoding: str, write: Write) -> None:
    assert "is not a UTF-8 CSV file" in problems_of(write("s1,a.svs,Åsa,normal", encoding=encoding))


def test_an_endless_cell_is_no_csv(write: Write) -> None:
    assert "CSV" in problems_of(write(f's1,"{"x" * 200_000}",p1,normal'))


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_opened_is_named(name: str, tmp_path: Path) -> None:
    assert "cannot be read" in problems_of(tmp_path / name)


# Splitting


def record(number: int, patient: str, label: str = "normal", split: str | None = None) -> SlideRecord:
    return SlideRecord(f"s{number}", Path(f"{number}.svs"), patient, label, split=split)


@st.composite
def cohorts(draw: st.DrawFn) -> list[SlideRecord]:
    labels = draw(st.lists(st.sampled_from(LABELS), min_size=2, max_size=40))
    count = draw(st.integers(2, 15))
    fixed = {p: draw(st.sampled_from([None, None, None, "train", "validation", "test"])) for p in range(count)}
    patients = [draw(st.integers(0, count - 1)) for _ in labels]
    return [record(n, f"p{p}", label, fixed[p]) for n, (p, label) in enumerate(zip(patients, labels, strict=True))]


shares = st.floats(0.05, 0.95)


@given(cohorts(), shares, st.integers(0, 5))
@settings(deadline=None)
def test_no_patient_is_split_and_no_slide_lost_or_doubled(records: list[SlideRecord], share: float, seed: int) -> None:
    try:
        train, held_out = split_by_patient(records, share, seed)
    except UsageError:
        return
    assert not {r.patient for r in train} & {r.patient for r in held_out}
    assert sorted(r.slide for r in train + held_out) == sorted(r.slide for r in records if r.split != "test")
    assert all(r.split in (None, "train") for r in train)
    assert all(r.split in (None, "validation") for r in held_out)


@given(cohorts(), shares, st.integers(0, 5))
@settings(deadline=None, max_examples=300)
def test_every_label_is_on_both_sides_or_the_split_is_refused(
    records: list[SlideRecord], share: float, seed: int
) -> None:
    try:
        train, held_out = split_by_patient(records, share, seed)
    except UsageError:
        return
    labels = {r.label for r in records if r.split != "test"}
    assert {r.label for r in train} == labels
    assert {r.label for r in held_out} == labels


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 0.95])
def test_two_patients_a_label_are_enough_for_any_share(share: float) -> None:
    records = [record(n, f"p{n}", LABELS[n % 3]) for n in range(6)]
    train, held_out = split_by_patient(records, share, seed=0)
    assert {r.label for r in train} == {r.label for r in held_out} == set(LABELS)


def test_a_label_with_one_patient_is_refused_by_name() -> None:
    records = [record(n, f"p{n}") for n in range(5)] + [record(9, "p9", "calcinosis_cutis")]
    with pytest.raises(UsageError, match="calcinosis_cutis has 1 patient"):
        split_by_patient(records, 0.2, 0)


def test_one_free_patient_is_fine_where_the_fixed_splits_give_the_rest() -> None:
    records = [record(n, f"p{n}", split=s) for n, s in enumerate(["train", "train", "validation"])]
    train, held_out = split_by_patient([*records, record(7, "p7")], 0.2, 0)
    assert len(train) + len(held_out) == 4


def test_fixed_splits_that_leave_a_label_out_on_one_side_are_refused() -> None:
    records = [record(n, f"p{n}", split=s) for n, s in enumerate(["train", "validation"])]
    records.append(record(5, "p5", "calcinosis_cutis", "validation"))
    with pytest.raises(UsageError, match="calcinosis_cutis"):
        split_by_patient(records, 0.2, 0)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_side_without_slides_is_refused(split: str) -> None:
    with pytest.raises(UsageError):
        split_by_patient([record(n, f"p{n}", split=split) for n in range(4)], 0.2, 0)


def test_the_split_is_stratified() -> None:
    records = [record(n, f"p{n}", LABELS[n % 3]) for n in range(60)]
    _, held_out = split_by_patient(records, 0.2, 3)
    count: dict[str, int] = defaultdict(int)
    for r in held_out:
        count[r.label] += 1
    assert dict(count) == dict.fromkeys(LABELS, 4)


def test_the_split_depends_on_the_seed_alone_not_on_the_order() -> None:
    records = [record(n, f"p{n % 17}", LABELS[n % 17 % 3]) for n in range(60)]
    shuffled = records[:]
    random.Random(5).shuffle(shuffled)

    def held_out(rows: list[SlideRecord], seed: int) -> set[str]:
        return {r.patient for r in split_by_patient(rows, 0.3, seed)[1]}

    assert held_out(records, 1) == held_out(records, 1) == held_out(shuffled, 1)
    assert len({frozenset(held_out(records, seed)) for seed in range(6)}) > 1
