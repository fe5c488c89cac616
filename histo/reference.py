"""The reference by which a model tells foreign tissue, fitted on slides that it may be used on: `histo reference`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from histo.data.glass import glass_of
from histo.data.identities import LEARNT_FROM, REFERENCE_OF, STARTED_FROM, Known, identities
from histo.data.manifest import read_manifest
from histo.data.records import SlideRecord
from histo.data.slide_file import sha256_of
from histo.data.stain_check import measure_stain
from histo.data.synthetic import is_known_patient
from histo.data.tile_sample import TileSample, fullest, spread, stacked, usable
from histo.data.tiles import TileDataset
from histo.errors import SlideError
from histo.geometry import tile_means
from histo.models.bundle import Model, load_bundle, refuse_to_overwrite, rewrite
from histo.models.engine import Engines, Seen
from histo.models.foreign import LEAST_TILES, Arrays, Gathered, Reference, SlideTexture, fit
from histo.opening import open_for
from histo.timing import Say

TILES_A_SLIDE = 64  # more change the mean of a slide little
TOLD_EVERY = 20  # slides
SETS_LEFT = "Sets of diagnoses were fitted behind another gate and are left behind; histo calibrate makes new ones."


@dataclass(frozen=True, eq=False)
class Sampled:
    """What a network sees in up to 64 tiles from all over a slide; the slide's texture and stain.

    `texture` (T,) is that of these tiles, `glance` (T,) that of the few that screen mode would look at; None where too
    few can be read.
    """

    seen: Seen
    texture: NDArray[np.float64] | None
    glance: NDArray[np.float64] | None
    stain: Mapping[str, float]


def fit_reference(
    model: Model,
    slides: Sequence[SlideRecord],
    learnt: Sequence[SlideRecord] = (),
    device: str = "auto",
    say: Say = lambda line: None,
) -> tuple[Reference, Arrays]:
    """Fit a reference on slides; of these the network has seen `learnt` in training. Put it in a card with `put`.

    A slide that cannot be read is left out and told. Raises `UsageError` when less than three patients are left.
    """
    # Fitting follows training, where torch is at hand: no other engine need be made and compared for it.
    engines = Engines(model, "torch", device)
    found = []
    records = [*((True, r) for r in learnt), *((False, r) for r in slides)]
    for number, (is_learnt, record) in enumerate(records, start=1):
        sampled = sample_of(model, engines, record)
        if sampled is None or sampled.texture is None:
            why = f"it cannot be read, has no scale or fewer than {LEAST_TILES} tiles; see histo inspect"
            say(f"{record.slide} is left out of the reference: {why}")
        else:
            found.append(SlideTexture(record.patient, sampled.texture, sampled.stain, is_learnt, sampled.glance))
        if number % TOLD_EVERY == 0:
            say(f"{number} of {len(records)} slides looked at")
    return fit(found)


def sample_of(model: Model, engines: Engines, record: SlideRecord) -> Sampled | None:
    """Return what is seen of a slide, as `Judge` would judge it too, or None when it cannot be read."""
    with open_for(Path(record.path), model, record.mpp, sha256="") as opened:
        try:
            laid = opened.laid
        except SlideError:
            return None
        shares = tile_means(laid.tiles, usable(laid.tissue, laid.excluded))
        data = TileDataset.of(laid.slide, laid.tiles)
        full, sample = fullest(shares), TileSample.of(shares)
        seen_for_texture = full[spread(len(full), TILES_A_SLIDE)]
        wanted = sorted({*seen_for_texture.tolist(), *sample.chosen})
        tiles = {i: tile for i in wanted if (tile := data[i]) is not None}
        whole, glance = ([i for i in numbers.tolist() if i in tiles] for numbers in (seen_for_texture, sample.glance))
        if not whole:
            return None
        engine = engines.pick(lambda: stacked([tiles[whole[0]]]))
        found = {i: engine.see(laid.stain_norm.apply(tiles[i][None])) for i in {*whole, *glance}}
        judged = sorted(sample.chosen & tiles.keys()) or whole
        signs = measure_stain(stacked(tiles[i] for i in judged), glass_of(laid.overview))
    stain = {name: value for name in ("red", "blue", "density") if (value := getattr(signs, name)) is not None}
    texture, at_a_glance = (_texture([found[i] for i in numbers], shares[numbers]) for numbers in (whole, glance))
    seen = Seen(*(np.concatenate(parts) for parts in zip(*(found[i] for i in whole), strict=True)))
    return Sampled(seen, texture, at_a_glance, stain)


def _texture(seen: Sequence[Seen], tissue: NDArray[np.floating]) -> NDArray[np.float64] | None:
    """Return the texture (T,) of tiles seen one by one, by their share of tissue (N,); None where too few tell."""
    gathered = Gathered()
    for one, share in zip(seen, tissue, strict=True):
        gathered.take(one.texture, share[None])
    return gathered.texture


def put(
    folder: Path, model: Model, reference: Reference, arrays: Arrays, training: Mapping[str, Any] | None = None
) -> None:
    """Write a bundle again with a reference in its card; `training` is added to what that says of how it was made.

    Sets of diagnoses go: they are promised for slides that no check speaks against, and another gate lets others pass.
    """
    calibration = model.card.calibration.without_sets()
    sections = {
        "reference": reference.model_dump(mode="json"),
        "calibration": calibration.model_dump(mode="json"),
    }
    rewrite(model, folder, sections, training, reference=arrays)


def refit(
    bundle: Path,
    manifest: Path,
    out: Path,
    device: str = "auto",
    other_persons: bool = False,
    say: Say = lambda line: None,
) -> None:
    """Write the model in `bundle` to `out` with a reference fitted on the slides of a manifest.

    Slides that are marked test are left out. Those of patients that the card says the network learnt from are used, and
    the limit is taken from the others; with `other_persons` only the names are the same. Raises `UsageError` for a
    wrong manifest, an `out` that holds a model and fewer than three patients; `ModelError`.
    """
    refuse_to_overwrite(out)
    model = load_bundle(bundle)
    listed = read_manifest(manifest, model.card.classes.labels, say)
    records = [r for r in listed if r.split != "test"]
    say(f"{len(records)} slides to fit on; {len(listed) - len(records)} marked test are left out")
    hashes = [sha256_of(r.path) for r in records]
    learnt = _learnt(model, records, hashes, other_persons, say)
    others, known = ([r for r, is_known in zip(records, learnt, strict=True) if is_known is k] for k in (False, True))
    reference, arrays = fit_reference(model, others, known, device, say)
    put(out, model, reference, arrays, {REFERENCE_OF: identities(hashes, [r.patient for r in records])})
    say(f"foreign tissue is told by {reference.fitted_on}")
    if model.card.calibration.conformal is not None:
        say(SETS_LEFT)


def _learnt(
    model: Model, records: Sequence[SlideRecord], hashes: Sequence[str], other_persons: bool, say: Say
) -> list[bool]:
    """Return of every slide whether the card says that the network learnt from it or from its patient."""
    known = Known.by(model.card.training, LEARNT_FROM, STARTED_FROM)
    if not known.is_listed:
        say("the card does not say which slides the model was trained on; all of these are taken as others")
    learnt = [
        known.has_slide(sha256) or (not other_persons and is_known_patient(known, record))
        for record, sha256 in zip(records, hashes, strict=True)
    ]
    if known.is_listed:
        say(f"the network learnt from {sum(learnt)} of them or from their patients; the limit comes from the others")
    return learnt
