import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import pytest

from histo.archive import examine as examine_module
from histo.archive.listing import list_slides
from histo.archive.result_folder import SEAL
from histo.data.slide_file import sha256_of
from histo.errors import ArchiveError, UsageError
from histo.results import load_result


def test_every_slide_gets_a_row_and_a_result_whatever_happens(slides, tmp_path, colour_model, run, rows):
    (slides / "text.svs").write_text("not a slide")
    (slides / "empty.svs").touch()
    (slides / "folder.svs").mkdir()
    os.mkfifo(slides / "pipe.svs")
    out = tmp_path / "out"
    missing = slides / "missing.svs"
    results, _ = run([*sorted(slides.iterdir()), missing], out, colour_model)
    found = {r.slide_id: (r.status, r.reasons[0].code if r.reasons else "") for r in results}
    assert found["text"] == ("failed", "unsupported")
    assert found["empty"] == ("failed", "empty_file")
    assert found["folder"] == ("failed", "not_a_file")
    assert found["pipe"] == ("failed", "not_a_file")
    assert found["missing"] == ("failed", "not_found")
    assert found["a"][0] in ("done", "review")
    assert set(rows(out)) == set(found)
    for slide_id, (status, _) in found.items():
        assert load_result(out / "slides" / slide_id / "result.json").status == status
        assert (out / "slides" / slide_id / "report.html").is_file()
    assert len({r.reasons[0].message for r in results if r.status == "failed"}) == 5


def test_outlines_are_left_on_the_disk(slides, tmp_path, colour_model, run):
    """Regression: a run kept the outlines of all its slides in memory, megabytes for a slide full of bone."""
    results, steps = run([slides], tmp_path / "out", colour_model)
    assert [len(r.lesions) for r in results] == [0, 0, 0]
    for step in steps:
        stored = load_result(tmp_path / "out" / "slides" / step.result.slide_id / "result.json")
        assert stored.lesions == step.result.lesions != ()


def test_equal_stems_get_two_results(painted, tmp_path, colour_model, run):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        shutil.copy(painted, tmp_path / name / "Slide.svs")
    (tmp_path / "two" / "slide.svs").write_bytes((tmp_path / "two" / "Slide.svs").read_bytes())
    out = tmp_path / "out"
    results, _ = run([tmp_path / "one", tmp_path / "two"], out, colour_model)
    ids = [r.slide_id for r in results]
    assert len({i.casefold() for i in ids}) == 3
    results, steps = run([tmp_path / "two", tmp_path / "one"], out, colour_model)
    assert {r.slide_id for r in results} == set(ids)
    assert all(s.kept for s in steps)


def test_an_unexpected_error_costs_one_slide(slides, tmp_path, colour_model, monkeypatch, run):
    original = examine_module.predict_slide

    def fragile(path, *args, **kwargs):
        if Path(path).name == "b.svs":
            raise cv2.error("planted")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(examine_module, "predict_slide", fragile)
    results, _ = run([slides], tmp_path / "out", colour_model)
    assert [(r.slide_id, r.status == "failed") for r in results] == [("a", False), ("b", True), ("c", False)]
    assert results[1].reasons[0].code == "internal_error"
    assert "planted" in results[1].reasons[0].message


def test_a_writer_that_breaks_costs_one_slide(slides, tmp_path, colour_model, monkeypatch, run):
    original = examine_module.write_outputs

    def fragile(prediction, folder, timings=None):
        if prediction.result.slide_id == "b" and prediction.slide_map is not None:
            folder.mkdir()
            (folder / "overlay.png").write_bytes(b"half")
            raise ValueError("planted")
        return original(prediction, folder)

    monkeypatch.setattr(examine_module, "write_outputs", fragile)
    out = tmp_path / "out"
    results, _ = run([slides], out, colour_model)
    assert [r.status == "failed" for r in results] == [False, True, False]
    assert {p.name for p in (out / "slides" / "b").iterdir()} == {"result.json", "report.html", SEAL}


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(slides, tmp_path, colour_model, monkeypatch, run, rows):
    original = examine_module.write_outputs
    out = tmp_path / "out"

    def full(prediction, folder, timings=None):
        if prediction.result.slide_id == "b":
            folder.mkdir()
            (folder / "overlay.png").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        return original(prediction, folder)

    monkeypatch.setattr(examine_module, "write_outputs", full)
    with pytest.raises(ArchiveError, match=r"disk .* is full"):
        run([slides], out, colour_model)
    assert set(rows(out)) == {"a"}
    monkeypatch.setattr(examine_module, "write_outputs", original)
    _, steps = run([slides], out, colour_model)
    assert [s.kept for s in steps] == [True, False, False]
    assert sorted(p.name for p in (out / "slides").iterdir()) == ["a", "b", "c"]


