"""What a cohort promises: a balanced, patient-consistent, resumable set whatever the number of workers."""

import csv
import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from histo.data.manifest import read_manifest
from histo.errors import UsageError
from histo.phantom import LOOK_ALIKES, load_spec, make_cohort, make_from_spec, make_slide
from histo.phantom.cohort import HEADER, Job, plan_cohort
from histo.phantom.spec import spec_from

SIZE = (1000, 1000)
LABELS = ("normal", "calcinosis_cutis", "heterotopic_ossification")


def planned(seed: int = 7, **group: Any) -> list[Job]:
    return plan_cohort(spec_from({"seed": seed, "groups": [group]}, "test"))


def rows_of(manifest: Path) -> list[dict[str, str]]:
    with manifest.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_kinds_are_dealt_in_the_stated_shares() -> None:
    jobs = planned(slides=40)
    assert Counter(j.asked["kind"] for j in jobs) == {
        "normal": 10,
        "confounder": 8,
        "calcinosis_cutis": 10,
        "heterotopic_ossification": 8,
        "mixed": 4,
    }
    per_patient = Counter(j.patient for j in jobs)
    assert set(per_patient.values()) <= {1, 2, 3}
    assert max(per_patient.values()) > 1
    assert len({(j.patient, j.asked["patient_seed"]) for j in jobs}) == len(per_patient)
    assert len({j.asked["seed"] for j in jobs}) == 40


def test_groups_draw_apart_and_share_one_numbering() -> None:
    """A group that grows must not change the slides of the others."""
    first = {"name": "a", "patients": 4, "kinds": "bone", "split": "train"}
    second = {"name": "b", "slides": 5, "kinds": {"confounder:tophus": 1, "normal": 4}, "domain": "shift"}
    jobs = plan_cohort(spec_from({"groups": [first, second]}, "test"))
    longer = plan_cohort(spec_from({"groups": [first | {"patients": 6}, second]}, "test"))

    def drawn(some: list[Job]) -> list[Any]:
        return [j.asked for j in some if j.group == "b"]

    assert drawn(jobs) == drawn(longer)
    assert [j.name for j in jobs] == [f"phantom_{k:04d}" for k in range(len(jobs))]
    assert not {j.patient for j in jobs if j.group == "a"} & {j.patient for j in jobs if j.group == "b"}
    assert {j.split for j in jobs if j.group == "a"} == {"train"}
    assert Counter(j.asked["kind"] for j in jobs if j.group == "b") == {"confounder:tophus": 1, "normal": 4}


def test_patients_may_have_one_kind_only() -> None:
    jobs = planned(patients=12, kind_of="patient", slides_per_patient=3)
    kinds = {p: {j.asked["kind"] for j in jobs if j.patient == p} for p in {j.patient for j in jobs}}
    assert len(jobs) == 36
    assert len(kinds) == 12
    assert all(len(k) == 1 for k in kinds.values())
    assert Counter(next(iter(k)) for k in kinds.values())["normal"] == 3


def test_sizes_are_fixed_listed_or_drawn() -> None:
    assert {tuple(j.asked["size_px"]) for j in planned(slides=3, size_px="2000x1500")} == {(2000, 1500)}
    listed = {tuple(j.asked["size_px"]) for j in planned(slides=30, size_px=[2000, "3000x2000"])}
    assert listed == {(2000, 2000), (3000, 2000)}
    drawn = [j.asked["size_px"] for j in planned(slides=30, size_px={"least": 2000, "most": 4000})]
    assert len({w for w, _ in drawn}) > 5
    assert all(2000 <= w == h <= 4000 for w, h in drawn)


def test_variants_and_twins_share_everything_else() -> None:
    jobs = planned(slides=2, kinds="calcium", twins=True, vary={"calcium.diameter_um": [50, 500]})
    assert [j.name for j in jobs[:4]] == ["phantom_0000_v0", "phantom_0000_v0_twin", "phantom_0000_v1",
                                          "phantom_0000_v1_twin"]  # fmt: skip
    assert [j.twin_of for j in jobs[:2]] == ["", "phantom_0000_v0"]
    assert [j.varied for j in jobs[:3:2]] == ["calcium.diameter_um=50", "calcium.diameter_um=500"]
    assert [j.row[3] for j in jobs[:2]] == ["calcinosis_cutis", "normal"]
    same = [{k: v for k, v in j.asked.items() if k not in ("lesions", "overrides")} for j in jobs[:4]]
    assert same[0] == same[1] == same[2] == same[3]
    assert not [j for j in planned(slides=9, kinds="confounder", twins=True) if j.twin_of]


