"""Several processes give the same results, in the same books, as one; a process that dies costs one slide."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from histo.archive import local, workers
from histo.archive.examine import RunOptions
from histo.archive.ledger import Ledger
from histo.archive.local import run_slides
from histo.errors import UsageError
from histo.infer import predict_slide
from histo.models.bundle import SHIPPED, load_bundle
from histo.models.engine import has_onnx
from histo.opening import open_for

needs_onnx = pytest.mark.skipif(not has_onnx(), reason="the extra fast is not installed")


@pytest.fixture
def slides(slides: Path) -> Path:
    (slides / "d.svs").write_text("not a slide")
    return slides


@needs_onnx  # workers find the tests' own backbone in the kept export
def test_two_workers_give_what_one_process_gives(slides, tmp_path, colour_model):
    alone = run_slides([slides], tmp_path / "alone", colour_model, RunOptions())
    steps = []
    model = load_bundle(colour_model.folder, lazy=True)
    both = run_slides([slides], tmp_path / "both", model, RunOptions(workers=2), on_step=steps.append)
    assert both == alone
    assert sorted(s.number for s in steps) == [1, 2, 3, 4]
    assert not list((tmp_path / "both" / "slides").glob(".*"))
    ledger = Ledger(tmp_path / "both" / "ledger.sqlite")
    assert {e.slide_id: e.status for e in ledger.entries()} == {r.slide_id: r.status for r in alone}
    ledger.close()
    again = []
    run_slides([slides], tmp_path / "both", model, RunOptions(workers=2), on_step=again.append)
    assert {s.result.slide_id: s.kept for s in again} == {"a": True, "b": True, "c": True, "d": False}


def test_a_worker_that_is_killed_costs_one_slide(slides, tmp_path, colour_model, monkeypatch):
    """Faults 41: what the system does to a process that takes too much memory."""
    monkeypatch.setattr(workers, "_work", _deadly)
    tasks = [workers.Task(n, slides / f"{x}.svs", x, tmp_path / x) for n, x in enumerate("ab", start=1)]
    with workers.Workers(colour_model, RunOptions(workers=2)) as pool:
        results = {task.slide_id: result for task, result in _run(pool, tasks)}
    assert {k: (r.status, r.reasons[0].code) for k, r in results.items()} == dict.fromkeys(
        "ab", ("failed", "internal_error")
    )
    assert "worker process was killed" in results["a"].reasons[0].message
    assert (tmp_path / "a" / "result.json").is_file()


def test_whoever_interrupts_does_not_wait_for_the_slides_at_work(slides, tmp_path, colour_model, monkeypatch):
    monkeypatch.setattr(workers, "_work", _endless)
    tasks = [workers.Task(n, slides / f"{x}.svs", x, tmp_path / x) for n, x in enumerate("ab", start=1)]

    def interrupted():
        yield from tasks
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), workers.Workers(colour_model, RunOptions(workers=3)) as pool:
        list(_run(pool, interrupted()))
    assert time.monotonic() - started < 60


def test_a_worker_that_was_killed_while_idle_is_replaced(slides, tmp_path, colour_model, monkeypatch):
    monkeypatch.setattr(workers, "_work", _quick)
    with workers.Workers(colour_model, RunOptions(workers=1)) as pool:
        pool.start(workers.Task(1, slides / "a.svs", "a", tmp_path / "a"))
        assert [result for _, result in pool.until_done()] == ["a"]
        for child in multiprocessing.active_children():
            child.kill()
            child.join()
        time.sleep(0.5)  # the pool hears of it
        pool.start(workers.Task(2, slides / "b.svs", "b", tmp_path / "b"))
        assert [result for _, result in pool.until_done()] == ["b"]


def _run(pool, tasks):
    for task in tasks:
        yield from pool.until_free()
        pool.start(task)
    yield from pool.until_done()


def _quick(task):
    return task.slide_id


def _endless(task):
    time.sleep(600)


def _deadly(task):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_profile_is_of_one_process(slides, tmp_path, colour_model):
    with pytest.raises(UsageError, match="leave out --workers"):
        run_slides([slides], tmp_path / "out", colour_model, RunOptions(workers=2, profile=True))


def test_the_next_slide_is_opened_while_this_one_is_computed(slides, tmp_path, colour_model, monkeypatch):
    opened: list[str] = []
    seen_at: dict[str, list[str]] = {}
    original_open, original_examine = local.open_for, local.examine

    def opening(path, *rest):
        found = original_open(path, *rest)
        opened.append(path.stem)
        return found

    def examining(path, *rest):
        deadline = time.monotonic() + 5
        while len(opened) < min(len(seen_at) + 2, 4) and time.monotonic() < deadline:
            time.sleep(0.01)
        seen_at[path.stem] = list(opened)
        return original_examine(path, *rest)

    monkeypatch.setattr(local, "open_for", opening)
    monkeypatch.setattr(local, "examine", examining)
    run_slides([slides], tmp_path / "out", colour_model, RunOptions())
    assert seen_at == {"a": ["a", "b"], "b": ["a", "b", "c"], "c": ["a", "b", "c", "d"], "d": ["a", "b", "c", "d"]}
    assert not [t for t in threading.enumerate() if t.name.startswith("histo-")]


def test_what_breaks_while_looking_ahead_costs_that_slide(slides, tmp_path, colour_model, monkeypatch):
    original = local.open_for

    def fragile(path, *rest):
        if path.stem == "b":
            raise ValueError("planted")
        return original(path, *rest)

    monkeypatch.setattr(local, "open_for", fragile)
    monkeypatch.setattr("histo.archive.examine.open_for", fragile)
    results = run_slides([slides], tmp_path / "out", colour_model, RunOptions())
    assert [r.slide_id for r in results if r.reasons and r.reasons[0].code == "internal_error"] == ["b"]


def test_a_slide_that_changes_while_it_is_read_fails_and_is_tried_again(slides, tmp_path, colour_model):
    """Faults 27: the pixels of one file and the hash of another would make a false result."""
    opened = open_for(slides / "a.svs", colour_model)
    shutil.copy(slides / "b.svs", slides / "new.svs")
    os.replace(slides / "new.svs", slides / "a.svs")
    result = predict_slide(slides / "a.svs", colour_model, opened=opened).result
    assert (result.status, result.reasons[0].code, result.verdict) == ("failed", "changed", None)


def test_the_profile_names_every_stage_and_the_floor(slides, tmp_path, colour_bundle):
    from histo.archive.profiling import lines_of, read_profile

    model = load_bundle(colour_bundle)
    run_slides([slides], tmp_path / "out", model, RunOptions(profile=True))
    found = read_profile(tmp_path / "out" / "profile.json")
    assert [p.slide_id for p in found] == ["a", "b", "c"]
    for p in found:
        assert {"opening", "overview", "tissue", "hashing", "reading", "network", "stitching", "report"} <= set(
            p.stages
        )
        assert p.stages["reading"]["calls"] == p.tiles > 0
        assert p.stages["reading"]["bytes"] == p.tiles * 3 * model.card.tile.size_px**2
        assert 0 < p.share_of_floor < 1.5  # a floor measured on a few small tiles is no more exact than that
        # Bug: what was done ahead of a slide was in no slide's time, and its stages took longer than it did.
        ahead = sum(p.stages[name]["busy_s"] for name in ("opening", "overview", "tissue", "stain"))
        assert 0 < ahead < p.wall_s
        assert any("of it reached" in line for line in lines_of(p))


def test_with_a_gpu_the_floor_is_the_longer_of_network_and_reading(slides, colour_model, monkeypatch):
    """Regression: they run beside one another there, but were added: more than 100 % of the floor was reached."""
    from histo.archive import profiling
    from histo.models.engine import Engines

    opened = open_for(slides / "a.svs", colour_model)
    opened.shown = opened.laid.tiles
    engines = Engines(colour_model, "torch", "cpu")
    monkeypatch.setattr(profiling, "measure_floor", lambda *_: profiling.Floor(0.3, 0.2))
    shares = []
    for device in ("cpu", "cuda:0"):
        profile = profiling.RunProfile(slides / "profile.json")
        monkeypatch.setattr(engines.pick(lambda: None), "device", device)
        profile.add("a", opened, engines, wall_s=1.0)
        shares.append(profile.slides[0].share_of_floor / len(opened.shown))
    assert shares == pytest.approx([0.5, 0.3])


def test_what_is_kept_is_told_before_the_first_new_slide_is_done(slides, tmp_path, colour_model):
    """Regression: with several workers a resumed run was silent until then, and held all kept results with outlines."""
    told: list[tuple[str, bool]] = []
    out, options = tmp_path / "out", RunOptions(workers=2)
    run_slides([slides / "a.svs", slides / "b.svs"], out, colour_model, RunOptions())
    run_slides([slides], out, colour_model, options, lambda step: told.append((step.result.slide_id, step.kept)))
    assert told[:2] == [("a", True), ("b", True)]
    assert not any(kept for _, kept in told[2:])


def test_workers_use_one_gpu_each_and_say_that_it_was_there(monkeypatch):
    """Regression: every worker said that the GPU was asked for, though nobody asked."""
    monkeypatch.setattr(workers, "device_kind", lambda device: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [workers._gpu_of("auto", place) for place in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert workers._gpu_of("cuda", 3) == "cuda:1"
    assert workers._gpu_of("cuda:1", 0) is None
    assert workers._gpu_of("cpu", 1) is None


@pytest.mark.parametrize(("usable", "each"), [(2, 1), (3, 1), (8, 2), (9, 3)])
def test_workers_share_the_cores_and_each_has_one_at_least(usable, each, colour_model, monkeypatch):
    given = []
    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda *_, initargs, **options: given.append(initargs))
    monkeypatch.setattr(workers, "usable_cores", lambda: usable)
    workers.Workers(colour_model, RunOptions(workers=3))._pool(0)
    assert given[0][2] == each


def test_fast_and_plain_paths_agree_on_a_phantom(phantoms):
    """Every probability within 0.001 of what torch says of OpenSlide's pixels, normalised, nothing folded."""
    import numpy as np

    from histo.data.slide import open_slide
    from histo.models.onnx_export import reference
    from histo.models.stitching import Stitcher

    model = load_bundle(SHIPPED)
    path = phantoms["heterotopic_ossification"].slide
    maps = {name: predict_slide(path, model, engine=name).slide_map for name in ("auto", "torch")}
    laid = open_for(path, model).laid
    with open_slide(path) as slide:
        stitcher = Stitcher(laid.tiles, len(model.card.classes.names))
        for i, (x, y) in enumerate(laid.tiles.positions_level0_px.tolist()):
            tile = laid.stain_norm.apply(slide.read_tile((x, y), laid.tiles.plan))
            stitcher.add(np.array([i]), reference(model, tile[None]).probability)
    for found in maps.values():
        assert (found.valid == (stitcher.valid & (found.tissue > 0))).all()
        np.testing.assert_allclose(
            found.probability[:, found.valid].astype(np.float32),
            stitcher.probability[:, found.valid].astype(np.float32),
            atol=1e-3,
        )


def test_start_up_leaves_the_heavy_packages_alone():
    """From the shell to the first read: no torch, and nothing that only training needs.

    Regression: scipy came in with a function of four lines, and every start took half a second longer.
    """
    code = (
        "import sys, histo.cli, histo.archive.local\n"
        "heavy = {'torch', 'scipy', 'matplotlib', 'albumentations', 'pytorch_lightning', 'onnx'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_the_command_line_alone_needs_no_numbers():
    """What `histo --help` waits for."""
    code = "import sys, histo.cli; print({'torch', 'numpy', 'pydantic', 'openslide'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "set()", done.stderr


def test_pickling_a_model_leaves_its_network_behind(colour_model):
    import pickle

    copy = pickle.loads(pickle.dumps(replace(colour_model)))
    assert (copy.card, copy.digest) == (colour_model.card, colour_model.digest)
    assert "network" not in copy.__dict__
