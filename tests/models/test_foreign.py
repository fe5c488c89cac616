"""Foreign tissue is told by the distance of features; the reference is part of a bundle and pinned by it."""

import json
from pathlib import Path

import numpy as np
import pytest

from histo.errors import ModelError, UsageError
from histo.models import foreign
from histo.models.bundle import Model, _contract, load_bundle, save_bundle
from histo.models.foreign import Cloud, SlideFeatures, cloud_of, fit, foreign_reasons, strange_share

SIZE = 24


def some_slides(count: int, seed: int = 0, learnt: int = 0, tiles: int = 30) -> list[SlideFeatures]:
    """Slides whose tiles vary along a few directions, each around a middle of its own."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, SIZE))
    found = []
    for number in range(count):
        middle = rng.normal(0, 0.5, SIZE)
        features = rng.normal(size=(tiles, 6)) @ mixing + rng.normal(0, 0.3, (tiles, SIZE)) + middle
        stain = {"red": 0.2 + 0.01 * number, "blue": 0.3, "density": 1.5}
        found.append(SlideFeatures(f"p{number}", features.astype(np.float32), stain, number < learnt))
    return found


def test_slides_like_the_reference_pass_and_others_do_not() -> None:
    reference, arrays = fit(some_slides(24))
    cloud = Cloud(**arrays)
    like = [strange_share(cloud, reference, s.features) for s in some_slides(40, seed=5)]
    assert sum(share > reference.slide_limit for share in like) <= 2
    # The same spread, but in directions that no reference slide has.
    turned = [strange_share(cloud, reference, s.features[:, ::-1]) for s in some_slides(10, seed=6)]
    assert min(turned) > reference.slide_limit
    (reason,) = foreign_reasons(turned[0], reference)
    assert reason.code == "foreign_tissue"
    assert "24 slides" in reason.message
    assert foreign_reasons(like[0], reference) == ()


def test_the_distance_is_that_of_mahalanobis_where_nothing_is_left_out() -> None:
    features = some_slides(1, tiles=4000)[0].features
    cloud = cloud_of(features)
    away = features[:50] - features.mean(axis=0)
    exact = np.sqrt(np.einsum("ij,jk,ik->i", away, np.linalg.inv(np.cov(features.T)), away) / SIZE)
    np.testing.assert_allclose(cloud.distance(features[:50]), exact, rtol=0.1)  # the shrinkage


def test_more_features_than_tiles_still_give_a_distance() -> None:
    rng = np.random.default_rng(1)
    cloud = cloud_of(rng.normal(size=(10, 300)).astype(np.float32))
    assert len(cloud.directions) == foreign.DIRECTIONS
    assert np.isfinite(cloud.distance(rng.normal(size=(5, 300)))).all()
    flat = cloud_of(np.ones((10, 8), np.float32))
    assert np.isfinite(flat.distance(np.zeros((1, 8)))).all()


def test_limits_come_from_slides_that_taught_nothing_when_there_are_enough() -> None:
    """Slides that the network learnt from lie nearer together than any new slide will."""
    slides = some_slides(12, learnt=8)
    slides = [SlideFeatures(s.patient, s.features / 20 if s.learnt else s.features, s.stain, s.learnt) for s in slides]
    reference, _ = fit(slides)
    assert reference.held_out_slides == 4
    assert "learnt" not in reference.fitted_on
    reference, _ = fit(some_slides(6, learnt=5))
    assert reference.held_out_slides == 6
    assert "learnt from some" in reference.fitted_on
    assert reference.stain == {"red": (0.2, 0.25), "blue": (0.3, 0.3), "density": (1.5, 1.5)}


def test_two_patients_are_no_reference() -> None:
    with pytest.raises(UsageError, match="2 patients"):
        fit(some_slides(2))


def test_too_few_tiles_cannot_be_judged() -> None:
    reference, arrays = fit(some_slides(5))
    assert strange_share(Cloud(**arrays), reference, np.zeros((2, SIZE), np.float32)) is None
    assert foreign_reasons(None, reference) == ()


@pytest.fixture
def with_reference(colour_model: Model, tmp_path: Path) -> Path:
    reference, arrays = fit(some_slides(5))
    card = colour_model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    card |= {"reference": reference.model_dump(mode="json")}
    save_bundle(tmp_path, card, colour_model.network, reference=arrays)
    return tmp_path


def test_a_bundle_carries_its_reference_and_keeps_it_when_saved_again(with_reference: Path) -> None:
    model = load_bundle(with_reference)
    assert model.cloud is not None
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(with_reference, card, model.network)
    again = load_bundle(with_reference)
    assert again.card.reference == model.card.reference
    np.testing.assert_array_equal(again.cloud.mean, model.cloud.mean)


@pytest.mark.parametrize("damage", ["gone", "another", "edited"])
def test_a_reference_that_is_not_the_card_s_is_refused(damage: str, with_reference: Path) -> None:
    file, card = with_reference / foreign.FILE, with_reference / "card.json"
    if damage == "gone":
        file.unlink()
    elif damage == "another":
        file.write_bytes(file.read_bytes()[:-4] + b"\0\0\1\1")
    else:
        changed = json.loads(card.read_text())
        changed["reference"]["slide_limit"] = 0.94
        card.write_text(json.dumps(changed))
    with pytest.raises(ModelError, match={"gone": "copy it too", "another": "SHA-256", "edited": "edited"}[damage]):
        load_bundle(with_reference)


def test_a_card_without_a_reference_has_the_contract_it_always_had(colour_model: Model) -> None:
    """Regression guard: bundles made before references existed must still load."""
    import hashlib

    old = colour_model.card.model_dump(mode="json", include={"classes", "tile", "network", "rule", "calibration"})
    del old["tile"]["tissue_od"], old["tile"]["nuclear_od"]
    old["calibration"] = {k: old["calibration"][k] for k in ("temperature", "fitted_on")}
    assert _contract(colour_model.card) == hashlib.sha256(json.dumps(old, sort_keys=True).encode()).hexdigest()
