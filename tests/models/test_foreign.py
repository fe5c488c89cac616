"""Foreign tissue is told by the distance of features; the reference is part of a bundle and pinned by it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from histo.errors import ModelError, UsageError
from histo.models import foreign
from histo.models.bundle import Model, _contract, load_bundle, save_bundle
from histo.models.foreign import Cloud, Gathered, SlideTexture, cloud_of, distance_of, fit, foreign_reasons

SIZE = 24


def some_slides(count: int, seed: int = 0, learnt: int = 0) -> list[SlideTexture]:
    """Slides that vary along a few directions, and a little along all."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, SIZE))
    found = []
    for number in range(count):
        texture = rng.normal(size=6) @ mixing + rng.normal(0, 0.1, SIZE)
        stain = {"red": 0.2 + 0.01 * number, "blue": 0.3, "density": 1.5}
        found.append(SlideTexture(f"p{number}", texture, stain, number < learnt))
    return found


def distances(cloud: Cloud, slides: list[SlideTexture]) -> list[float]:
    return cloud.distance(np.stack([s.texture for s in slides])).tolist()


def gathered(tiles: NDArray[np.float64], tissue: NDArray[np.float64]) -> Gathered:
    """Tiles that come in two batches."""
    found = Gathered()
    found.take(tiles[:2], tissue[:2])
    found.take(tiles[2:], tissue[2:])
    return found


def test_slides_like_the_reference_pass_and_others_do_not() -> None:
    reference, arrays = fit(some_slides(60))
    cloud = Cloud(**arrays)
    like = distances(cloud, some_slides(60, seed=5))
    assert sum(d > reference.limit for d in like) <= 7
    # The same spread, but in directions that no reference slide has.
    other = [SlideTexture(s.patient, s.texture[::-1], s.stain) for s in some_slides(10, seed=6)]
    turned = distances(cloud, other)
    assert min(turned) > reference.limit
    (reason,) = foreign_reasons(turned[0], reference)
    assert reason.code == "foreign_tissue"
    assert "60 reference slides" in reason.message
    assert foreign_reasons(min(like), reference) == ()
    assert foreign_reasons(None, reference) == ()


def test_a_slide_full_of_what_is_rare_on_the_others_is_foreign() -> None:
    """Every tile of it looks like some tile of the reference; as a whole no reference slide does."""
    rng = np.random.default_rng(3)

    def tiles(rare: float) -> NDArray[np.float64]:
        texture = rng.normal(0, 0.3, (40, SIZE))
        texture[: round(40 * rare), 0] += 4
        return texture

    slides = [SlideTexture(f"p{k}", tiles(rng.uniform(0, 0.1)).mean(axis=0), {}) for k in range(60)]
    reference, arrays = fit(slides)
    usual, full = (distance_of(Cloud(**arrays), gathered(tiles(rare), np.ones(40))) for rare in (0.05, 0.9))
    assert usual is not None
    assert full is not None
    assert usual <= reference.limit < full


def test_a_glance_has_a_limit_of_its_own() -> None:
    """The limit of whole slides was applied to six tiles too, whose mean scatters more."""
    rng = np.random.default_rng(4)

    def slides(count: int) -> list[SlideTexture]:
        of_tiles = rng.normal(0, 1, (count, 1, SIZE)) + rng.normal(0, 2, (count, 60, SIZE))
        glance = of_tiles[:, ::10].mean(axis=1)
        return [SlideTexture(f"p{k}", of_tiles[k].mean(axis=0), {}, glance=glance[k]) for k in range(count)]

    reference, arrays = fit(slides(200))
    assert reference.limit_of(False) == reference.limit < reference.limit_of(True)
    glances = Cloud(**arrays).distance(np.stack([s.glance for s in slides(200) if s.glance is not None]))
    assert np.mean(glances > reference.limit) > 0.3
    assert np.mean(glances > reference.limit_of(True)) <= 0.1
    assert len(foreign_reasons(1.001 * reference.limit, reference)) == 1
    assert foreign_reasons(1.001 * reference.limit, reference, at_a_glance=True) == ()
    without, _ = fit(some_slides(30))
    assert without.glance_limit is None
    assert without.limit_of(True) == without.limit


def test_a_slide_at_the_limit_is_not_foreign() -> None:
    reference, _ = fit(some_slides(5))
    assert foreign_reasons(reference.limit, reference) == ()
    assert len(foreign_reasons(reference.limit + 1e-4, reference)) == 1


def test_glances_at_slides_that_were_learnt_from_set_no_limit() -> None:
    slides = [replace(s, glance=s.texture * (50 if s.learnt else 1)) for s in some_slides(30, learnt=20)]
    without = [replace(s, glance=None if s.learnt else s.glance) for s in slides]
    assert fit(slides)[0].glance_limit == fit(without)[0].glance_limit


