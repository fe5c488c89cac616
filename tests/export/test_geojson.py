import json
import uuid
from dataclasses import replace

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from histo.export.geojson import write_lesions
from histo.outlines import to_polygon
from histo.results import RESEARCH_USE, Lesion


def _read(path):
    def refuse(word):
        raise AssertionError(f"{word} in the file")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


def _numbers(value):
    if isinstance(value, int | float):
        yield value
    else:
        for part in value:
            yield from _numbers(part)


def test_features_follow_the_rules_of_qupath(prediction, tmp_path):
    path = tmp_path / "l.geojson"
    write_lesions(prediction.result, path)
    collection = _read(path)
    assert collection["type"] == "FeatureCollection"
    assert len(collection["features"]) == len(prediction.result.lesions)
    colours = {c.name: list(c.colour) for c in prediction.result.model.classes}
    for feature, lesion in zip(collection["features"], prediction.result.lesions, strict=True):
        properties = feature["properties"]
        assert str(uuid.UUID(feature["id"])) == lesion.lesion_id
        assert properties["objectType"] == "annotation"
        assert properties["name"] == lesion.name
        assert properties["classification"] == {"name": lesion.class_name, "color": colours[lesion.class_name]}
        assert properties["isLocked"] is False
        names = {"area_mm2", "feret_mm", "prob_mean", "prob_max", "contribution", "edge_mm"}
        assert set(properties["measurements"]) == names
        assert properties["metadata"] == {
            "model": prediction.result.model.name,
            "model_digest": prediction.result.model.digest,
            "lesion_id": lesion.lesion_id,
            "review": "pending",
        }
    lines = path.read_text().splitlines()
    assert sum(line.startswith('{"type":"Feature",') for line in lines) == len(prediction.result.lesions)


def test_outlines_come_back_when_the_shift_is_undone(prediction, tmp_path):
    write_lesions(prediction.result, tmp_path / "l.geojson")
    collection = _read(tmp_path / "l.geojson")
    offset = collection["histo"]["offset"]
    assert offset == list(prediction.result.pyramid.bounds_level0_px[:2])
    assert collection["histo"]["origin"] == "openslide_bounds"
    assert collection["histo"]["research_use"] == RESEARCH_USE
    for feature, lesion in zip(collection["features"], prediction.result.lesions, strict=True):
        back = shapely.transform(shape(feature["geometry"]), lambda xy: xy + offset)
        polygon = to_polygon(lesion.outline)
        assert back.symmetric_difference(polygon).area <= 0.01 * polygon.length
        assert all(n == round(n, 2) for n in _numbers(feature["geometry"]["coordinates"]))


def _lesion(outline):
    return Lesion(str(uuid.uuid4()), "bone 1", "bone", outline, 0.1, 0.2, float("nan"), float("inf"), outline[0][0])


AWKWARD = {
    "needle that closes when rounded": (((0, 0), (10, 0.004), (20, 0), (20, 9), (0, 9), (10, 0.0041), (0, 0)),),
    "hole that touches the border when rounded": (
        ((0, 0), (30, 0), (30, 30), (0, 30), (0, 0)),
        ((0.004, 5), (9, 4), (9, 9), (0.004, 5)),
    ),
    "bow tie": (((0, 0), (10, 10), (10, 0), (0, 10), (0, 0)),),
    "speck": (((0, 0), (0.003, 0), (0, 0.003), (0, 0)),),
}


@pytest.mark.parametrize("outline", AWKWARD.values(), ids=AWKWARD.keys())
def test_geometry_is_valid_and_in_its_place_after_rounding_and_no_nan_is_written(make, tmp_path, outline):
    lesion = _lesion(tuple(tuple((float(x) + 700.123, float(y) + 1300.456) for x, y in ring) for ring in outline))
    result = replace(make(without=("lesions",)).result, lesions=(lesion,))
    write_lesions(result, tmp_path / "l.geojson")
    collection = _read(tmp_path / "l.geojson")
    feature = collection["features"][0]
    geometry = shape(feature["geometry"])
    assert shapely.is_valid(geometry)
    assert not shapely.is_empty(geometry)
    back = shapely.transform(geometry, lambda xy: xy + collection["histo"]["offset"])
    whole = shapely.make_valid(to_polygon(lesion.outline))
    assert back.symmetric_difference(whole).area <= 0.01 * whole.length
    assert back.distance(whole) <= 0.01
    assert set(feature["properties"]["measurements"]) == {"area_mm2", "feret_mm"}


def test_random_stars_stay_valid(make, tmp_path):
    rng = np.random.default_rng(1)
    lesions = []
    for _ in range(40):
        angle = np.sort(rng.uniform(0, 2 * np.pi, 30))
        radius = rng.uniform(0.001, 0.5, 30)
        ring = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1) + 900
        lesions.append(_lesion((tuple(map(tuple, np.vstack([ring, ring[:1]]).tolist())),)))
    write_lesions(replace(make().result, lesions=tuple(lesions)), tmp_path / "l.geojson")
    for feature in _read(tmp_path / "l.geojson")["features"]:
        assert shapely.is_valid(shape(feature["geometry"]))


def test_no_lesions_give_a_valid_empty_collection(make, tmp_path):
    for status in ("done", "refused"):
        write_lesions(make(status=status, without=("lesions",)).result, tmp_path / "l.geojson")
        assert _read(tmp_path / "l.geojson")["features"] == []


def test_the_same_result_gives_the_same_bytes_and_odd_names_survive(make, tmp_path):
    result = make(slide_id='a"\udc80').result
    for name in ("a", "b"):
        write_lesions(result, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert _read(tmp_path / "a")["histo"]["slide_id"] == 'a"\ufffd'