def test_a_slide_whose_data_may_not_be_read_costs_itself(slides, tmp_path, colour_model, monkeypatch, run):
    """Regression: an unreadable folder beside one MRXS slide ended the run with "OUT cannot be written"."""
    (slides / "b.mrxs").write_bytes(b"index")
    (slides / "b").mkdir()
    stat = os.stat

    def closed(path, *args, **kwargs):
        if not isinstance(path, int) and Path(os.fsdecode(path)).parent == slides / "b":
            raise OSError(errno.ESTALE, "Stale file handle")
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", closed)
    named = [slides / "a.svs", slides / "b.mrxs", slides / "c.svs"]
    results, _ = run(named, tmp_path / "out", colour_model, mpp_if_missing=0.5)
    assert [r.status == "failed" for r in results] == [False, True, False]
    assert "may not be read" in results[1].reasons[0].message


def test_a_damaged_ledger_is_refused(slides, tmp_path, colour_model, run):
    out = tmp_path / "out"
    run([slides / "a.svs"], out, colour_model)
    ledger = out / "ledger.sqlite"
    ledger.write_bytes(b"garbage" * 700)
    with pytest.raises(ArchiveError, match="move the file away"):
        run([slides / "a.svs"], out, colour_model)


def test_a_result_of_an_older_procedure_is_made_again(painted, tmp_path, colour_model, run, monkeypatch):
    """Regression: results from before a change of how tissue is found were kept as current."""
    assert not run([painted], tmp_path / "out", colour_model)[1][0].kept
    monkeypatch.setattr("histo.infer.PROCEDURE", 10**6)
    assert not run([painted], tmp_path / "out", colour_model)[1][0].kept
    assert run([painted], tmp_path / "out", colour_model)[1][0].kept


def test_a_name_that_is_not_utf8_is_kept(painted, tmp_path, colour_model, run):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/n\xff\xfe<img>.svs"))
    shutil.copy(painted, path)
    out = tmp_path / "out"
    results, _ = run([path], out, colour_model)
    assert load_result(out / "slides" / results[0].slide_id / "result.json").path.endswith("n\\xff\\xfe<img>.svs")
    assert "<img>" not in (out / "index.html").read_text()
    _, steps = run([path], out, colour_model)
    assert steps[0].kept


CHILD = """
import sys
from pathlib import Path
import torch
from torch import nn
from histo.archive.examine import RunOptions
from histo.archive.local import run_slides
from histo.models import backbones
from histo.models.bundle import load_bundle
backbones.BACKBONES["mean_colour"] = (lambda weights: nn.AvgPool2d(16), lambda net: [net])
print("ready", flush=True)
run_slides([Path(sys.argv[1])], Path(sys.argv[2]), load_bundle(Path(sys.argv[3])), RunOptions())
"""