def test_glances_of_two_patients_set_no_limit_however_many_slides_they_have() -> None:
    slides = [replace(s, patient=f"p{k % 6}", glance=s.texture) for k, s in enumerate(some_slides(12))]
    few = [replace(s, glance=s.glance if s.patient in ("p0", "p1") else None) for s in slides]
    assert fit(slides)[0].glance_limit is not None
    assert fit(few)[0].glance_limit is None


def test_the_limit_of_glances_counts_the_patients_who_were_glanced_at() -> None:
    slides = [replace(s, glance=s.texture if k >= 20 else None) for k, s in enumerate(some_slides(60))]
    slides[30] = replace(slides[30], glance=1000 * slides[30].texture)  # one of 40 lies beyond the limit
    limit = fit(slides)[0].glance_limit
    assert limit is not None
    assert limit < 10


def test_tiles_count_by_their_tissue() -> None:
    """Regression: the glass around a small specimen hid what it is made of."""
    tiles = np.array([[1.0, 0], [1, 0], [1, 0], [0, 9]])
    np.testing.assert_allclose(gathered(tiles, np.array([1, 0.5, 0.5, 0])).texture, [1, 0])
    np.testing.assert_allclose(gathered(tiles, np.array([1, 0.5, 0.5, 1])).texture, [2 / 3, 3])


def test_fewer_than_three_tiles_with_tissue_are_not_compared() -> None:
    _, arrays = fit(some_slides(5))
    assert distance_of(Cloud(**arrays), Gathered()) is None
    assert distance_of(Cloud(**arrays), gathered(np.zeros((3, SIZE)), np.array([1, 1, 0]))) is None
    assert distance_of(Cloud(**arrays), gathered(np.zeros((3, SIZE)), np.array([1, 1, 0.1]))) is not None


def test_the_distance_is_that_of_mahalanobis_where_nothing_is_left_out() -> None:
    textures = np.random.default_rng(0).normal(size=(4000, SIZE)) * np.linspace(0.5, 2, SIZE)
    cloud = cloud_of(textures)
    away = textures[:50] - textures.mean(axis=0)
    exact = np.sqrt(np.einsum("ij,jk,ik->i", away, np.linalg.inv(np.cov(textures.T)), away) / SIZE)
    np.testing.assert_allclose(cloud.distance(textures[:50]), exact, rtol=0.1)  # the shrinkage


def test_more_numbers_than_slides_still_give_a_distance() -> None:
    rng = np.random.default_rng(1)
    cloud = cloud_of(rng.normal(size=(10, 300)).astype(np.float32))
    assert len(cloud.directions) == foreign.DIRECTIONS
    assert np.isfinite(cloud.distance(rng.normal(size=(5, 300)))).all()
    flat = cloud_of(np.ones((10, 8), np.float32))
    assert np.isfinite(flat.distance(np.zeros((1, 8)))).all()


def test_the_limit_comes_from_slides_that_taught_nothing_when_there_are_enough() -> None:
    """Slides that the network learnt from lie nearer together than any new slide will."""
    slides = some_slides(12, learnt=8)
    slides = [SlideTexture(s.patient, s.texture / (20 if s.learnt else 1), s.stain, s.learnt) for s in slides]
    reference, _ = fit(slides)
    assert reference.held_out_slides == 4
    assert "learnt" not in reference.fitted_on
    mixed, _ = fit([SlideTexture(s.patient, s.texture, s.stain, s.patient not in ("p0", "p1")) for s in slides])
    assert mixed.held_out_slides == 12
    assert "learnt from some" in mixed.fitted_on
    assert min(mixed.held_out_distances) < min(reference.held_out_distances)
    assert reference.stain == {"red": (0.2, 0.31), "blue": (0.3, 0.3), "density": (1.5, 1.5)}


def test_three_slides_of_one_patient_are_not_enough_to_set_the_limit() -> None:
    slides = [replace(s, patient=s.patient if s.learnt else "new") for s in some_slides(12, learnt=9)]
    reference, _ = fit(slides)
    assert (reference.held_out_slides, reference.held_out_patients) == (12, 10)
    assert "learnt from some" in reference.fitted_on


def test_a_slide_is_held_out_with_all_slides_of_its_patient() -> None:
    """Beside its near twins it would lie near the middle, and the limit would be no limit for a new patient."""
    slides, rng = some_slides(15), np.random.default_rng(1)
    twins = [replace(s, texture=s.texture + rng.normal(0, 1e-3, SIZE)) for s in slides for _ in range(3)]
    assert fit(twins)[0].limit >= fit(slides)[0].limit


