"""Fitting the reference by which a model tells foreign tissue, from slides that it may be used on."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from histo.data.glass import glass_of
from histo.data.records import SlideRecord
from histo.data.stain_check import measure_stain
from histo.data.tile_sample import TileSample, fullest, stacked
from histo.data.tiles import TileDataset
from histo.geometry import tile_means
from histo.models.bundle import Model, bring_parts, save_bundle
from histo.models.engine import Engines
from histo.models.foreign import Arrays, Reference, SlideFeatures, fit
from histo.opening import open_for

TILES_A_SLIDE = 64  # more of one slide say little about other slides


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
        features = features_of(model, engines, record, is_learnt)
        if features is not None:
            found.append(features)
        elif say is not None:
            say(f"{record.slide} is left out of the reference: it cannot be read")
    return fit(found)


def features_of(model: Model, engines: Engines, record: SlideRecord, learnt: bool) -> SlideFeatures | None:
    """Return features and stain of at most 64 tiles from all over a slide, or None when it cannot be read."""
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
        features = np.concatenate([engine.see(opened.stain_norm.apply(tile[None])).features for tile in tiles.values()])
        sample = TileSample.of(shares).chosen & set(tiles) or set(tiles)
        signs = measure_stain(stacked(tiles[i] for i in sorted(sample)), glass_of(opened.overview))
    stain = {name: value for name in ("red", "blue", "density") if (value := getattr(signs, name)) is not None}
    return SlideFeatures(record.patient, features, stain, learnt)


def put(folder: Path, model: Model, reference: Reference, arrays: Arrays) -> None:
    """Write a bundle again with a reference in its card."""
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    bring_parts(model, folder)
    save_bundle(folder, card | {"reference": reference.model_dump(mode="json")}, model.network, reference=arrays)
