"""Training tiles of a screen: each slide's outlines are painted once at the coarse scale, and tiles cut from that."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.data.labels import draw_labels
from histo.data.sampling import Draw, LabelledSlide, Sample, sample_of
from histo.data.transforms import Augment
from histo.geometry import cover, cut


class ScreenTiles:
    """Drawn tiles as samples: picture (S, S, 3) uint8, class fractions (C, h, w), weights (h, w), zero in the margin.

    The labels (H, W) uint8 of every slide lie in a nameless file in `folder` that forked loaders share.
    """

    def __init__(
        self,
        slides: Sequence[LabelledSlide],
        draws: Sequence[Draw],
        classes: Sequence[str],
        augment: Augment | None,
        folder: Path,
    ) -> None:
        self._slides, self._draws, self._classes, self._augment = slides, draws, len(classes), augment
        self._grids = [cover(s.slide.pyramid, s.tiles.plan.tile_px_level0) for s in slides]
        self._labels = [
            _kept(draw_labels(s.outlines, classes, grid, s.unannotated), folder)
            for s, grid in zip(slides, self._grids, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._draws)

    def __getitem__(self, index: int) -> Sample:
        """Read, label and augment tile `index`; one that cannot be read is white and has no weight."""
        draw = self._draws[index]
        source, corner = self._slides[draw.slide], draw.position_level0_px
        size_px = source.tiles.spec.size_px
        labels = cut(self._labels[draw.slide], self._grids[draw.slide], corner, size_px, source.unannotated)
        return sample_of(source, draw, labels, self._classes, self._augment)


def _kept(labels: NDArray[np.uint8], folder: Path) -> NDArray[np.uint8]:
    with tempfile.TemporaryFile(dir=folder) as file:
        kept = np.memmap(file, np.uint8, "w+", shape=labels.shape)
    kept[:] = labels
    return kept
