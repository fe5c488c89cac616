import errno
import hashlib
import json
import os
import shutil
import sqlite3
from dataclasses import replace

import pytest

from histo.archive.examine import RunOptions
from histo.archive.ledger import Ledger
from histo.archive.local import run_slides
from histo.archive.result_folder import SEAL, fingerprint, swap_in
from histo.archive.store import Store
from histo.errors import UsageError
from histo.models.bundle import load_bundle, save_bundle
from histo.out_folder import LEDGER
from histo.reference import refit
from histo.results import SCHEMA, load_result


def test_done_slides_are_kept_and_changed_ones_computed_again(
    slides, tmp_path, colour_model, write_tiff, paint_slide, run
):
    out = tmp_path / "out"
    run([slides], out, colour_model)
    _, steps = run([slides], out, colour_model)
    assert [s.kept for s in steps] == [True, True, True]
    write_tiff(slides / "b.svs", [paint_slide(1600, 1200)])
    _, steps = run([slides], out, colour_model)
    assert {s.result.slide_id: s.kept for s in steps} == {"a": True, "b": False, "c": True}
    _, steps = run([slides], out, colour_model, mpp=0.4)
    assert not any(s.kept for s in steps)


def test_a_result_file_that_was_touched_is_computed_again(slides, tmp_path, colour_model, run):
    out = tmp_path / "out"
    run([slides], out, colour_model)
    path = out / "slides" / "a" / "result.json"
    path.write_text(path.read_text()[:-40])
    shutil.rmtree(out / "slides" / "b")
    _, steps = run([slides], out, colour_model)
    assert {s.result.slide_id: s.kept for s in steps} == {"a": False, "b": False, "c": True}


def test_a_result_that_lost_a_file_is_computed_again(slides, tmp_path, colour_model, run):
    """Regression: a result without its report was kept, and the worklist linked nothing."""
    out = tmp_path / "out"
    run([slides], out, colour_model)
    (out / "slides" / "a" / "report.html").unlink()
    heatmap = out / "slides" / "b" / "heatmap.ome.tif"
    heatmap.write_bytes(heatmap.read_bytes()[:500])
    _, steps = run([slides], out, colour_model)
    assert {s.result.slide_id: s.kept for s in steps} == {"a": False, "b": False, "c": True}
    assert (out / "slides" / "a" / "report.html").is_file()


def test_a_path_that_is_no_file_is_no_slide_for_ever(slides, tmp_path, colour_model, run, rows):
    """Regression: a slip of the pen stood in table and worklist after every later call."""
    out, later = tmp_path / "out", tmp_path / "later"
    later.mkdir()
    said: list[str] = []
    run([slides / "typo.svs", later], out, colour_model)
    assert {row["reason_codes"] for row in rows(out).values()} == {"not_found", "not_a_file"}
    shutil.copy(slides / "a.svs", later)
    run_slides([later], out, colour_model, RunOptions(), say=said.append)
    assert list(rows(out)) == ["a"]
    assert said == ["paths of earlier calls that are no files: 2; they gave nothing and are in no table"]


def test_what_a_kill_left_of_a_table_goes(slides, tmp_path, colour_model, run):
    """Regression: parts of tables stayed in the folder for ever."""
    out = tmp_path / "out"
    out.mkdir()
    (out / ".slides.csv.123.tmp").touch()
    (out / ".mine.tmp").touch()
    run([slides / "a.svs"], out, colour_model)
    assert [p.name for p in out.glob(".*.tmp")] == [".mine.tmp"]


def test_another_model_computes_all_again_and_results_are_never_mixed(
    slides, tmp_path, colour_model, colour_bundle, run, rows
):
    out = tmp_path / "out"
    run([slides], out, colour_model)
    card = json.loads((colour_bundle / "card.json").read_text()) | {"name": "other"}
    for key in ("golden", "weights_sha256", "schema_version"):
        del card[key]
    save_bundle(tmp_path / "other", card, colour_model.network)
    other = load_bundle(tmp_path / "other")
    _, steps = run([slides / "a.svs"], out, other)
    assert not steps[0].kept
    assert {(k, r["model"]) for k, r in rows(out).items()} == {("a", "other")}
    assert (out / "slides" / "b" / "result.json").is_file()


