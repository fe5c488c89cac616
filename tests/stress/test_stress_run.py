"""The command end to end on tiny slides: scored once, killed and taken up, judged, written."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from histo.errors import UsageError
from histo.models.bundle import CARD, load_bundle
from histo.stress import scoring
from histo.stress.catalogue import CATALOGUE, select
from histo.stress.command import Options, kit_of, run_stress
from histo.stress.determinism import report_hash
from histo.stress.run import lay_out, left_words, tasks_of
from histo.stress.scoring import Work, missing
from histo.stress.views import Source, View, make, numbers_of

QUICK = Options(slides=2, size_px=1000, tests="10,14,39", workers=1, device="cpu")


def run(bundle: Path | None, folder: Path, options: Options = QUICK) -> list[str]:
    lines: list[str] = []
    run_stress(bundle, folder, options, lambda done, total: None, lines.append)
    return lines


def test_forty_tests_each_with_what_it_needs():
    assert [t.number for t in CATALOGUE] == list(range(1, 41))
    assert len({t.name for t in CATALOGUE}) == 40
    assert all((t.run is None) != (t.judge.__name__ == "no_checks") for t in CATALOGUE)


def test_tests_are_named_by_number_range_name_and_group():
    assert [t.number for t in select("3, 14-16,needle")] == [3, 14, 15, 16, 27]
    assert [t.number for t in select("learning")] == list(range(33, 39))
    assert len(select(None)) == 40
    with pytest.raises(UsageError, match="is no stress test"):
        select("1,heat")
    for nothing in ("", ",", "3,"):  # Bug: no test was run, and all was well
        with pytest.raises(UsageError, match="is no stress test"):
            select(nothing)


def test_every_test_can_be_laid_out_and_more_slides_keep_the_first(colour_bundle, tmp_path):
    few, more = (kit_of(colour_bundle, tmp_path, Options(slides=n, size_px=1000)) for n in (4, 6))
    first, second = (lay_out(kit, CATALOGUE) for kit in (few, more))
    assert {v.key for s in first[15].values() for v in s} < {v.key for s in second[15].values() for v in s}
    keys = [view.key for by in first.values() for series in by.values() for view in series]
    shared = sum(len(views) for _, views in tasks_of(first))
    assert len(set(keys)) == shared < len(keys)  # the base is scored once for all


def test_a_map_is_kept_where_any_test_wants_it():
    source = Source("normal", 1, 1000)
    ((_, (view,)),) = tasks_of({1: {"a": [View(source)]}, 2: {"b": [View(source, keep_map=True)], "c": [View(source)]}})
    assert view.keep_map


def test_a_run_ends_with_a_table_and_the_same_command_scores_nothing_again(
    colour_bundle, tmp_path, monkeypatch, capsys
):
    lines = run(colour_bundle, tmp_path)
    assert lines[0].endswith("0 were scored before")
    assert any("left" in line for line in lines)
    told = json.loads((tmp_path / "stress.json").read_text())
    outcomes = {t["number"]: t["outcome"] for t in told["tests"]}
    assert outcomes[14] in ("insufficient n", "fail")
    assert all(outcomes[k] != "pass" for k in (10, 14))  # two slides are never enough
    assert told["summary"].startswith("3 tests: ")
    with open(tmp_path / "stress.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {r["number"] for r in rows} == {"10", "14", "39"}
    page = (tmp_path / "stress.html").read_text()
    assert "SYNTHETIC" in page
    assert all((tmp_path / part.split('"')[0]).is_file() for part in page.split('src="')[1:])
    assert "Open " in capsys.readouterr().out

    monkeypatch.setattr(scoring, "predict_slide", lambda *a, **k: pytest.fail("a slide was scored again"))
    again = Options(slides=2, size_px=1000, tests="10,14", workers=1, device="cpu")
    (line,) = run(colour_bundle, tmp_path, again)
    assert line.split(";")[1].split()[0] == line.split()[0]
    after = json.loads((tmp_path / "stress.json").read_text())
    assert [t["number"] for t in after["tests"]] == [10, 14, 39]  # 39 was judged by the first call
    assert after["tests"] == told["tests"]
    assert "--tests 10,14,39" in after["command"]


def test_an_earlier_table_of_other_slides_is_not_mixed_in(colour_bundle, tmp_path):
    run(colour_bundle, tmp_path, Options(slides=1, size_px=1000, tests="39", workers=1, device="cpu"))
    run(colour_bundle, tmp_path, Options(slides=1, size_px=1000, tests="10", workers=1, device="cpu", seed=5))
    assert [t["number"] for t in json.loads((tmp_path / "stress.json").read_text())["tests"]] == [10]


def test_the_table_goes_into_the_card_and_the_digest_stays(colour_bundle, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(colour_bundle, bundle)
    before = load_bundle(bundle).digest
    options = Options(slides=1, size_px=1000, tests="10,36", workers=1, device="cpu", note="stress")
    run(bundle, tmp_path / "out", options)
    model = load_bundle(bundle)
    assert model.digest == before
    noted = model.card.evaluation["stress"]["tests"]
    assert noted["10 turn"]["figures"]
    assert noted["36 shortcut"] == {"outcome": "not run", "figures": {}}
    # The commands of what was not run name folders; a card travels.
    assert str(tmp_path) not in (bundle / CARD).read_text()
    with pytest.raises(UsageError, match="give its folder"):
        run(None, tmp_path / "out", options)


def test_a_run_that_was_killed_goes_on_where_it_was(colour_bundle, tmp_path, monkeypatch):
    options = Options(slides=2, size_px=1000, tests="14", workers=1, device="cpu")
    real, scored = scoring.predict_slide, []

    def dies(*args, **named):
        if len(scored) == 1:
            raise KeyboardInterrupt
        scored.append(args)
        return real(*args, **named)

    monkeypatch.setattr(scoring, "predict_slide", dies)
    with pytest.raises(KeyboardInterrupt):
        run(colour_bundle, tmp_path, options)
    assert not list((tmp_path / "phantoms").glob(".*.svs"))
    monkeypatch.setattr(scoring, "predict_slide", real)
    assert run(colour_bundle, tmp_path, options)[0].endswith("; 1 were scored before")


def test_a_slide_that_changed_is_scored_again_and_a_deleted_one_is_not(colour_bundle, tmp_path):
    options = Options(slides=1, size_px=1000, tests="14", workers=1, device="cpu")
    run(colour_bundle, tmp_path, options)
    kit = kit_of(colour_bundle, tmp_path, options)
    tasks = tasks_of(lay_out(kit, select("14")))
    work = Work(kit.model, kit.phantoms, kit.store, "cpu", 1)
    (slide,) = kit.phantoms.glob("*.svs")
    assert missing(tasks, work) == []
    slide.write_bytes(slide.read_bytes() + b"0")
    assert missing(tasks, work) == tasks
    slide.unlink()
    assert missing(tasks, work) == []
    next(kit.store.folder.glob("*.json")).write_text("{}")
    assert missing(tasks, work) == tasks


def test_another_model_or_setting_has_scores_of_its_own(colour_bundle, tmp_path):
    kit = kit_of(colour_bundle, tmp_path, QUICK)
    assert kit.store.folder.name.startswith(kit.model.digest[:16])


def test_a_source_without_room_is_made_with_the_next_seed(tmp_path):
    wanted = numbers_of(**{"calcium.diameter_um": 330.0, "calcium.form": "solid", "calcium.count": 1})
    made = make(Source("calcinosis_cutis", 5, 1000, True, wanted), tmp_path)
    assert make(Source("calcinosis_cutis", 5, 1000, True, wanted), tmp_path) == made
    with pytest.raises(UsageError, match="fits on a slide"):
        make(Source("calcinosis_cutis", 5, 1000, True, numbers_of(**{"calcium.diameter_um": 9000.0})), tmp_path)


def test_a_model_of_other_verdicts_is_refused(tmp_path, colour_bundle, monkeypatch):
    from histo.stress import trial

    monkeypatch.setattr("histo.stress.command.BONE", "osteoma")
    with pytest.raises(UsageError, match="know the truth of"):
        kit_of(colour_bundle, tmp_path, QUICK)
    assert trial.BONE == "heterotopic_ossification"


def test_a_size_too_small_for_phantoms_is_refused(colour_bundle, tmp_path):
    with pytest.raises(UsageError, match="too small"):
        kit_of(colour_bundle, tmp_path, Options(size_px=500))


def test_the_time_left_reads_well():
    assert left_words(40) == "40 s"
    assert callable(report_hash)