@pytest.mark.parametrize(("slides", "rank"), [(18, 18), (19, 19), (20, 20), (38, 38), (39, 38), (40, 39), (60, 58)])
def test_the_limit_is_the_distance_of_the_conformal_rank(slides: int, rank: int) -> None:
    """The smallest k of n for which k / (n + 1) is 95 % or more; the last where none is."""
    assert foreign._limit(np.arange(slides, 0, -1.0), [f"p{k}" for k in range(slides)]) == rank


def test_slides_of_few_patients_promise_no_more_than_these() -> None:
    """Regression: sixty slides of three patients made a limit as if of sixty, and nothing said that it was loose."""
    distances, three = np.arange(1.0, 61.0), [f"p{k % 3}" for k in range(60)]
    assert foreign._limit(distances, three) == 60
    slides = some_slides(60)
    reference, _ = fit([replace(s, patient=f"p{k % 3}") for k, s in enumerate(slides)])
    assert (reference.held_out_slides, reference.held_out_patients, reference.limit_patients) == (60, 3, 3)
    assert "60 slides of 3, " in reference.fitted_on
    assert "Fewer than 50 patients" in reference.fitted_on
    (reason,) = foreign_reasons(2 * reference.limit, reference)
    assert "times the limit; 75 % of similar slides stay within it" in reason.message


def test_each_patient_weighs_the_same_in_the_limit() -> None:
    """39 patients with one slide and one with forty far ones: the many must not move the limit."""
    distances = np.array([*range(1, 40), *range(1000, 1040)], float)
    patients = [*(f"p{k}" for k in range(39)), *["many"] * 40]
    assert foreign._limit(distances, patients) == 39
    assert foreign._limit(distances[::-1], patients[::-1]) == 39, "whatever their order"


def test_the_covariance_is_shrunk_towards_a_sphere() -> None:
    """Four slides, variances 2 and 1/2, a sphere of 5/4: Ledoit and Wolf's share of it is 17/18.

    Of the spread 9/8 are noise: the mean fourth power 17/2 less the squares of the covariance 17/4, by four, 17/16.
    """
    cloud = cloud_of(np.array([[2.0, 0], [-2, 0], [0, 1], [0, -1]]))
    wanted = [17 / 18 * 5 / 4 + 1 / 18 * variance for variance in (1 / 2, 2)]
    np.testing.assert_allclose(cloud.variance, wanted, rtol=1e-6)


def test_a_small_reference_says_that_it_finds_little() -> None:
    assert "hardly any" in fit(some_slides(49))[0].fitted_on
    assert "hardly any" not in fit(some_slides(50))[0].fitted_on


def test_a_limit_of_few_slides_promises_less_however_many_were_learnt_from() -> None:
    """Regression: three held-out slides beside a hundred learnt ones passed for a hundred, and for 19 of 20."""
    reference, _ = fit(some_slides(103, learnt=100))
    assert "hardly any" in reference.fitted_on
    (reason,) = foreign_reasons(2 * reference.limit, reference)
    assert "times the limit; 75 % of similar slides stay within it" in reason.message
    many, _ = fit(some_slides(60))
    assert "times the limit; 95 % of" in foreign_reasons(2 * many.limit, many)[0].message


def test_slides_that_are_all_alike_are_a_reference() -> None:
    alike = [SlideTexture(f"p{k}", np.ones(SIZE), {}) for k in range(4)]
    assert fit(alike)[0].limit > 0


def test_two_patients_are_no_reference() -> None:
    with pytest.raises(UsageError, match="2 patients"):
        fit(some_slides(2))
    with pytest.raises(UsageError, match="2 patients"):
        fit([replace(s, patient=f"p{k % 2}") for k, s in enumerate(some_slides(6))])


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


def test_a_reference_of_an_earlier_version_is_refused_in_one_sentence(with_reference: Path) -> None:
    card = with_reference / "card.json"
    tree = json.loads(card.read_text())
    del tree["reference"]["version"]
    card.write_text(json.dumps(tree))
    with pytest.raises(ModelError, match="version 1 and this histo compares by version 2; train the model again"):
        load_bundle(with_reference)


@pytest.mark.parametrize("damage", ["gone", "another", "edited"])
def test_a_reference_that_is_not_the_card_s_is_refused(damage: str, with_reference: Path) -> None:
    file, card = with_reference / foreign.FILE, with_reference / "card.json"
    if damage == "gone":
        file.unlink()
    elif damage == "another":
        file.write_bytes(file.read_bytes()[:-4] + b"\0\0\1\1")
    else:
        changed = json.loads(card.read_text())
        changed["reference"]["limit"] = 94.0
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
