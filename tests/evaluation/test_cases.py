import json
import shutil
from dataclasses import replace

import pytest

from histo.errors import SlideFailed, UsageError
from histo.evaluation.cases import NO_VERDICT, read_cohort, verdicts_in


def test_every_slide_has_its_case_whatever_became_of_it(make_cohort, made):
    slides = [
        made("normal", "normal"),
        made("normal", "calcinosis_cutis", "review"),
        made("calcinosis_cutis", None, "refused"),
        made("heterotopic_ossification", None, "missing"),
    ]
    cohort = read_cohort(*make_cohort(slides))
    assert [c.status for c in cohort.cases] == ["done", "review", "refused", "missing"]
    assert [c.called for c in cohort.cases] == ["normal", "calcinosis_cutis", "no verdict", "no verdict"]
    assert [c.right for c in cohort.cases] == [True, False, False, False]
    assert cohort.called.tolist() == [0, 2, 3, 3]
    assert cohort.patients == ["p0", "p1", "p2", "p3"]


def test_a_missing_patient_is_kept_and_any_other_problem_refused(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal", patient=""), made("normal", "normal")])
    assert read_cohort(out, manifest).patients == [None, "p1"]
    manifest.write_text(manifest.read_text().replace(",normal,", ",healthy,"))
    with pytest.raises(UsageError, match="unknown label"):
        read_cohort(out, manifest)


def test_the_test_slides_are_judged_where_some_are_marked(make_cohort, made):
    slides = [made("normal", "normal", extra=(("split", s),)) for s in ("train", "test", "test")]
    out, manifest = make_cohort(slides)
    cohort = read_cohort(out, manifest)
    assert len(cohort.cases) == 2
    assert cohort.set_aside == {"train": 1}
    assert cohort.foreign == 0
    assert len(read_cohort(out, manifest, "train").cases) == 1
    with pytest.raises(UsageError, match="no slide of split validation"):
        read_cohort(out, manifest, "validation")


def test_results_of_other_slides_with_the_same_names_are_not_taken(make_cohort, made, tmp_path):
    """Regression: phantom cohorts share their names, and one was judged by the truth of the other without a word."""
    out, manifest = make_cohort([made("normal", "normal")] * 3)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("s0", "s1", "s2"):
        (other / f"{name}.svs").write_bytes(f"another {name}".encode())
    (other / "slides.csv").write_text(manifest.read_text())
    with pytest.raises(UsageError, match="no result of a slide"):
        read_cohort(out, other / "slides.csv")
    (other / "s1.svs").write_bytes((manifest.parent / "s1.svs").read_bytes())
    cohort = read_cohort(out, other / "slides.csv")
    assert [c.status for c in cohort.cases] == ["missing", "done", "missing"]
    assert cohort.foreign == 2


def test_a_slide_that_was_replaced_since_its_result_is_refused(make_cohort, made):
    """Regression: a cohort made anew under the same paths was judged by the results of the slides before."""
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    assert all(c.result for c in read_cohort(out, manifest).cases)
    (manifest.parent / "s1.svs").write_bytes(b"another slide")
    with pytest.raises(UsageError, match=r"s1.svs is another file than the one .* run histo infer on it again"):
        read_cohort(out, manifest)


def test_what_a_killed_run_left_behind_is_no_result(make_cohort, made):
    # Bug: a half-written folder counted as a second result of a slide, which then had none by its name.
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    shutil.copytree(out / "slides" / "s0", out / "slides" / ".tmp-s0~old")
    for file in out.glob("slides/*/result.json"):
        file.write_text(file.read_text().replace(str(manifest.parent), "/elsewhere"))
    cohort = read_cohort(out, manifest)
    assert all(c.result for c in cohort.cases)
    assert cohort.foreign == 0


def test_a_scale_that_the_user_gave_is_that_of_every_second_look(make_cohort, made):
    # Bug: slides examined with --mpp-if-missing had no scale for judges that read them again, which were then wrong.
    out, manifest = make_cohort([made("normal", "normal")])
    (case,) = read_cohort(out, manifest).cases
    assert case.as_examined.mpp is None
    pyramid = replace(case.result.pyramid, scale_source="user", mpp_x=0.4)
    assert replace(case, result=replace(case.result, pyramid=pyramid)).as_examined.mpp == 0.4


def test_results_of_moved_slides_are_found_by_name(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    for file in out.glob("slides/*/result.json"):
        file.write_text(file.read_text().replace(str(manifest.parent), "/elsewhere"))
    assert all(c.result for c in read_cohort(out, manifest).cases)


def test_results_of_two_models_are_never_mixed(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    file = out / "slides" / "s1" / "result.json"
    file.write_text(file.read_text().replace("ab" * 32, "ef" * 32))
    with pytest.raises(UsageError, match="2 models"):
        read_cohort(out, manifest)
    (out / "run.json").write_text(json.dumps({"model_digest": "ab" * 32}))
    assert [c.status for c in read_cohort(out, manifest).cases] == ["done", "missing"]


def test_a_folder_without_results_says_so(make_cohort, made, tmp_path):
    _, manifest = make_cohort([made("normal", "normal")])
    with pytest.raises(UsageError, match="holds no results"):
        read_cohort(tmp_path, manifest)


def test_a_slide_that_could_not_be_hashed_has_its_result_by_its_name(make_cohort, made, monkeypatch):
    out, manifest = make_cohort([made("normal", None, "failed"), made("normal", "normal")])
    file = out / "slides" / "s0" / "result.json"
    result = json.loads(file.read_text())
    file.write_text(json.dumps(result | {"sha256": None}))
    assert [c.status for c in read_cohort(out, manifest).cases] == ["failed", "done"]

    def broken(path):
        raise SlideFailed("unreadable", "planted")

    monkeypatch.setattr("histo.evaluation.cases.sha256_of", broken)
    assert [c.status for c in read_cohort(out, manifest).cases] == ["failed", "done"]


def test_moved_slides_that_the_manifest_calls_otherwise_are_found_by_their_file(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", "normal")])
    for file in out.glob("slides/*/result.json"):
        file.write_text(file.read_text().replace(str(manifest.parent), "/elsewhere"))
    manifest.write_text(manifest.read_text().replace("s0,s0.svs", "case 1,s0.svs"))
    assert [c.folder.name for c in read_cohort(out, manifest).cases] == ["s0", "s1"]


def test_a_file_of_a_result_that_is_gone_is_none(make_cohort, made):
    (case,) = read_cohort(*make_cohort([made("normal", "normal")])).cases
    assert case.file("heatmap") == case.folder / "heatmap.ome.tif"
    (case.folder / "heatmap.ome.tif").unlink()
    assert case.file("heatmap") is None


def test_another_run_that_knows_none_of_the_slides_is_refused(make_cohort, made):
    out, manifest = make_cohort([made("normal", "normal"), made("normal", None, "missing")])
    records = [c.record for c in read_cohort(out, manifest).cases]
    assert verdicts_in(out, records)[1] == ["normal", NO_VERDICT]
    with pytest.raises(UsageError, match="holds no result of the slides that are judged"):
        verdicts_in(out, records[1:])


def test_nothing_is_set_aside_where_no_slide_is_marked_test(make_cohort, made):
    slides = [made("normal", "normal", extra=(("split", side),)) for side in ("train", "")]
    cohort = read_cohort(*make_cohort(slides))
    assert (len(cohort.cases), cohort.set_aside) == (2, {})
