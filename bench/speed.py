"""Speed of whole commands, interleaved: histo in every mode, a plain script and, where installed, other tools.

    python bench/speed.py SCRATCH [--source SLIDE --mpp 0.5] [--mm2 30] [--backbone mobilenet_v3_small] [--rounds 3]
        [--wsinfer PYTHON] [--tiatoolbox PYTHON] [--extra 'name=PYTHON run.py {slide} {model} {out}']
        [--only 'histo,plain script']
    python bench/speed.py SCRATCH --bundle BUNDLE [--mm2 30] [--rounds 3]

Makes one slide (cut and mirrored out of SOURCE, or a phantom) and one network with fixed random weights for 224 px
tiles at 0.5 µm/px, as a histo bundle and as TorchScript, then runs every command in turn, round by round, on the slide
and on a small one; then histo once more with --profile, for its share of the floor. Ratios are taken inside a round: on
a shared machine times of different rounds say little.
`--wsinfer` is the Python of an environment with `wsinfer==0.6.1 openslide-python openslide-bin 'zarr<3'`,
`--tiatoolbox` that of one with `tiatoolbox==2.1.3 openslide-bin`. An extra command must write OUT/probs.csv with
columns minx, miny and the classes.

With `--bundle` the model is a trained one, and full mode runs against screen mode on a typical slide: phantoms side by
side, calcium in one place.
"""

import argparse
import csv
import json
import os
import shlex
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from bench_inputs import make_model, make_slide, make_typical

from histo.archive.profiling import read_profile
from histo.data.slide import open_slide
from histo.geometry import plan_read
from histo.infer import load_model
from histo.models.engine import Engines
from histo.results import load_result

HERE = Path(__file__).parent
TILE_PX, TILE_MM2 = 224, 224 * 224 * 0.25e-6


@dataclass
class Runs:
    """What was measured of one command, a number a round."""

    wall_s: list[float] = field(default_factory=list)
    start_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    tiles: int = 0


def tree(pid: int) -> list[int]:
    """Return a process and its descendants."""
    found, waiting = [], [pid]
    while waiting:
        one = waiting.pop()
        found.append(one)
        try:
            for thread in os.listdir(f"/proc/{one}/task"):
                waiting += map(int, Path(f"/proc/{one}/task/{thread}/children").read_text().split())
        except OSError:
            continue
    return found


