"""The summary of bench/learning_curve.py: mean and sd of every arm, and which goals of the project are met."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import mean, stdev

Row = Mapping[str, str]
MOST_MINUTES = 10.0  # of one training on 24 slides, on two idle cores
MOST_LOAD = 3.0  # above it other programs had the cores as well
NETWORKS = ("outlines-24", "outlines-12", "outlines-6")


def by_arm(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Group rows, arms in the order in which they come."""
    arms: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        arms[row["arm"]].append(row)
    return dict(arms)


def average(arms: Mapping[str, Sequence[Row]], arm: str) -> float | None:
    """Return the mean balanced accuracy of an arm over its seeds, None for one that has no row."""
    return mean(float(r["balanced"]) for r in arms[arm]) if arm in arms else None


def goals(arms: Mapping[str, Sequence[Row]]) -> list[tuple[str, float | None, float]]:
    """Return every goal on verdicts as (what, figure or None, at least)."""
    figure = {arm: average(arms, arm) for arm in arms}

    def gain(arm: str, over: str) -> float | None:
        one, other = figure.get(arm), figure.get(over)
        return None if one is None or other is None else one - other

    found = [
        (f"{arm}: mean balanced accuracy", figure.get(arm), least)
        for arm, least in (("outlines-6", 0.85), ("outlines-12", 0.93), ("outlines-24", 0.97), ("diagnosis-24", 0.90))
    ]
    # "Half and half beats either alone" can be read in two ways: as its parts, and as the whole set.
    found += [
        (f"half-24 above {over}", gain("half-24", over), 0.0) for over in ("diagnosis-24", "outlines-12", "outlines-24")
    ]
    found += [
        (f"{arm} against diagnosis-24", gain(arm, "diagnosis-24"), -most)
        for arm, most in (("flipped-5", 0.02), ("flipped-10", 0.05))
    ]
    for what, least in (("colour", 0.30), ("texture", 0.15)):
        known = [f for j in ("linear", "trees") if (f := figure.get(f"{what}-24-{j}")) is not None]
        best, own = max(known, default=None), figure.get("outlines-24")
        found.append((f"outlines-24 above {what}", None if best is None or own is None else own - best, least))
    found.append(("inked against outlines-24, tested without ink", gain("inked", "outlines-24"), -0.05))
    for arm in ("flipped-5", "flipped-10"):
        flips = sum(int(r["flips"]) for r in arms.get(arm, ()))
        share = sum(int(r["flips_in_top_fifth"]) for r in arms.get(arm, ())) / flips if flips else None
        found.append((f"{arm}: share of {flips} flips in the top fifth of the suspicious labels", share, 0.70))
    return found


def checks(arms: Mapping[str, Sequence[Row]]) -> list[tuple[str, int, int]]:
    """Return what must hold in every training as (what, how often it held, how often it was asked)."""
    shuffled, inked, clean = (arms.get(a, ()) for a in ("shuffled", "inked", "outlines-24"))
    timed = [
        float(r["minutes"]) / int(r["trainings"])
        for rows in arms.values()
        for r in rows
        if r["minutes"] and r["unbroken"] == "yes" and float(r["load"]) <= MOST_LOAD
    ]
    chance = sum(float(r["held_low"]) <= 1 / 3 <= float(r["held_high"]) for r in shuffled)
    return [
        ("shuffled labels: chance lies in the interval of the held-out verdicts", chance, len(shuffled)),
        ("planted ink: the training report warns", sum(r["ink_warned"] == "yes" for r in inked), len(inked)),
        ("no planted ink: no warning of it", sum(r["ink_warned"] == "no" for r in clean), len(clean)),
        (
            f"a training in {MOST_MINUTES:g} minutes (unbroken, load at most {MOST_LOAD:g})",
            sum(t <= MOST_MINUTES for t in timed),
            len(timed),
        ),
    ]


def _table(arms: Mapping[str, Sequence[Row]]) -> list[str]:
    lines = [
        "| arm | seeds | n | balanced accuracy, mean (sd) | each seed (95 % by patient) | in review | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    for arm, rows in arms.items():
        scores = [float(r["balanced"]) for r in rows]
        sd = f"{stdev(scores):.3f}" if len(scores) > 1 else "–"
        each = "; ".join(f"{float(r['balanced']):.3f} ({float(r['low']):.3f} to {float(r['high']):.3f})" for r in rows)
        review = [float(r["reviewed"]) for r in rows if r["reviewed"]]
        minutes = [float(r["minutes"]) / int(r["trainings"]) for r in rows if r["minutes"]]
        lines.append(
            f"| {arm} | {', '.join(r['seed'] for r in rows)} | {'/'.join(sorted({r['n'] for r in rows}))} "
            f"| {mean(scores):.3f} ({sd}) | {each} | {f'{mean(review):.2f}' if review else '–'} "
            f"| {f'{max(minutes):.1f}' if minutes else '–'} |"
        )
    return lines


def summarise(rows: Sequence[Row], cohorts: str, overrides: Sequence[str], seeds: int) -> str:
    """Return the summary as Markdown; what was not measured is called so, not met."""
    arms = by_arm(rows)
    lines = ["# How few slides are enough", "", "SYNTHETIC: phantoms, no clinical meaning. " + f"Cohorts: {cohorts}."]
    if overrides:
        lines.append(f"A TRIAL, no evidence: the configurations were changed ({', '.join(overrides)}).")
    lines += [
        "",
        *_table(arms),
        "",
        "Minutes are the longest of one training; the verdicts on the test cohort come on top.",
        "",
    ]
    short: list[str] = []
    for what, figure, least in goals(arms):
        met = figure is not None and (figure > least if " above " in what and least == 0 else figure >= least - 1e-9)
        state = "not measured" if figure is None else f"{figure:+.3f}, goal {least:+.2f}: {'met' if met else 'MISSED'}"
        lines.append(f"- {what}: {state}")
        short += [what] if figure is not None and not met else []
    for what, held, asked in checks(arms):
        state = f"{held} of {asked}: {'met' if held == asked else 'MISSED'}" if asked else "not measured"
        lines.append(f"- {what}: {state}")
        short += [what] if held < asked else []
    fewer = [f"{arm} ({len(r)})" for arm, r in arms.items() if len(r) < seeds and arm != "start"]
    tested = {int(r["n"]) for r in rows}
    lines += ["", f"Fell short: {'; '.join(short) if short else 'nothing that was measured'}."]
    if fewer:
        lines.append(f"Fewer than {seeds} seeds: {', '.join(fewer)}.")
    if tested and min(tested) < 60:
        lines.append(f"Tested on {min(tested)} patients only; the goals ask for 60.")
    return "\n".join(lines) + "\n"
