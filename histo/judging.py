"""Whether a slide may be judged at all: gathers its evidence while its tiles pass, and says what speaks against it."""

from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from histo.data.blackness import black_reasons, black_share
from histo.data.glass import glass_of
from histo.data.quality import judge_quality
from histo.data.tiff_blocks import open_blocks
from histo.data.tile_sample import THREADS, TileSample, fullest, usable
from histo.data.tiles import TileBatch, TileDataset, stream_batches
from histo.geometry import tile_means
from histo.models.bundle import Model
from histo.models.engine import Engine, Seen, check_finite, score_batches
from histo.models.foreign import Gathered, distance_of, foreign_reasons
from histo.opening import Laid
from histo.results import Checks, Reason
from histo.timing import Timings


@dataclass(eq=False)
class Judge:
    """Takes every batch of a slide's tiles, keeps a few pictures, gathers the texture, and judges in the end."""

    sample: TileSample
    counted: NDArray[np.float64]  # the share of tissue of every tile that counts for the texture, 0 of the others
    glass: NDArray[np.float64]
    mpp: float
    black: float | None
    _gathered: Gathered = field(default_factory=Gathered)
    _at_a_glance: bool = False  # whether the texture is that of a few tiles of the sample

    @classmethod
    def of(cls, laid: Laid) -> "Judge":
        """Prepare for the tiles of a slide."""
        shares = tile_means(laid.tiles, usable(laid.tissue, laid.excluded))
        black = black_share(laid.overview, laid.tissue - laid.excluded, laid.tiles.map_grid)
        counted, full = np.zeros(len(shares)), fullest(shares)
        counted[full] = shares[full]
        return cls(TileSample.of(shares), counted, glass_of(laid.overview), laid.tiles.spec.mpp, black)

    def take(self, batch: TileBatch, seen: Seen) -> None:
        """Take a batch as it was read and what the engine saw in it."""
        self.sample.take(batch.indices, batch.rgb)
        self._gathered.take(seen.texture, self.counted[batch.indices])

    def read_missing(self, laid: Laid, engine: Engine) -> None:
        """Read those of the slide's tiles that are to be judged and did not pass by: a screen shows others, or none.

        A few of them, from all over the slide, are shown to the engine for their texture. Raises `SlideFailed` as
        scoring does.
        """
        slide, tiles = laid.slide, laid.tiles
        numbers = np.array(self.sample.missing, np.int64)
        shown = np.isin(numbers, self.sample.glance)
        # Of a small slide the few may be all that counts, and then nothing is seen otherwise than in full mode.
        self._at_a_glance = bool(np.setdiff1d(np.flatnonzero(self.counted), numbers[shown]).size)
        with open_blocks(slide, tiles.some(numbers)) or nullcontext(slide) as reader:
            data = TileDataset.of(reader, tiles)
            for batch in stream_batches(data, 1, THREADS, numbers=numbers[~shown]):
                self.sample.take(batch.indices, batch.rgb)
            few = stream_batches(data, 1, THREADS, numbers=numbers[shown])
            for batch, seen in score_batches(few, engine, Timings(), laid.stain_norm.apply):
                if seen is not None:
                    check_finite(seen, slide.path)
                    self.take(batch, seen)

    def conclude(self, model: Model, tissue_mm2: float) -> tuple[Checks, tuple[Reason, ...]]:
        """Return what was measured and every reason why a pathologist must look first."""
        reference, cloud = model.card.reference, model.cloud
        stains = reference.stain if reference else None
        checks, reasons = judge_quality(self.sample.tiles, self.mpp, self.glass, tissue_mm2, stains)
        checks = replace(checks, black_share=self.black)
        if "no_colour" not in {r.code for r in reasons}:  # black is dark without colour, as all of such a slide is
            reasons += black_reasons(self.black)
        if reference is None or cloud is None:
            return checks, reasons
        distance = distance_of(cloud, self._gathered)
        limit = reference.limit_of(self._at_a_glance)
        checks = replace(
            checks,
            foreign_distance=distance,
            foreign_limit=limit,
            reference_slides=reference.held_out_slides,
            reference_patients=reference.held_out_patients,
            at_a_glance=self._at_a_glance and reference.glance_limit is not None,
        )
        return checks, reasons + foreign_reasons(distance, reference, self._at_a_glance)