def test_manifest_is_resumed_and_workers_do_not_matter(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = make_cohort(
        tmp_path / "a", slides=4, seed=2, size_px=SIZE, workers=2, progress=lambda d, n: told.append((d, n))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    rows = rows_of(manifest)
    assert tuple(rows[0]) == HEADER
    assert {r.label for r in read_manifest(manifest, LABELS)} <= set(LABELS)
    for row in rows:
        for column in ("path", "annotation", "mask"):
            assert (manifest.parent / row[column]).is_file()
    before = {p.name: p.stat().st_mtime_ns for p in manifest.parent.glob("*.svs")}
    (manifest.parent / rows[1]["path"].replace(".svs", ".json")).unlink()
    make_cohort(tmp_path / "a", slides=4, seed=2, size_px=SIZE, workers=1)
    after = {p.name: p.stat().st_mtime_ns for p in manifest.parent.glob("*.svs")}
    assert {n for n in before if before[n] != after[n]} == {rows[1]["path"]}

    # What a worker process made is what a plain call makes.
    job = planned(2, slides=4)[0]
    seeds = {k: job.asked[k] for k in ("kind", "seed", "patient_seed")}
    alone = make_slide(tmp_path, job.name, size_px=SIZE, **seeds)
    for made in (alone.slide, alone.mask, alone.geojson, alone.json):
        assert (manifest.parent / made.name).read_bytes() == made.read_bytes(), made.name


def test_slides_of_another_cohort_are_not_lost(tmp_path: Path) -> None:
    """Regression: a second cohort in the folder of a first took the place of its slides without a word."""
    spec = tmp_path / "cohort.yaml"

    def write(form: str) -> None:
        spec.write_text(
            "seed: 4\ngroups:\n"
            "  - {name: plain, slides: 1, kinds: normal, size_px: 1000}\n"
            f"  - {{name: calcium, slides: 1, kinds: calcium, size_px: 1000, overrides: {{calcium.form: {form}}}}}\n"
        )

    write("solid")
    folder = tmp_path / "out"
    make_from_spec(folder, load_spec(spec), workers=1)
    before = {p.name: p.stat().st_mtime_ns for p in folder.iterdir()}
    write("granular")
    with pytest.raises(UsageError, match=r"holds another cohort \(phantom_0001 differs in overrides\)"):
        make_from_spec(folder, load_spec(spec), workers=1)
    assert {p.name: p.stat().st_mtime_ns for p in folder.iterdir()} == before


def test_a_manifest_that_was_edited_is_not_overwritten(tmp_path: Path) -> None:
    """Regression: a patient, or a column, that was put in by hand was gone without a word."""
    manifest = make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)
    whole = manifest.read_text()
    added = whole + "mine,real.svs,Müller,normal" + "," * 9 + "\n"  # Bug: a row of another slide was gone, too
    for edited in (
        *(text.encode() for text in (whole.replace("patient_0000", "Mrs_X"), whole.replace("slide,", "slide,age,", 1))),
        added.encode(),
        added.encode("cp1252"),  # Bug: ended in a traceback
    ):
        manifest.write_bytes(edited)
        with pytest.raises(UsageError, match=r"slides.csv was changed since it was made; move it away"):
            make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)
        assert manifest.read_bytes() == edited
    manifest.write_text(whole)
    make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)


def test_a_manifest_from_which_a_slide_was_taken_out_is_not_overwritten(tmp_path: Path) -> None:
    """Regression: the same command put the slide back, without a word."""
    manifest = make_cohort(tmp_path, slides=2, seed=2, size_px=SIZE, workers=1)
    header, first, second = manifest.read_text().splitlines(keepends=True)
    manifest.write_text(header + second)
    with pytest.raises(UsageError, match=r"slides.csv was changed since it was made"):
        make_cohort(tmp_path, slides=2, seed=2, size_px=SIZE, workers=1)
    manifest.write_text(header + first)
    make_cohort(tmp_path, slides=2, seed=2, size_px=SIZE, workers=1)