def test_failed_slides_are_tried_again(slides, tmp_path, colour_model, painted, run, rows):
    out = tmp_path / "out"
    late = slides / "late.svs"
    results, _ = run([late], out, colour_model)
    assert results[0].status == "failed"
    shutil.copy(painted, late)
    results, _ = run([late], out, colour_model)
    assert results[0].status in ("done", "review")
    assert rows(out)["late"]["status"] == results[0].status


def test_a_failed_slide_is_tried_again_though_its_content_is_what_it_was(tmp_path, colour_model, run):
    """A disk or a network may have been the cause."""
    (tmp_path / "text.svs").write_text("not a slide")
    for _ in range(2):
        ((result,), (step,)) = run([tmp_path / "text.svs"], tmp_path / "out", colour_model)
        assert (result.status, result.sha256 is None, step.kept) == ("failed", False, False)


def test_a_slide_that_cannot_be_reached_just_now_keeps_its_result(slides, tmp_path, colour_model, painted, run, rows):
    # Bug: a resumed run put "not_found" in the place of a finished result while a network share was away.
    out, slide = tmp_path / "out", slides / "there.svs"
    shutil.copy2(painted, slide)
    (first,), _ = run([slide], out, colour_model)
    before = sorted(p.name for p in (out / "slides" / "there").iterdir())
    slide.rename(slides / "away")
    for scale in ({}, {"mpp": 0.4}, {"mpp_if_missing": 0.4}):
        (gone,), _ = run([slide], out, colour_model, **scale)
        assert not list((out / "slides").glob(".*")), "nothing is left of the attempt"
    assert (gone.status, gone.reasons[0].code) == ("failed", "not_found")
    assert rows(out)["there"]["status"] == first.status
    assert sorted(p.name for p in (out / "slides" / "there").iterdir()) == before
    said: list[str] = []
    run_slides([slide], out, colour_model, RunOptions(), say=said.append)
    assert said == ["slides that failed now and have a result of before: 1; it is kept"]
    (slides / "away").rename(slide)
    assert run([slide], out, colour_model)[1][0].kept


def test_a_failed_attempt_replaces_no_result_of_another_model(slides, tmp_path, colour_model, run, rows):
    """Regression: with the drive away, the command with another model turned all results into failed ones."""
    out, said = tmp_path / "out", []
    run([slides / "a.svs"], out, colour_model)
    (out / "slides" / "a" / "lesions.geojson").write_text("edited")
    before = sorted((p.name, p.read_bytes()) for p in (out / "slides" / "a").iterdir())
    (slides / "a.svs").rename(slides / "away")
    other = replace(colour_model, digest="another")
    (gone,) = run_slides([slides / "a.svs"], out, other, RunOptions(), say=said.append)
    assert (gone.status, gone.reasons[0].code) == ("failed", "not_found")
    assert sorted((p.name, p.read_bytes()) for p in (out / "slides" / "a").iterdir()) == before
    assert said[0] == "slides that failed now and have a result of before: 1; it is kept"


def test_a_slide_that_became_another_file_and_fails_has_no_result_of_before(slides, tmp_path, colour_model, run, rows):
    run([slides / "a.svs"], tmp_path / "out", colour_model)
    (slides / "a.svs").write_text("no slide any more")
    run([slides / "a.svs"], tmp_path / "out", colour_model)
    assert {name: row["reason_codes"] for name, row in rows(tmp_path / "out").items()} == {"a": "unsupported"}


def test_a_slide_that_fails_again_tells_why_it_fails_now(slides, tmp_path, colour_model, run, rows):
    out, late, said = tmp_path / "out", slides / "late.svs", []
    run([late], out, colour_model)
    late.touch()
    run([late], out, colour_model)
    assert rows(out)["late"]["reason_codes"] == "empty_file"
    shutil.copy(slides / "a.svs", late)
    run_slides([late], out, colour_model, RunOptions(), say=said.append)
    assert said == [], "a failure is no result that was made in another way"


def test_a_slide_whose_result_is_gone_and_that_fails_is_a_failed_one(slides, tmp_path, colour_model, run, rows):
    out = tmp_path / "out"
    run([slides / "a.svs"], out, colour_model)
    shutil.rmtree(out / "slides" / "a")
    (slides / "a.svs").unlink()
    run([slides / "a.svs"], out, colour_model)
    assert rows(out)["a"]["reason_codes"] == "not_found"


def test_a_slide_that_is_away_stays_in_the_tables(slides, tmp_path, colour_model, run, rows):
    run([slides / "a.svs"], tmp_path / "out", colour_model)
    (slides / "a.svs").unlink()
    run([slides / "b.svs"], tmp_path / "out", colour_model)
    assert set(rows(tmp_path / "out")) == {"a", "b"}