def memory_mb(pid: int) -> float:
    """Return the proportional set size of a process tree: shared pages are counted once."""
    total = 0
    for one in tree(pid):
        try:
            rollup = Path(f"/proc/{one}/smaps_rollup").read_text()
        except OSError:
            continue
        total += next((int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")), 0)
    return total * 1024 / 1e6


def run(command: list[str], log: Path) -> tuple[float, float, float]:
    """Run a command; return wall seconds, processor seconds and the peak memory of its process tree in MB."""
    with open(log, "ab") as file:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        peak, stop = 0.0, threading.Event()

        def watch() -> None:
            nonlocal peak
            while not stop.wait(0.2):
                peak = max(peak, memory_mb(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        stop.set()
        watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{shlex.join(command)} ended with {process.returncode}; see {log}")
    return wall, usage.ru_utime + usage.ru_stime, peak


def commands(given: argparse.Namespace) -> dict[str, str]:
    """Return the commands by name, with {slide}, {folder}, {model} and {out} still to be filled in."""
    infer = f"{sys.executable} -m histo.cli infer {{slide}} --model {{model}} --out {{out}}"
    if given.bundle:
        return {"histo": infer, "histo --mode screen": f"{infer} --mode screen"}
    found = {
        "histo": infer,
        "histo --engine torch": f"{infer} --engine torch",
        "plain script": f"{sys.executable} {HERE / 'plain_script.py'} {{slide}} {{model}} {{out}}",
    }
    if given.wsinfer:
        found["wsinfer"] = f"{given.wsinfer} {HERE / 'run_wsinfer.py'} {{folder}} {{model}} {{out}}"
        found["wsinfer --speedup"] = f"{found['wsinfer']} --speedup"
    if given.tiatoolbox:
        found["tiatoolbox"] = f"{given.tiatoolbox} {HERE / 'run_tiatoolbox.py'} {{slide}} {{model}} {{out}}"
    found |= dict(extra.split("=", 1) for extra in given.extra)
    return {name: text for name, text in found.items() if not given.only or name in given.only.split(",")}


def tiles_of(out: Path) -> dict[tuple[int, int], list[float]]:
    """Return the probabilities of another tool by the level-0 place of its tile."""
    found: dict[tuple[int, int], list[float]] = {}
    for path in [*out.glob("probs.csv"), *out.glob("model-outputs-csv/*.csv")]:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                names = [k for k in row if k not in ("minx", "miny", "width", "height")]
                found[int(float(row["minx"])), int(float(row["miny"]))] = [float(row[k]) for k in names]
    return found


def largest_difference(tiles: dict[tuple[int, int], list[float]], slide: Path, model_path: Path) -> float:
    """Score some of another tool's tiles with histo's own reader and engine; return the largest difference."""
    model = load_model(model_path)
    some = dict(list(tiles.items())[:: max(1, len(tiles) // 100)])
    with open_slide(slide) as opened:
        plan = plan_read(opened.pyramid, model.card.tile.mpp, model.card.tile.size_px)
        rgb = np.stack([opened.read_tile(place, plan) for place in some])
    engine = Engines(model, "auto", "cpu").pick(lambda: rgb[:3])
    ours = np.concatenate([engine.see(rgb[i : i + 5]).probability for i in range(0, len(rgb), 5)]).mean(axis=(2, 3))
    return float(np.abs(ours - np.array(list(some.values()))).max())


def spread(values: list[float], digits: int = 2) -> str:
    """Return min / median / max."""
    return " / ".join(f"{v:.{digits}f}" for v in (min(values), statistics.median(values), max(values)))


def main() -> None:
    """Make the inputs, run everything, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--source", type=Path)
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--mm2", type=float, default=30.0)
    parser.add_argument("--backbone", default="mobilenet_v3_small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--wsinfer")
    parser.add_argument("--tiatoolbox")
    parser.add_argument("--extra", action="append", default=[])
    parser.add_argument("--only")
    given = parser.parse_args()
    given.scratch.mkdir(parents=True, exist_ok=True)
    small = make_slide(given.scratch / "small", given.source, given.mpp, 0.5)
    if given.bundle:
        large, model = make_typical(given.scratch / f"typical-{given.mm2:g}", given.mm2), given.bundle
    else:
        large = make_slide(given.scratch / "large", given.source, given.mpp, given.mm2)
        model = make_model(given.scratch / given.backbone, given.backbone, large)
    measured = {name: Runs() for name in commands(given)}
    outs = {name: given.scratch / "out" / name.replace(" ", "_") for name in measured}
    for round_number in range(-1, given.rounds):  # the first is to fill caches, and counts for nothing
        for name, text in commands(given).items():
            for slide in (small, large)[: 1 if round_number < 0 else 2]:
                subprocess.run(["rm", "-rf", str(outs[name])], check=True)
                filled = text.format(slide=slide, folder=slide.parent, model=model, out=outs[name])
                wall, cpu, peak = run(shlex.split(filled), given.scratch / "log.txt")
                one = measured[name] if round_number >= 0 else Runs()
                if slide == small:
                    one.start_s.append(wall)
                else:
                    one.wall_s.append(wall)
                    one.cpu_s.append(cpu)
                    one.peak_mb.append(peak)
            if round_number >= 0:
                print(
                    f"round {round_number + 1}, {name}: {one.wall_s[-1]:.1f} s, small {one.start_s[-1]:.1f} s",
                    flush=True,
                )
    report(measured, outs, large, model)
    for name, text in commands(given).items():
        if name.startswith("histo"):
            tell_floor(name, f"{text} --profile".format(slide=large, model=model, out=outs[name]), outs[name])


def report(measured: dict[str, Runs], outs: dict[str, Path], slide: Path, model: Path) -> None:
    """Print the table, ratios against the first command, and how far other tools' numbers are from ours."""
    base = measured[next(iter(measured))]
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; min / median / max of {len(base.wall_s)} rounds\n")
    head = ["command", "wall s", "cpu s", "small slide s", "peak MB", "tiles", "mm²/s", "times the first", "cpu, times"]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for name, runs in measured.items():
        other = tiles_of(outs[name])
        result = next((load_result(p) for p in outs[name].glob("slides/*/result.json")), None)
        area = result.areas.scored_mm2 + result.areas.screened_mm2 if result and result.areas else len(other) * TILE_MM2
        ratios = [a / b for a, b in zip(runs.wall_s, base.wall_s, strict=True)]
        work = [a / b for a, b in zip(runs.cpu_s, base.cpu_s, strict=True)]
        cells = [
            name, spread(runs.wall_s), spread(runs.cpu_s), spread(runs.start_s), spread(runs.peak_mb, 0),
            str(len(other) or "-"), f"{area / statistics.median(runs.wall_s):.2f}", spread(ratios), spread(work),
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")
        if other:
            worst = largest_difference(other, slide, model)
            measured[name].tiles = len(other)
            print(f"<!-- {name}: largest difference in probability on its own tiles {worst:.2g} -->")
    (slide.parent.parent / "speed.json").write_text(json.dumps({k: vars(v) for k, v in measured.items()}, indent=1))


def tell_floor(name: str, command: str, out: Path) -> None:
    """Run a command of histo once more and print how near it comes to network and decoding alone on these cores."""
    subprocess.run(["rm", "-rf", str(out)], check=True)
    subprocess.run(shlex.split(command), check=True, stdout=subprocess.DEVNULL)
    (one,) = read_profile(out / "profile.json")
    print(
        f"{name}: {one.wall_s:.1f} s without the start; network alone {one.floor_network_s:.1f} s, reading alone "
        f"{one.floor_reading_s:.1f} s: {one.share_of_floor:.0%} of the floor"
    )


if __name__ == "__main__":
    main()