def _start(slides: Path, out: Path, bundle: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(slides), str(out), str(bundle)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "ready\n"
    return child


def _is_whole(out: Path) -> None:
    """No half-written file counts: every folder with a final name is complete and reads back."""
    for folder in (out / "slides").glob("[!.]*"):
        result = load_result(folder / "result.json")
        assert {p.name for p in folder.iterdir()} == {*result.files.values(), "result.json", SEAL}


def test_killed_at_any_moment_it_goes_on_with_the_unfinished_slides(slides, tmp_path, colour_bundle, colour_model, run):
    """Faults 29: eight SIGKILLs at random moments, then one run to the end; results equal an unbroken run's."""
    out = tmp_path / "out"
    moments = random.Random(3)
    for _ in range(8):
        child = _start(slides, out, colour_bundle)
        time.sleep(moments.uniform(0.0, 1.2))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        if out.exists():
            _is_whole(out)
    run([slides], out, colour_model)
    _is_whole(out)
    _, after = run([slides], out, colour_model)
    assert all(s.kept for s in after)
    unbroken, _ = run([slides], tmp_path / "unbroken", colour_model)
    both = (
        [load_result(o / "slides" / r.slide_id / "result.json") for r in unbroken] for o in (out, tmp_path / "unbroken")
    )
    stored, whole = ([replace(s, path="") for s in results] for results in both)
    assert stored == whole
    assert not list((out / "slides").glob(".*"))


def test_slides_beside_an_old_ledger_are_found(slides, tmp_path, colour_model, run):
    """Regression: what lay in a folder that had once been an --out was passed over without a word."""
    run([slides], tmp_path / "out", colour_model)
    shutil.copy(tmp_path / "out" / "ledger.sqlite", slides)
    shutil.copytree(tmp_path / "out" / "slides", slides / "slides")
    assert [p.name for p in list_slides([slides])] == ["a.svs", "b.svs", "c.svs"]


def test_the_folder_of_the_slides_is_no_place_for_results(slides, colour_model, run):
    above, below = slides.parent, slides / "below"
    below.mkdir()
    shutil.move(slides / "c.svs", below / "c.svs")
    for named, out in (([slides], slides), ([slides / "b.svs"], slides), ([slides], above), ([below], above)):
        with pytest.raises(UsageError, match=r"beside|holds a slide"):
            run(named, out, colour_model)
    (above / "empty").mkdir()
    with pytest.raises(UsageError, match="folder of the slides themselves"):
        run([above / "empty"], above / "empty", colour_model)
    shutil.move(below / "c.svs", slides / "c.svs")
    below.rmdir()
    assert sorted(p.name for p in slides.iterdir()) == ["a.svs", "b.svs", "c.svs"]


@pytest.mark.parametrize("named", ["data/slides", "elsewhere.svs", "data/x.ome.tif"])
def test_a_folder_of_the_user_s_that_is_called_slides_is_left_as_it_is(named, painted, tmp_path, colour_model, run):
    """Regression: OUT/slides counted as histo's own unseen, and a folder of uploads in it was removed."""
    data = tmp_path / "data"
    kept = [data / "slides" / ".tmp-upload" / "a.svs", data / "slides" / "case" / "b.svs", data / "x.ome.tif"]
    for path in (*kept, tmp_path / "elsewhere.svs"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(painted, path)
    with pytest.raises(UsageError, match=r"beside|no result of histo"):
        run([tmp_path / named], data, colour_model)
    assert sorted(p for p in data.rglob("*") if p.is_file()) == sorted(kept)


def test_slides_that_lie_where_results_would_are_left_alone(painted, tmp_path, colour_model, run):
    out = tmp_path / "data"
    (out / "slides").mkdir(parents=True)
    shutil.copy(painted, out / "slides" / "mine.svs")
    with pytest.raises(UsageError, match="holds a slide"):
        run([painted], out, colour_model)
    assert [path.name for path in out.rglob("*")] == ["slides", "mine.svs"]


def test_a_link_leads_no_results_beside_the_slides(painted, tmp_path, colour_model, run):
    real, link = tmp_path / "real", tmp_path / "link"
    real.mkdir()
    shutil.copy(painted, real / "x.ome.tif")  # which is known for a slide only where it is named
    link.symlink_to(real)
    for named, out in ((real, link), (link, real)):
        with pytest.raises(UsageError, match="would put results beside"):
            run([named / "x.ome.tif"], out, colour_model)
    shutil.rmtree(real)
    real.mkdir()
    with pytest.raises(UsageError, match="folder of the slides themselves"):
        run([real], link, colour_model)


def test_only_temporary_folders_of_histo_s_are_removed(painted, tmp_path, colour_model, run):
    """Regression: whatever began with `.tmp-` was, uploads of the user's too."""
    mine = tmp_path / "out" / "slides" / ".tmp-upload"
    killed = tmp_path / "out" / "slides" / ".histo-tmp-a"
    for folder in (mine, killed):
        folder.mkdir(parents=True)
        (folder / "part").touch()
    run([painted], tmp_path / "out", colour_model)
    assert (mine.exists(), killed.exists()) == (True, False)


def test_slides_in_a_folder_whose_name_begins_like_that_of_results_are_none(tmp_path, colour_model, run):
    path = tmp_path / "out" / "slides-2026" / "text.svs"
    path.parent.mkdir(parents=True)
    path.write_text("not a slide")
    (result,), _ = run([path], tmp_path / "out", colour_model)
    assert (result.slide_id, result.reasons[0].code) == ("text", "unsupported")


def test_a_scale_for_those_without_one_leaves_the_others_theirs(tmp_path, colour_model, write_tiff, paint_slide, run):
    own = write_tiff(tmp_path / "own.svs", [paint_slide()])
    bare = write_tiff(tmp_path / "bare.svs", [paint_slide()], description="Aperio made for a test |AppMag = 20")
    given = write_tiff(tmp_path / "given.svs", [paint_slide()])
    run([given], tmp_path / "out", colour_model, mpp=0.4)
    (first, refused), _ = run([own, bare], tmp_path / "out", colour_model)
    assert (first.pyramid.scale_source, refused.reasons[0].code) == ("recorded", "no_scale")
    results, steps = run([own, bare, given], tmp_path / "out", colour_model, mpp_if_missing=0.4)
    assert [s.kept for s in steps] == [True, False, False]  # the last one's scale had been overruled
    assert results[2].pyramid.scale_source == "recorded"
    assert json.loads((tmp_path / "out" / "run.json").read_text())["mpp_if_missing"] == 0.4
    assert (results[1].pyramid.scale_source, results[1].pyramid.mpp_x) == ("user", 0.4)
    assert results[1].provenance.settings["mpp"] == 0.4
    assert all(s.kept for s in run([own, bare], tmp_path / "out", colour_model, mpp_if_missing=0.4)[1])
    with pytest.raises(UsageError, match="give one of them"):
        run([own], tmp_path / "out", colour_model, mpp=0.5, mpp_if_missing=0.4)


def test_the_hash_of_a_slide_that_is_still_being_copied_is_not_kept(tmp_path, colour_model, painted, run, monkeypatch):
    # Bug: a slide that grew while it was hashed had the hash of its first half beside the verdict of the whole.
    slide, whole = tmp_path / "late.svs", painted.read_bytes()
    slide.write_bytes(whole)
    assert run([slide], tmp_path / "out", colour_model)[0][0].status in ("done", "review")
    slide.write_bytes(whole[: len(whole) // 2])

    def hash_while_it_grows(path):
        found = sha256_of(path)
        slide.write_bytes(whole + b"\0")
        return found

    monkeypatch.setattr("histo.archive.local.sha256_of", hash_while_it_grows)
    (result,), _ = run([slide], tmp_path / "out", colour_model)
    assert result.status in ("done", "review")
    assert result.sha256 == sha256_of(slide)


def test_a_slide_whose_result_cannot_be_kept_is_read_once(slides, tmp_path, colour_model, run, monkeypatch):
    """Regression: with other settings, or after a failure, every slide was hashed first, one after the other."""
    run([slides], tmp_path / "out", colour_model)
    monkeypatch.setattr("histo.archive.local.sha256_of", lambda path: pytest.fail("it was hashed ahead"))
    _, steps = run([slides], tmp_path / "out", colour_model, mpp=0.45)
    assert not any(step.kept for step in steps)


def test_with_the_device_auto_a_gpu_that_is_away_costs_no_archive(slides, tmp_path, colour_model, run, monkeypatch):
    """Regression: after a night without its driver every result was made again on the CPU, and once more after it."""
    run([slides], tmp_path / "out", colour_model)
    monkeypatch.setattr("histo.infer.device_kind", lambda wanted: "cuda" if wanted != "cpu" else "cpu")
    assert all(step.kept for step in run([slides], tmp_path / "out", colour_model)[1])
    assert all(step.kept for step in run([slides], tmp_path / "out", colour_model, device="cpu")[1])
    monkeypatch.setattr("histo.infer.device_kind", lambda wanted: "cuda")
    assert not any(step.kept for step in run([slides / "a.svs"], tmp_path / "out", colour_model, device="cpu")[1])


def test_a_profile_of_nothing_leaves_the_last_one(slides, colour_model, tmp_path, run):
    run([slides], tmp_path / "out", colour_model, profile=True)
    measured = (tmp_path / "out" / "profile.json").read_bytes()
    run([slides], tmp_path / "out", colour_model, profile=True)
    assert (tmp_path / "out" / "profile.json").read_bytes() == measured


@pytest.mark.parametrize("wrong", [{"mpp": 7.0}, {"engine": "foo"}, {"device": "gpu"}])
def test_a_command_that_is_refused_leaves_the_folder_alone(wrong, slides, tmp_path, colour_model, run):
    """Regression: run.json told of a scale that had just been refused, and an empty folder got an index page."""
    with pytest.raises(UsageError):
        run([slides], tmp_path / "out", colour_model, **wrong)
    assert not (tmp_path / "out").exists()
