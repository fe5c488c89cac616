"""Fitting the reference by which a model tells foreign tissue, from slides that it may be used on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from histo.data.glass import glass_of
from histo.data.records import SlideRecord
from histo.data.stain_check import measure_stain
from histo.data.tile_sample import TileSample, fullest, stacked
from histo.data.tiles import TileDataset
from histo.geometry import tile_means
from histo.models.bundle import Model, bring_parts, save_bundle
from histo.models.engine import Engines, Seen
from histo.models.foreign import LEAST_TILES, Arrays, Gathered, Reference, SlideTexture, fit
from histo.opening import open_for

TILES_A_SLIDE = 64  # more change the mean of a slide little


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a network sees in a few tiles from all over a slide, their share of tissue (N,), and the slide's stain."""

    seen: Seen
    tissue: NDArray[np.floating]
    stain: Mapping[str, float]


def fit_reference(
    model: Model,
    slides: Sequence[SlideRecord],
    learnt: Sequence[SlideRecord] = (),
    device: str = "auto",
    say: Callable[[str], None] | None = None,
) -> tuple[Reference, Arrays]:
    """Fit a reference on slides; of these the network has seen `learnt` in training. Put it in a card with `put`.

    A slide that cannot be read is left out and told. Raises `UsageError` when less than three patients are left.
    """
    # Fitting follows training, where torch is at hand: no other engine need be made and compared for it.
    engines = Engines(model, "torch", device)
    found = []
    for is_learnt, record in [*((True, r) for r in learnt), *((False, r) for r in slides)]:
        sampled = sample_of(model, engines, record)
        gathered = Gathered()
        if sampled is not None:
            gathered.take(sampled.seen.texture, sampled.tissue)
        if sampled is None or gathered.texture is None:
            if say is not None:
                say(f"{record.slide} is left out of the reference: fewer than {LEAST_TILES} of its tiles can be read")
        else:
            found.append(SlideTexture(record.patient, gathered.texture, sampled.stain, is_learnt))
    return fit(found)


def sample_of(model: Model, engines: Engines, record: SlideRecord) -> Sampled | None:
    """Return what is seen in at most 64 tiles from all over a slide, or None when it cannot be read."""
    opened = open_for(Path(record.path), model, record.mpp, sha256="")
    if opened.slide is None or opened.tiles is None or opened.overview is None or opened.error is not None:
        return None
    assert opened.tissue_map is not None
    assert opened.excluded_map is not None
    with opened.slide:
        shares = tile_means(opened.tiles, opened.tissue_map - opened.excluded_map)
        data = TileDataset.of(opened.slide, opened.tiles)
        full = fullest(shares)
        wanted = full[np.unique(np.linspace(0, len(full) - 1, TILES_A_SLIDE).astype(int))].tolist()
        tiles = {i: tile for i in wanted if (tile := data[i]) is not None}
        if not tiles:
            return None
        engine = engines.pick(lambda: stacked(list(tiles.values())[:1]))
        seen = [engine.see(opened.stain_norm.apply(tile[None])) for tile in tiles.values()]
        sample = TileSample.of(shares).chosen & set(tiles) or set(tiles)
        signs = measure_stain(stacked(tiles[i] for i in sorted(sample)), glass_of(opened.overview))
    stain = {name: value for name in ("red", "blue", "density") if (value := getattr(signs, name)) is not None}
    return Sampled(Seen(*(np.concatenate(parts) for parts in zip(*seen, strict=True))), shares[list(tiles)], stain)


def put(folder: Path, model: Model, reference: Reference, arrays: Arrays) -> None:
    """Write a bundle again with a reference in its card."""
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    bring_parts(model, folder)
    save_bundle(folder, card | {"reference": reference.model_dump(mode="json")}, model.network, reference=arrays)