def test_a_reference_of_few_patients_is_told_though_a_slide_failed(slides, tmp_path, colour_bundle, painted_cohort):
    refit(colour_bundle, painted_cohort, tmp_path / "new")
    said: list[str] = []
    paths = [slides / "a.svs", slides / "gone.svs"]
    run_slides(paths, tmp_path / "out", load_bundle(tmp_path / "new"), RunOptions(), say=said.append)
    assert said == ["foreign tissue is told by so few patients that hardly any is; see the reports"]


def test_a_slide_that_was_screened_is_examined_in_full_when_that_is_asked_for(slides, tmp_path, screened_bundle, run):
    model = load_bundle(screened_bundle)
    modes = ("screen", "full", "full", "screen")
    kept = [run([slides / "a.svs"], tmp_path / "out", model, mode=mode)[1][0].kept for mode in modes]
    assert kept == [False, False, True, False]


def test_slides_that_cannot_be_read_are_no_copies_of_each_other(slides, tmp_path, colour_model):
    said: list[str] = []
    run_slides([slides / "x.svs", slides / "y.svs"], tmp_path / "out", colour_model, RunOptions(), say=said.append)
    assert said == []


def test_a_slide_of_several_files_is_computed_again_when_one_of_them_changed(painted, tmp_path, colour_model, run):
    slide, part = tmp_path / "whole.mrxs", tmp_path / "whole" / "Data0001.dat"
    part.parent.mkdir()
    part.write_bytes(b"pixels")
    shutil.copy(painted, slide)
    kept = []
    for content in (b"pixels", b"pixels", b"other"):
        if part.read_bytes() != content:
            part.write_bytes(content)
        _, (step,) = run([slide], tmp_path / "out", colour_model)
        kept.append(step.kept)
    assert kept == [False, True, False]


def test_a_result_is_on_the_disk_before_it_gets_its_name(colour_model, tmp_path, monkeypatch):
    store = Store(tmp_path, colour_model, Ledger(tmp_path / LEDGER))
    temporary, final = store.temporary("a"), store.slides / "a"
    temporary.mkdir()
    for name in ("report.html", "result.json"):
        (temporary / name).write_text("{}")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append((os.readlink(f"/proc/self/fd/{fd}"), final.exists())))
    swap_in(temporary, final)
    files = {(str(temporary / name), False) for name in ("report.html", "result.json", SEAL)}
    assert set(synced[:-2]) == files
    assert synced[-2:] == [(str(temporary), False), (str(store.slides), True)]


def test_a_crash_of_ours_costs_no_result_of_before(slides, tmp_path, colour_model, painted, run, monkeypatch):
    out, slide = tmp_path / "out", slides / "there.svs"
    shutil.copy2(painted, slide)
    (first,), _ = run([slide], out, colour_model)
    monkeypatch.setattr("histo.archive.examine.predict_slide", lambda *a, **k: 1 / 0)
    (crashed,), _ = run([slide], out, colour_model, mpp=0.4)
    assert crashed.reasons[0].code == "internal_error"
    assert load_result(out / "slides" / "there" / "result.json").status == first.status


def test_a_slide_named_old_is_no_leftover_of_another(colour_model, tmp_path):
    # Bug: what was set aside of slide a had the name of the working folder of slide old-a.
    store = Store(tmp_path, colour_model, Ledger(tmp_path / LEDGER))
    final = store.slides / "a"
    for folder in (final, store.temporary("a"), store.temporary("old-a")):
        folder.mkdir(parents=True)
        (folder / "result.json").write_text("{}")
    swap_in(store.temporary("a"), final)
    assert (store.temporary("old-a") / "result.json").exists()


def test_a_folder_that_is_no_result_is_not_replaced(painted, tmp_path, colour_model, run):
    """Regression: the folder of an MRXS slide's pixels was taken for an old result of it, and removed."""
    kept = tmp_path / "out" / "slides" / painted.stem / "Data0001.dat"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"pixels")
    with pytest.raises(UsageError, match="is no result of histo"):
        run([painted], tmp_path / "out", colour_model)
    assert kept.read_bytes() == b"pixels"


