"""The evidence on few slides: training sets, wrong labels, resuming and the summary; no slide is made here."""

import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

BENCH = Path(__file__).parents[2] / "bench"
sys.path.insert(0, str(BENCH))  # the benches are scripts that import one another

from learning_arms import ARMS, NAMES, cohort_spec, flip, nested, outlined_first, refuse_known, shuffle  # noqa: E402
from learning_curve import FIELDS, KEY, append_row, figures, finished, flips_found, of_held, read_rows, told  # noqa: E402
from learning_summary import checks, goals, summarise  # noqa: E402

from histo.data.records import SlideRecord  # noqa: E402
from histo.errors import UsageError  # noqa: E402
from histo.learning.scores import Held  # noqa: E402
from histo.phantom.cohort import plan_cohort  # noqa: E402

seeds = st.integers(0, 10_000)


def pool(patients=60):
    jobs = plan_cohort(cohort_spec(4001, "train", patients, 1000))
    rows = [dict(zip(("slide", "path", "patient", "label"), job.row, strict=False)) for job in jobs]
    return [
        SlideRecord(
            r["slide"], Path(r["path"]), r["patient"], r["label"], Path("a.geojson"), extra={"kind": j.asked["kind"]}
        )
        for r, j in zip(rows, jobs, strict=True)
    ]


POOL = pool()


def row(arm="outlines-6", seed=1, balanced="0.9000", **more):
    told = dict.fromkeys(FIELDS, "") | {
        "arm": arm, "seed": str(seed), "config_digest": "c", "start_digest": "s", "n": "60", "balanced": balanced,
        "low": "0.8", "high": "0.95",
    }  # fmt: skip
    return told | more