def test_a_cohort_may_get_twins_afterwards(tmp_path: Path) -> None:
    group = {"kinds": {"calcium": 1}, "slides": 1, "size_px": list(SIZE)}
    for twins in (False, True):
        groups = [group | {"twins": twins, "name": name} for name in ("one", "two")]
        manifest = make_from_spec(tmp_path, spec_from({"seed": 2, "groups": groups}, "test"), workers=1)
        with open(manifest, encoding="utf-8", newline="") as file:
            assert sum(bool(row["twin_of"]) for row in csv.DictReader(file)) == 2 * twins


def test_a_number_with_which_no_slide_can_be_made_ends_in_a_sentence(tmp_path: Path) -> None:
    # Bug: a traceback (float division by zero).
    group = {"slides": 1, "size_px": list(SIZE), "overrides": {"tissue.bundle_um": 0.0}}
    with pytest.raises(UsageError, match=r"phantom_0000 cannot be made with tissue.bundle_um=0.0 \(.*\); take other"):
        make_from_spec(tmp_path, spec_from({"seed": 2, "groups": [group]}, "test"), workers=1)


def test_slides_of_an_older_format_are_made_again(tmp_path: Path) -> None:
    make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)
    record = tmp_path / "phantom_0000.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"format": 0}))
    make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)
    assert json.loads(record.read_text())["format"] > 0


@pytest.mark.parametrize("end", ["svs", "mask.tif", "geojson"])
def test_a_file_that_was_cut_off_is_made_again(end: str, tmp_path: Path) -> None:
    """Regression: a slide was whole when its files existed, however short a full disk had left them."""
    make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)
    path = tmp_path / f"phantom_0000.{end}"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    make_cohort(tmp_path, slides=1, seed=2, size_px=SIZE, workers=1)
    assert path.read_bytes() == whole


def test_a_killed_cohort_goes_on(tmp_path: Path) -> None:
    """Regression: workers of a killed cohort waited for work for ever. Half-written files are cleared away, too."""
    command = [sys.executable, "-m", "histo.cli", "phantom", "out", "--slides", "4", "--size", "1000", "--workers", "2"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert "/4 slides" in process.stdout.readline()
        process.kill()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _group_lives(process.pid):
        time.sleep(0.1)
    assert not _group_lives(process.pid), "workers outlive their parent"
    done = {p.stem for p in (tmp_path / "out").glob("*.json")}
    assert 0 < len(done) < 4
    (tmp_path / "out" / ".phantom_0003.svs.1.tmp").write_text("half a slide")
    kept = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.svs") if p.stem in done}
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert f"{len(done)}/4 slides" in again.stdout.splitlines()[0]
    assert all((tmp_path / "out" / name).stat().st_mtime_ns == when for name, when in kept.items())
    assert not list((tmp_path / "out").glob(".*"))
    assert len(rows_of(tmp_path / "out" / "slides.csv")) == 4


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_slides_of_one_patient_share_stain_and_fibres(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path, slides=6, seed=11, size_px=SIZE, workers=1)
    rows = rows_of(manifest)
    records = {r["slide"]: json.loads((tmp_path / f"{r['slide']}.json").read_text()) for r in rows}
    for one in rows:
        for two in rows:
            a, b = records[one["slide"]], records[two["slide"]]
            same = one["patient"] == two["patient"]
            for part, name in (("stain", "eosin"), ("stain", "gamma"), ("tissue", "bundle_um"), ("tissue", "fine_um")):
                assert (a[part][name] == b[part][name]) == same, name
            assert (a["surface_angle"] == b["surface_angle"]) == (one is two)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_a_slide_of_one_look_alike_holds_no_other(name: str, tmp_path: Path) -> None:
    files = make_slide(tmp_path, "s", kind=f"confounder:{name}", seed=3, size_px=(1600, 1600), domain="shift")
    record = json.loads(files.json.read_text())
    named = {k for k, area in record["areas_mm2"].items() if area > 0}
    assert named <= {name}
    assert named or name not in record["mask_ids"]
    assert {r["name"] for r in record["regions"]} | set(record["artefacts"]) == {name}
    assert files.label == "normal"
    assert set(np.unique(tifffile.imread(files.mask))) <= {0, record["mask_ids"].get(name, 0)}
