import csv
import math
from dataclasses import replace

import numpy as np
import pytest

from histo.export.tables import BLOCK_CELLS, write_slides, write_tiles
from histo.geometry import Pyramid, cover
from histo.results import RESEARCH_USE, Checks, Reason, SlideMap

NAMES = ("normal", "bone", "calcification")


def _rows(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        return list(csv.DictReader(file))


def test_tiles_have_the_layout_of_wsinfer(prediction, tmp_path):
    write_tiles(prediction.slide_map, prediction.result.pyramid, prediction.result.model, tmp_path / "t.csv")
    first = (tmp_path / "t.csv").read_text().splitlines()[0]
    assert first.startswith("minx,miny,width,height,prob_normal,prob_bone,prob_calcification,")
    rows = _rows(tmp_path / "t.csv")
    assert {r["research_use"] for r in rows} == {RESEARCH_USE}
    assert {r["model_digest"] for r in rows} == {prediction.result.model.digest}
    for row in rows:
        assert all(row[k] == str(int(row[k])) for k in ("minx", "miny", "width", "height"))
        assert sum(float(row[f"prob_{n}"]) for n in NAMES) == pytest.approx(1, abs=2e-3)


def test_blocks_meet_without_gap_and_hold_the_mean_over_scored_tissue(make, tmp_path):
    prediction = make(cells=(37, 53), mpp=(0.47, 0.41))
    slide_map, grid = prediction.slide_map, prediction.slide_map.grid
    write_tiles(slide_map, prediction.result.pyramid, prediction.result.model, tmp_path / "t.csv")
    rows = {(int(r["minx"]), int(r["miny"])): r for r in _rows(tmp_path / "t.csv")}
    usable = np.where(slide_map.valid, slide_map.tissue - slide_map.excluded, 0)
    seen = 0
    for top in range(0, grid.shape[0], BLOCK_CELLS):
        for left in range(0, grid.shape[1], BLOCK_CELLS):
            block = np.s_[top : top + BLOCK_CELLS, left : left + BLOCK_CELLS]
            x, y = (math.floor(v + 0.5) for v in grid.to_level0_px(np.array([[left, top]], float))[0])
            if not usable[block].any():
                assert (x, y) not in rows
                continue
            seen += 1
            mean = slide_map.probability[1][block][usable[block] > 0].astype(float).mean()
            assert float(rows[x, y]["prob_bone"]) == pytest.approx(mean, abs=1e-5)
            right = x + int(rows[x, y]["width"])
            neighbour = grid.to_level0_px(np.array([[left + BLOCK_CELLS, top]], float))[0][0]
            if left + BLOCK_CELLS < grid.shape[1]:
                assert right == math.floor(neighbour + 0.5)
            assert right <= prediction.result.pyramid.size_level0_px[0]
    assert seen == len(rows)


def _map_at_the_edge():
    """Return a slide of 1000 x 700 px without an empty border, and its map of 22 x 32 cells, all scored and normal."""
    pyramid = Pyramid((1000, 700), (1.0,), 0.5, 0.5, "recorded", (0, 0, 1000, 700))
    grid = cover(pyramid, (32.0, 32.0))
    probability = np.zeros((3, *grid.shape), np.float16)
    probability[0] = 1
    whole, nothing = np.ones(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    return pyramid, SlideMap(probability, whole, nothing, np.ones(grid.shape, bool), grid)


def test_blocks_end_where_the_slide_ends(make, tmp_path):
    pyramid, slide_map = _map_at_the_edge()
    write_tiles(slide_map, pyramid, make().result.model, tmp_path / "t.csv")
    rows = [tuple(int(r[k]) for k in ("minx", "miny", "width", "height")) for r in _rows(tmp_path / "t.csv")]
    assert len(rows) == 4 * 3
    assert [r for r in rows if r[0] == 768] == [(768, 0, 232, 256), (768, 256, 232, 256), (768, 512, 232, 188)]
    assert sum(width * height for _, _, width, height in rows) == 1000 * 700


def test_cells_weigh_in_their_block_as_much_as_their_tissue_that_was_scored(make, tmp_path):
    pyramid, slide_map = _map_at_the_edge()
    # Of the first block: a whole cell at 0.25, one of which a quarter is left at 0.75, half a cell at 0.5; the others
    # were never read, and the second block lies wholly under ink.
    slide_map.valid[:8, :8] = False
    slide_map.valid[0, :3] = True
    slide_map.probability[1, 0, :3] = (0.25, 0.75, 0.5)
    slide_map.excluded[0, 1] = 0.75
    slide_map.tissue[0, 2] = 0.5
    slide_map.excluded[:8, 8:16] = 1
    write_tiles(slide_map, pyramid, make().result.model, tmp_path / "t.csv")
    rows = {(int(r["minx"]), int(r["miny"])): r for r in _rows(tmp_path / "t.csv")}
    expected = (0.25 + 0.25 * 0.75 + 0.5 * 0.5) / (1 + 0.25 + 0.5)
    assert float(rows[0, 0]["prob_bone"]) == pytest.approx(expected, abs=1e-5)
    assert (256, 0) not in rows
    assert len(rows) == 11


def test_a_map_without_scored_tissue_gives_the_header_alone(prediction, tmp_path):
    nothing = replace(prediction.slide_map, valid=np.zeros_like(prediction.slide_map.valid))
    write_tiles(nothing, prediction.result.pyramid, prediction.result.model, tmp_path / "t.csv")
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 1


def test_every_slide_has_a_row_whatever_its_status(make, tmp_path):
    results = [make(status=s, slide_id=s).result for s in ("done", "review", "refused", "failed")]
    write_slides(iter(results), tmp_path / "s.csv", {"done": 12.345})
    rows = {r["slide_id"]: r for r in _rows(tmp_path / "s.csv")}
    assert list(rows) == ["done", "review", "refused", "failed"]
    done = rows["done"]
    assert (done["verdict"], done["also"], done["seconds"]) == ("heterotopic_ossification", "calcification", "12.35")
    assert done["not_excluded"] == "heterotopic_ossification;calcinosis_cutis"
    assert (done["certified"], done["prob_any_bone"]) == ("", "0.94")
    assert float(done["area_mm2_bone"]) == pytest.approx(results[0].burdens[0].area_mm2, rel=1e-5)
    assert done["count_calcification"] == "2"
    total = sum(float(done[f"{k}_mm2"]) for k in ("scored", "unreadable", "excluded"))
    assert float(done["tissue_mm2"]) == pytest.approx(total, rel=1e-4)
    assert rows["review"]["reason_codes"] == "uncertain"
    assert (rows["refused"]["reason_codes"], rows["refused"]["verdict"]) == ("no_scale", "")
    for row in rows.values():
        assert row["research_use"] == RESEARCH_USE
        assert row["model_digest"] == results[0].model.digest
        assert not {"nan", "inf", "None"} & set(row.values())


def test_how_far_a_slide_lies_from_the_reference_has_its_columns(make, tmp_path):
    far = replace(make().result, checks=Checks(foreign_distance=1.31, foreign_limit=1.17))
    write_slides([far, replace(far, checks=None)], tmp_path / "s.csv", {})
    assert [(r["foreign_distance"], r["foreign_limit"]) for r in _rows(tmp_path / "s.csv")] == [
        ("1.31", "1.17"),
        ("", ""),
    ]


def test_columns_stay_the_same_when_no_slide_was_done(make, tmp_path):
    write_slides([make().result], tmp_path / "a.csv", {})
    write_slides([make(status="failed").result], tmp_path / "b.csv", {})
    heads = [(tmp_path / n).read_text().splitlines()[0] for n in ("a.csv", "b.csv")]
    assert heads[0] == heads[1]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_cells_are_no_formulas_but_numbers_stay_numbers(make, tmp_path, start):
    odd = replace(make().result, slide_id=f"{start}cmd()", reasons=(Reason("x", f'{start}a,"b"\nc'),))
    odd = replace(odd, burdens=(replace(odd.burdens[0], area_mm2=-0.5), replace(odd.burdens[1], area_mm2=math.nan)))
    write_slides([odd], tmp_path / "s.csv", {})
    row = _rows(tmp_path / "s.csv")[0]
    assert row["slide_id"] == f"'{start}cmd()"
    assert row["reasons"] == f'\'{start}a,"b"\nc'
    assert row["area_mm2_bone"] == "-0.5"
    assert row["area_mm2_calcification"] == ""


def test_file_names_that_are_not_utf8_survive(make, tmp_path):
    name = b"Pr\xe4parat.svs".decode("utf-8", "surrogateescape")
    write_slides([replace(make().result, path=name)], tmp_path / "s.csv", {})
    assert b"Pr\xe4parat.svs" in (tmp_path / "s.csv").read_bytes()
    assert _rows(tmp_path / "s.csv")[0]["path"] == name


def test_a_failed_write_leaves_the_old_table(make, tmp_path):
    path = tmp_path / "s.csv"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_slides([replace(make().result, path="\ud800")], path, {})
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["s.csv"]