def test_what_the_tables_leave_out_is_said(slides, colour_model, tmp_path, run):
    out, said = tmp_path / "out", []
    run([slides], out, colour_model)
    (out / "slides" / "a" / "result.json").write_text("{}")
    run_slides([slides / "b.svs"], out, colour_model, RunOptions(), say=said.append)
    assert said == [
        "rows of slides with the content of another: 1; copied or moved slides count again",
        f"1 results in {out} are gone, changed or of an older histo, and in no table",
    ]
    said.clear()
    run_slides([slides / "c.svs"], out, replace(colour_model, digest="another"), RunOptions(), say=said.append)
    assert said == [
        "results of before that were made in another way and are replaced: 1",
        f"2 results in {out} are another model's and in no table; give each model its own --out",
    ]


def test_tissue_that_could_not_be_read_is_tried_again(tmp_path, colour_model, write_tiff, paint_slide, run):
    rule = colour_model.card.rule.model_copy(update={"max_unreadable_share": 0.9})
    patient = replace(colour_model, card=colour_model.card.model_copy(update={"rule": rule}))
    path = write_tiff(tmp_path / "hurt.svs", [paint_slide()], faults={40: b"\xff\xd8garbage"})
    results, _ = run([path], tmp_path / "out", patient)
    assert results[0].areas.unreadable_mm2 > 0
    _, steps = run([path], tmp_path / "out", patient)
    assert not steps[0].kept


def test_an_older_result_among_the_rows_does_not_stop_the_run(slides, tmp_path, colour_model, run, rows):
    """Regression: the tables were lost when one stored result had another schema."""
    out = tmp_path / "out"
    run([slides], out, colour_model)
    path = out / "slides" / "a" / "result.json"
    text = path.read_text()
    assert f'"schema": {SCHEMA}' in text
    path.write_text(text.replace(f'"schema": {SCHEMA}', '"schema": 1'))
    ledger = Ledger(out / "ledger.sqlite")
    old = next(e for e in ledger.entries() if e.slide_id == "a")
    ledger.record(replace(old, result_sha256=fingerprint(path.parent)))
    ledger.close()
    run([slides / "b.svs"], out, colour_model)
    assert set(rows(out)) == {"b", "c"}


def test_what_others_put_into_a_result_stays_and_changes_nothing(slides, tmp_path, colour_model, run, rows):
    """Regression: beside a pathologist's file a result had no row, and the next run removed that file."""
    out = tmp_path / "out"
    run([slides], out, colour_model)
    mine = out / "slides" / "a" / "corrected.geojson"
    mine.write_text("mine")
    (mine.parent / "notes").mkdir()
    assert all(step.kept for step in run([slides], out, colour_model)[1])
    assert set(rows(out)) == {"a", "b", "c"}
    assert not any(step.kept for step in run([slides], out, colour_model, mpp=0.4)[1])
    assert mine.read_text() == "mine"
    assert (mine.parent / "notes").is_dir()
    assert not list((out / "slides").glob(".*"))


def test_an_edited_file_of_histo_s_is_kept_under_another_name(slides, tmp_path, colour_model, run):
    """Regression: outlines that were corrected in place were lost with the next settings."""
    out, said = tmp_path / "out", []
    outlines = out / "slides" / "a" / "lesions.geojson"
    for number, mpp in enumerate((0.5, 0.4, 0.5)):
        run_slides([slides / "a.svs"], out, colour_model, RunOptions(mpp=mpp), say=said.append)
        outlines.write_text(outlines.read_text().replace("bone", f"edit{number}"[:4]))  # of the same size
    kept = [outlines.with_name(name) for name in ("lesions.edited.geojson", "lesions.edited-2.geojson")]
    assert ["edit" in path.read_text() for path in kept] == [True, True]
    told = [line for line in said if "edited" in line]
    assert told == [
        f"files of histo's that may have been edited: 1, kept beside the new ones ({path})" for path in kept
    ]
    names = {path.name for path in outlines.parent.iterdir() if ".edited" not in path.name}
    assert names == {*load_result(outlines.with_name("result.json")).files.values(), "result.json", SEAL}


def test_what_is_left_of_an_old_result_is_not_taken_for_edited(slides, tmp_path, colour_model, run, monkeypatch):
    """Regression: after a kill, or a file that could not be removed, all of histo's own files were kept as edited."""
    out, said = tmp_path / "out", []
    run([slides / "a.svs"], out, colour_model)
    monkeypatch.setattr("histo.archive.store.retire", lambda *any: [])  # as if killed before
    run([slides / "a.svs"], out, colour_model, mpp=0.4)
    assert list((out / "slides").glob(".*"))
    monkeypatch.undo()
    run_slides([slides / "a.svs"], out, colour_model, RunOptions(mpp=0.45), say=said.append)
    assert not [*(out / "slides").glob(".*"), *(out / "slides" / "a").glob("*edited*")]
    assert not any("edited" in line for line in said)


