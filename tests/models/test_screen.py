import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from histo.errors import ModelError
from histo.geometry import Pyramid, TileSpec, lay_tiles, map_grid_for
from histo.models.bundle import CARD, SCREEN, WEIGHTS, Model, load_bundle, save_bundle
from histo.models.screen import Missed, followed, leads_to, strongest

FINE, COARSE = TileSpec(64, 1.0, 16, 16), TileSpec(64, 4.0, 8, 8)


@given(
    st.integers(200, 900),
    st.integers(200, 900),
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.5, 1.0]),
)
def test_a_tile_has_the_strongest_cell_on_its_tissue(width, height, seed, mpp):
    rng = np.random.default_rng(seed)
    pyramid = Pyramid((width, height), (1.0, 2.0, 4.0, 8.0), mpp, mpp, "recorded", (0, 0, width, height))
    grid, _ = map_grid_for(pyramid, FINE)
    coarse, _ = map_grid_for(pyramid, COARSE)
    tissue = (rng.random(grid.shape) < 0.5).astype(np.float32) * np.float32(0.1)  # a trace of tissue is tissue
    tiles = lay_tiles(pyramid, FINE, tissue)
    lesion, seen = rng.random(coarse.shape).astype(np.float32), rng.random(coarse.shape) < 0.9
    found = strongest(lesion, seen, coarse, tiles, tissue)
    known = np.where(seen, lesion, 1)
    for (row, column), value in zip(tiles.cells_map_px, found, strict=True):
        wanted = 0.0
        for r in range(row, min(row + FINE.kept_cells, grid.shape[0])):
            for c in range(column, min(column + FINE.kept_cells, grid.shape[1])):
                if tissue[r, c]:
                    # Cells of 16 µm lie two by two in cells of 32 µm.
                    y, x = min(r // 2, coarse.shape[0] - 1), min(c // 2, coarse.shape[1] - 1)
                    wanted = max(wanted, float(known[y, x]))
        assert value == pytest.approx(wanted, rel=1e-4)


def test_a_screen_comes_back_as_a_model_of_two_classes(screened_bundle: Path, colour_model: Model) -> None:
    model = load_bundle(screened_bundle)
    assert model.screen is not None
    assert model.screen.card.classes.names == ("normal", "any_lesion")
    assert model.screen.card.tile.mpp == 4
    assert model.card.screen is not None
    assert model.card.screen.parts == 1, "cards made before windows were divided don't speak of parts"
    assert model.screen.network.head.out_channels == 2
    assert model.screen.digest not in (model.digest, colour_model.digest)
    assert model.info.screen == "Fitted on nothing: a test."
    assert colour_model.screen is None
    assert colour_model.info.screen == ""


def test_a_card_without_a_screen_does_not_speak_of_one(colour_bundle: Path) -> None:
    """Bundles made before there were screens keep their contract."""
    assert "screen" not in json.loads((colour_bundle / CARD).read_text())
    assert not (colour_bundle / SCREEN).exists()


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        (CARD, lambda data: data.replace(b'"threshold": 0.2', b'"threshold": 0.9'), "was edited after"),
        (SCREEN, lambda data: data[:-1] + bytes([data[-1] ^ 1]), "SHA-256 differs"),
        (SCREEN, None, "cannot be read"),
    ],
)
def test_a_screen_that_was_touched_is_refused(file, change, message, screened_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(screened_bundle, folder)
    if change is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(change((folder / file).read_bytes()))
    with pytest.raises(ModelError, match=message):
        load_bundle(folder)


def test_a_card_saved_again_keeps_its_screen(screened_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(screened_bundle, folder)
    model = load_bundle(folder)
    card = model.card.model_dump(mode="json", exclude={"golden", "weights_sha256"})
    save_bundle(folder, card | {"name": "other"}, model.network)
    again = load_bundle(folder)
    assert again.card.name == "other"
    assert again.card.screen == model.card.screen
    with pytest.raises(ModelError, match="cannot be read"):
        save_bundle(tmp_path / "elsewhere", card, model.network)
    assert {p.name for p in folder.iterdir()} == {CARD, WEIGHTS, SCREEN}


@given(st.integers(300, 900), st.integers(300, 900), st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0.3, 0.8))
def test_a_tile_is_shown_where_its_score_or_a_lesion_leads_to_it(width, height, seed, threshold, rarity):
    """`followed` tells at once what inference finds round by round."""
    rng = np.random.default_rng(seed)
    pyramid = Pyramid((width, height), (1.0, 2.0), 1.0, 1.0, "recorded", (0, 0, width, height))
    grid, _ = map_grid_for(pyramid, FINE)
    tissue = (rng.random(grid.shape) < 0.8).astype(np.float32) * np.float32(0.1)
    tiles = lay_tiles(pyramid, FINE, tissue)
    found = rng.random(grid.shape) > rarity
    scores = rng.random(len(tiles)).astype(np.float32)
    fresh, shown = scores >= np.float32(threshold), np.zeros(len(tiles), bool)
    while fresh.any():
        shown |= fresh
        seen = np.zeros(grid.shape, bool)
        for box in tiles.some(shown).kept_boxes():
            seen[box] = True
        fresh = leads_to(found & seen, tiles, tissue) & ~shown
    np.testing.assert_array_equal(followed(scores, found, tiles, tissue) >= np.float32(threshold), shown)


def test_a_lesion_leads_to_the_tiles_within_a_cell_of_it() -> None:
    pyramid = Pyramid((960, 640), (1.0,), 1.0, 1.0, "recorded", (0, 0, 960, 640))
    grid, _ = map_grid_for(pyramid, FINE)
    tissue = np.ones(grid.shape, np.float32)
    tiles = lay_tiles(pyramid, FINE, tissue)
    kept = FINE.kept_cells
    assert kept == 2

    def led_to(row: int, column: int) -> set[tuple[int, int]]:
        found = np.zeros(grid.shape, bool)
        found[row, column] = True
        return {(int(r) // kept, int(c) // kept) for r, c in tiles.cells_map_px[leads_to(found, tiles, tissue)]}

    assert led_to(8, 13) == {(3, 6), (3, 7), (4, 6), (4, 7)}  # the upper right of a tile's four cells
    assert led_to(0, 0) == {(0, 0)}


def test_no_more_deposits_are_missed_than_there_are(screened_bundle: Path) -> None:
    card = load_bundle(screened_bundle).card.screen
    assert card is not None
    said = card.missed.model_dump() | {"deposits": 8}
    assert Missed(**said | {"deposits_missed": 8}).deposits_missed == 8
    with pytest.raises(ValueError, match=r"deposits_missed \(9\) is above deposits \(8\)"):
        Missed(**said | {"deposits_missed": 9})
