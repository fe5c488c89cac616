"""The demonstration: three phantoms with known truth, and any real slide, through the shipped model."""

from collections.abc import Sequence
from pathlib import Path

from histo.archive.examine import RunOptions
from histo.archive.local import run_slides
from histo.console import out, progress, verdict_table
from histo.infer import load_model
from histo.out_folder import INDEX
from histo.phantom import make_slide

# The first seed of each kind, not chosen. How often the shipped model is right is measured by bench/phantom_truth.py.
PHANTOMS = (
    ("phantom-1", "normal", 1),
    ("phantom-2", "calcinosis_cutis", 1),
    ("phantom-3", "heterotopic_ossification", 1),
)
SIZE_PX = (4000, 4000)


def run_demo(folder: Path, slides: Sequence[Path], mpp: float | None) -> int:
    """Make the phantoms, examine them and the given slides, print the verdicts; return the exit code."""
    out.print("Making three phantom slides (procedural skin with exact truth) …")
    made = [
        make_slide(folder / "phantoms", name, kind=kind, seed=seed, size_px=SIZE_PX) for name, kind, seed in PHANTOMS
    ]
    model = load_model()
    with progress("tiles") as start:
        results = run_slides([m.slide for m in made], folder / "results", model, RunOptions(), on_start=start)
        real = run_slides(slides, folder / "real", model, RunOptions(mpp=mpp), on_start=start) if slides else []
    out.print(verdict_table([*results, *real]))
    truth = [m.label for m in made]
    right = [r for r, label in zip(results, truth, strict=True) if r.verdict is not None and r.verdict.label == label]
    unsure = [r for r in results if r not in right and r.status == "review"]
    also = f", {len(unsure)} of the others in review" if len(right) < len(made) else ""
    out.print(f"{len(right)} of {len(made)} phantoms right{also} (truth: {', '.join(truth)})")
    for part in ["results", "real"][: 1 + bool(real)]:
        out.print(f"Open {folder / part / INDEX}", markup=False)
    return 0 if all(r.status in ("done", "review") for r in [*results, *real]) else 3