def test_results_of_before_there_were_fingerprints_are_not_taken_for_edited(slides, tmp_path, colour_model, run):
    """Regression: the row was the hash of the result alone then, and every file was kept as edited."""
    out, said = tmp_path / "out", []
    run([slides / "a.svs"], out, colour_model)
    (out / "slides" / "a" / SEAL).unlink()
    row = hashlib.sha256((out / "slides" / "a" / "result.json").read_bytes()).hexdigest()
    with sqlite3.connect(out / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE slides SET result_sha256 = ?", (row,))
    run_slides([slides / "a.svs"], out, colour_model, RunOptions(mpp=0.45), say=said.append)
    assert not list((out / "slides" / "a").glob("*edited*"))
    assert not any("edited" in line for line in said)


def test_a_folder_of_before_without_a_seal_keeps_what_was_edited(slides, tmp_path, colour_model, run):
    """Regression: the first run of a new histo removed outlines that had been corrected in place."""
    out = tmp_path / "out"
    run([slides / "a.svs"], out, colour_model)
    folder = out / "slides" / "a"
    (folder / SEAL).unlink()
    run([slides / "a.svs"], out, colour_model, mpp=0.4)
    assert not list(folder.glob("*edited*"))
    (folder / SEAL).unlink()
    (folder / "lesions.geojson").write_text("corrected")
    run([slides / "a.svs"], out, colour_model, mpp=0.45)
    assert (folder / "lesions.edited.geojson").read_text() == "corrected"


@pytest.mark.parametrize("what", ["@eaDir", "empty", "a without its result"])
def test_what_is_no_case_of_the_user_s_does_not_close_an_out(what, slides, tmp_path, colour_model, run):
    """Regression: an empty folder of a network disk, or a deleted result.json, refused every run."""
    out = tmp_path / "out"
    run([slides / "a.svs"], out, colour_model)
    if what in ("@eaDir", "empty"):
        (out / "slides" / what).mkdir()
    if what == "@eaDir":
        (out / "slides" / what / "thumb").write_text("x")
    if what == "a without its result":
        (out / "slides" / "a" / "result.json").unlink()
    _, (step,) = run([slides / "a.svs"], out, colour_model)
    assert step.kept == (what != "a without its result")


def test_an_old_result_whose_successor_never_came_is_put_back(slides, tmp_path, colour_model, run):
    """Regression: killed between two renames, a run left no result, and the next one removed the old one's files."""
    out = tmp_path / "out"
    run([slides / "a.svs"], out, colour_model)
    (out / "slides" / "a" / "corrected.geojson").write_text("mine")
    (out / "slides" / "a").rename(out / "slides" / ".histo-tmp-a~old0")
    assert run([slides / "a.svs"], out, colour_model)[1][0].kept
    assert (out / "slides" / "a" / "corrected.geojson").read_text() == "mine"


def test_an_old_file_that_cannot_be_removed_stops_no_run(slides, tmp_path, colour_model, run, monkeypatch):
    """Regression: a report that was open on a network's disk stopped the run, before the row of the new result."""
    out, rmdir, unlink = tmp_path / "out", os.rmdir, os.unlink

    def busy(path, *args, **kwargs):
        if "~" in str(path):
            raise OSError(errno.EBUSY, "Device or resource busy")
        return (rmdir if os.path.isdir(path) else unlink)(path, *args, **kwargs)

    run([slides / "a.svs"], out, colour_model)
    monkeypatch.setattr(os, "rmdir", busy)
    monkeypatch.setattr(os, "unlink", busy)
    for mpp in (0.5, 0.4):
        assert not run([slides / "a.svs"], out, colour_model, mpp=mpp)[1][0].kept
        assert run([slides / "a.svs"], out, colour_model, mpp=mpp)[1][0].kept
    assert len(list((out / "slides").glob(".*"))) == 2
    monkeypatch.undo()
    assert run([slides / "a.svs"], out, colour_model, mpp=0.4)[1][0].kept
    assert [path.name for path in (out / "slides").iterdir()] == ["a"]
    assert not list((out / "slides" / "a").glob("*.edited*"))