@given(seed=seeds)
def test_training_sets_are_nested_balanced_and_of_whole_patients(seed):
    sets = {n: nested(POOL, n, seed) for n in (6, 12, 24)}
    for n, records in sets.items():
        assert len({r.patient for r in records}) == n
        assert Counter(r.label for r in records) == dict.fromkeys(NAMES, n // 3)
        kinds = Counter(r.extra["kind"] for r in records)
        assert kinds["normal"] == kinds["confounder"] == kinds["mixed"] == n // 6
    assert sets[24][:12] == sets[12]
    assert sets[12][:6] == sets[6]


def test_seeds_draw_different_sets():
    assert {r.slide for r in nested(POOL, 24, 1)} != {r.slide for r in nested(POOL, 24, 2)}


def test_a_pool_that_is_too_small_is_refused():
    with pytest.raises(UsageError, match="too few patients of kind"):
        nested(pool(12), 24, 1)


def test_half_of_a_set_has_the_outlines_of_the_smaller_one():
    half = outlined_first(nested(POOL, 24, 3), ARMS["half-24"].outlined)
    assert [r.slide for r in half if r.annotation] == [r.slide for r in nested(POOL, 12, 3)]


@given(seed=seeds, share=st.sampled_from([0.05, 0.1, 0.2]))
def test_flips_are_as_many_as_named_and_every_one_is_wrong(seed, share):
    records = nested(POOL, 24, 1)
    flipped, wrong = flip(records, share, seed)
    assert len(wrong) == max(1, round(24 * share))
    assert {a.slide for a, b in zip(records, flipped, strict=True) if a.label != b.label} == wrong


@given(seed=seeds)
def test_shuffling_keeps_the_number_of_every_label(seed):
    records = nested(POOL, 24, 1)
    assert Counter(r.label for r in shuffle(records, seed)) == Counter(r.label for r in records)


def test_the_shipped_models_cohort_is_refused():
    refuse_known(cohort_spec(4002, "shift", 60, 3000))
    with pytest.raises(UsageError, match="shares slides or patients"):
        refuse_known(cohort_spec(1, "train", 60, 3000).model_copy(update={"groups": _shipped_groups()}))


def _shipped_groups():
    group = cohort_spec(1, "train", 60, 3000).groups[0]
    return (type(group).model_validate({"slides": 150, "size_px": ["3000x3000"]}),)


def test_balanced_accuracy_weighs_labels_alike_and_takes_no_verdict_for_a_wrong_one():
    truth = ["normal"] * 8 + ["calcinosis_cutis"] * 2 + ["heterotopic_ossification"] * 2
    called = ["normal"] * 8 + ["none", "calcinosis_cutis"] + ["normal"] * 2
    score, low, high = figures(truth, [f"p{k}" for k in range(12)], called)
    assert score == pytest.approx((1 + 0.5 + 0) / 3)
    assert low < score < high


def test_verdicts_in_review_count_by_their_label_and_a_line_tells_all():
    verdicts = [("normal", "done"), ("normal", "review"), ("none", "refused"), ("calcinosis_cutis", "review")]
    truth = ["normal", "normal", "calcinosis_cutis", "calcinosis_cutis"]
    held = [
        Held(f"s{k}", f"p{k}", label, verdict, status, "", "test", {})
        for k, (label, (verdict, status)) in enumerate(zip(truth, verdicts, strict=True))
    ]
    row = of_held(held)
    assert (row["balanced"], row["reviewed"], row["no_verdict"]) == ("0.7500", "0.5000", "1")
    line = told(row | {"flips": "2", "flips_in_top_fifth": "1", "minutes": "3.20", "trainings": "6"})
    for part in ("0.7500", "n = 4", "50% of them in review", "1 of 2 flips", "6 training(s) in 3.20 min"):
        assert part in line


def test_the_costly_arms_come_last():
    assert [ARMS[name].cross_validated for name in ARMS] == sorted(arm.cross_validated for arm in ARMS.values())


def test_flips_count_in_the_first_fifth_of_all_slides_only(tmp_path):
    path = tmp_path / "suspicious.csv"
    path.write_text("rank,slide\n" + "".join(f"{k},s{k}\n" for k in range(1, 25)))
    assert flips_found(path, {"s5", "s6", "s99"}, 24) == 1


def test_a_finished_training_is_found_by_its_whole_key_only(tmp_path):
    path = tmp_path / "trainings.csv"
    for seed in (1, 2):
        append_row(path, row(seed=seed))
    rows = read_rows(path)
    assert [r["seed"] for r in rows] == ["1", "2"]
    key = ("outlines-6", "2", "c", "s")
    assert finished(rows, key) == rows[1]
    for k in range(len(KEY)):
        assert finished(rows, (*key[:k], "other", *key[k + 1 :])) is None


def test_a_table_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "trainings.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="other columns"):
        append_row(path, row())
    assert path.read_text() == "a,b\n1,2\n"


def test_the_summary_says_what_fell_short_and_what_was_not_measured():
    rows = [row(balanced=b, seed=s) for s, b in enumerate(("0.80", "0.90", "0.82"), start=1)]
    rows += [row("flipped-5", s, "0.90", flips="1", flips_in_top_fifth=str(s % 2)) for s in (1, 2, 3)]
    text = summarise(rows, "cohorts", [], 3)
    assert "outlines-6: mean balanced accuracy: +0.840, goal +0.85: MISSED" in text
    assert "outlines-12: mean balanced accuracy: not measured" in text
    assert "share of 3 flips in the top fifth of the suspicious labels: +0.667, goal +0.70: MISSED" in text
    assert "TRIAL" not in text
    assert "TRIAL" in summarise(rows, "cohorts", ["optimiser.epochs=1"], 3)
    assert "Tested on 6 patients only" in summarise([row(n="6")], "cohorts", [], 3)


def test_the_better_baseline_counts():
    rows = [row("outlines-24", balanced="0.95"), row("colour-24-linear", balanced="0.50")]
    rows.append(row("colour-24-trees", balanced="0.70"))
    found = {what: figure for what, figure, _ in goals({r["arm"]: [r] for r in rows})}
    assert found["outlines-24 above colour"] == pytest.approx(0.25)
    assert found["outlines-24 above texture"] is None


def test_time_counts_by_training_and_only_on_idle_cores():
    timed = {"minutes": "50", "trainings": "6", "unbroken": "yes", "load": "1.0"}
    rows = [row("flipped-5", 1, **timed), row("flipped-5", 2, **timed | {"load": "8.0", "minutes": "99"})]
    what, held, asked = checks({"flipped-5": rows})[-1]
    assert "10 minutes" in what
    assert (held, asked) == (1, 1)
