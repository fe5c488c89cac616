"""What a cohort promises: a balanced, patient-consistent, resumable set whatever the number of workers."""

import csv
import json
from collections import Counter
from pathlib import Path

from histo.phantom import make_cohort, make_slide
from histo.phantom.cohort import HEADER, plan_cohort

SIZE = (1000, 1000)


def test_kinds_are_dealt_in_the_stated_shares() -> None:
    jobs = plan_cohort(40, 7)
    assert Counter(j.kind for j in jobs) == {
        "normal": 10,
        "confounder": 8,
        "calcinosis_cutis": 10,
        "heterotopic_ossification": 8,
        "mixed": 4,
    }
    per_patient = Counter(j.patient for j in jobs)
    assert set(per_patient.values()) <= {1, 2, 3}
    assert max(per_patient.values()) > 1
    assert len({(j.patient, j.patient_seed) for j in jobs}) == len(per_patient)


def test_manifest_is_resumed_and_workers_do_not_matter(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    manifest = make_cohort(
        tmp_path / "a", slides=4, seed=2, size_px=SIZE, workers=2, progress=lambda d, n: told.append((d, n))
    )
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    with manifest.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == HEADER
    for row in rows:
        assert (manifest.parent / row["path"]).is_file()
        assert (manifest.parent / row["annotation"]).is_file()
    before = {p.name: p.stat().st_mtime_ns for p in manifest.parent.glob("*.svs")}
    (manifest.parent / rows[1]["path"].replace(".svs", ".json")).unlink()
    make_cohort(tmp_path / "a", slides=4, seed=2, size_px=SIZE, workers=1)
    after = {p.name: p.stat().st_mtime_ns for p in manifest.parent.glob("*.svs")}
    assert {n for n in before if before[n] != after[n]} == {rows[1]["path"]}

    # What a worker process made is what a plain call makes.
    job = plan_cohort(4, 2)[0]
    alone = make_slide(tmp_path, job.name, kind=job.kind, seed=job.seed, size_px=SIZE, patient_seed=job.patient_seed)
    for made in (alone.slide, alone.mask, alone.geojson, alone.json):
        assert (manifest.parent / made.name).read_bytes() == made.read_bytes(), made.name


def test_slides_of_one_patient_share_stain_and_fibres(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path, slides=6, seed=11, size_px=SIZE, workers=1)
    with manifest.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    records = {r["slide"]: json.loads((tmp_path / f"{r['slide']}.json").read_text()) for r in rows}
    for one in rows:
        for two in rows:
            a, b = records[one["slide"]], records[two["slide"]]
            same = one["patient"] == two["patient"]
            assert (a["stain"]["eosin"] == b["stain"]["eosin"]) == same
            assert (a["tissue"]["bundle_um"] == b["tissue"]["bundle_um"]) == same
