"""`histo infer --profile`: where the time of a run went, and how near it came to what the machine can do at all."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from histo.data.slide import Slide
from histo.data.tiff_blocks import open_blocks
from histo.data.tiles import TileBatch, TileDataset, sample_tiles
from histo.files import write_text
from histo.geometry import TileGrid
from histo.models.engine import Engine, Engines, score_batches, usable_cores
from histo.opening import Opened
from histo.timing import Timings

FLOOR_TILES = 32  # neighbouring tiles on which the floor is measured


@dataclass(frozen=True)
class Floor:
    """What a tile costs when nothing else is done, in seconds of wall time on all lanes and cores."""

    network_s: float
    reading_s: float


@dataclass(frozen=True)
class SlideProfile:
    """One slide: `stages` by name, wall time in all, tiles and tissue, and the share of the floor that was reached.

    The floor is what network and reading alone take for as many tiles, measured right after the slide: on the same
    cores the sum of both, with a GPU the longer one. The tissue is all of it, in screen mode too, where the tiles are
    those that the network was shown.
    """

    slide_id: str
    wall_s: float
    tiles: int
    tissue_mm2: float
    cores: int
    engine: str
    stages: dict[str, dict[str, float]]
    floor_network_s: float
    floor_reading_s: float
    share_of_floor: float


class RunProfile:
    """Collects the profiles of a run and writes `profile.json`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.slides: list[SlideProfile] = []

    def add(self, slide_id: str, opened: Opened, engines: Engines, wall_s: float) -> None:
        """Add a slide that was scored; measures the floor on some of its tiles, which takes a second or so."""
        tiles, laid = opened.shown, opened.laid
        assert tiles is not None
        engine = engines.pick(lambda: sample_tiles(laid.slide, tiles))
        floor = measure_floor(laid.slide, tiles, engine) if len(tiles) else Floor(0.0, 0.0)
        network_s, reading_s = floor.network_s * len(tiles), floor.reading_s * len(tiles)
        together = network_s + reading_s if engine.device == "cpu" else max(network_s, reading_s)
        self.slides.append(
            SlideProfile(
                slide_id,
                wall_s,
                len(tiles),
                float(laid.tissue.sum(dtype=np.float64)) * tiles.map_grid.cell_mm2,
                usable_cores(),
                engine.why,
                {name: asdict(stage) for name, stage in opened.timings.stages.items()},
                network_s,
                reading_s,
                together / wall_s,
            )
        )

    def write(self) -> None:
        """Write the file, whole or not at all."""
        write_text(self.path, json.dumps({"slides": [asdict(s) for s in self.slides]}, indent=1) + "\n")


def measure_floor(slide: Slide, tiles: TileGrid, engine: Engine) -> Floor:
    """Time the reading alone and then the network alone, on neighbouring tiles of those that the network was shown."""
    first = max(0, len(tiles) // 2 - FLOOR_TILES // 2)
    few = np.arange(first, min(first + FLOOR_TILES, len(tiles)))
    part = tiles.some(few)
    with slide, open_blocks(slide, part) or nullcontext(slide) as reader:
        data = TileDataset.of(reader, part)
        started = time.perf_counter()
        with ThreadPoolExecutor(usable_cores()) as pool:
            found = [tile for tile in pool.map(data.__getitem__, range(len(data))) if tile is not None]
        reading_s = (time.perf_counter() - started) / len(data)
    if not found:
        return Floor(0.0, reading_s)
    size = engine.batch_size
    none = np.empty(0, np.int64)
    batches = [TileBatch(np.stack(found[i : i + size]), none, none) for i in range(0, len(found), size)]
    started = time.perf_counter()
    for _ in score_batches(batches, engine, Timings()):
        pass
    return Floor((time.perf_counter() - started) / len(found), reading_s)


def read_profile(path: Path) -> list[SlideProfile]:
    """Read a `profile.json` that this version wrote."""
    return [SlideProfile(**slide) for slide in json.loads(path.read_text(encoding="utf-8"))["slides"]]


def lines_of(profile: SlideProfile) -> list[str]:
    """Return a slide's profile as lines of text."""
    lines = [
        f"{profile.slide_id}: {profile.wall_s:.2f} s, {profile.tissue_mm2 / profile.wall_s:.2f} mm² of tissue a "
        f"second, {profile.tiles} tiles, {profile.cores} cores; {profile.engine}",
        f"  {'stage':<22} {'calls':>6} {'busy s':>8} {'cpu s':>8} {'MB':>9} {'of cores':>9}",
    ]
    for name, stage in profile.stages.items():
        used = stage["cpu_s"] / (profile.wall_s * profile.cores)
        lines.append(
            f"  {name:<22} {stage['calls']:>6.0f} {stage['busy_s']:>8.3f} {stage['cpu_s']:>8.3f} "
            f"{stage['bytes'] / 1e6:>9.1f} {used:>8.1%}"
        )
    lines.append(
        f"  floor: network alone {profile.floor_network_s:.2f} s, reading alone {profile.floor_reading_s:.2f} s; "
        f"{profile.share_of_floor:.0%} of it reached"
    )
    return lines
