import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile

from histo.export.heatmap import write_heatmap
from histo.results import RESEARCH_USE

NAMES = ("normal", "bone", "calcification")
NS = {"ome": "http://www.openmicroscopy.org/Schemas/OME/2016-06"}


def test_values_come_back_and_unscored_cells_are_zero(prediction, tmp_path):
    slide_map = prediction.slide_map
    write_heatmap(slide_map, prediction.result.model, tmp_path / "h.ome.tif")
    read = tifffile.imread(tmp_path / "h.ome.tif")
    assert read.dtype == np.uint8
    assert read.shape == (4, *slide_map.grid.shape)
    np.testing.assert_allclose(
        read[:3][:, slide_map.valid] / 255, slide_map.probability[:, slide_map.valid], atol=0.5 / 255 + 1e-6
    )
    assert not read[:, ~slide_map.valid].any()
    np.testing.assert_array_equal(read[3], np.where(slide_map.valid, 255, 0))


def test_ome_metadata_say_scale_place_channels_and_model(prediction, tmp_path):
    slide_map, model = prediction.slide_map, prediction.result.model
    write_heatmap(slide_map, model, tmp_path / "h.ome.tif")
    with tifffile.TiffFile(tmp_path / "h.ome.tif") as tif:
        root = ET.fromstring(tif.ome_metadata)
    pixels = root.find(".//ome:Pixels", NS)
    assert (pixels.get("PhysicalSizeX"), pixels.get("PhysicalSizeXUnit")) == ("16.0", "µm")
    assert (float(pixels.get("PhysicalSizeY")), pixels.get("PhysicalSizeYUnit")) == (pytest.approx(16), "µm")
    channels = pixels.findall("ome:Channel", NS)
    assert [c.get("Name") for c in channels] == [*NAMES, "scored"]
    bone = int(channels[1].get("Color")) & 0xFFFFFFFF
    assert bone.to_bytes(4, "big") == bytes((*model.classes[0].colour, 255))
    plane = pixels.find("ome:Plane", NS)
    x, y = prediction.result.pyramid.bounds_level0_px[:2]
    assert float(plane.get("PositionX")) == pytest.approx(x * prediction.result.pyramid.mpp_x)
    assert float(plane.get("PositionY")) == pytest.approx(y * prediction.result.pyramid.mpp_y)
    text = root.find(".//ome:Description", NS).text
    assert RESEARCH_USE in text
    assert model.name in text
    assert model.digest in text


def test_a_viewer_that_adds_the_channels_up_shows_the_lesion_in_its_colour(prediction, tmp_path):
    """Regression: `normal` and `scored` were white, and so was every cell of the sum."""
    write_heatmap(prediction.slide_map, prediction.result.model, tmp_path / "h.ome.tif")
    with tifffile.TiffFile(tmp_path / "h.ome.tif") as tif:
        root, values = ET.fromstring(tif.ome_metadata), tif.asarray()
    drawn = [int(c.get("Color")) & 0xFFFFFFFF for c in root.iterfind(".//ome:Channel", NS)]
    colours = np.array([list(c.to_bytes(4, "big")[:3]) for c in drawn])
    row, column = np.unravel_index(values[1].argmax(), values[1].shape)
    shown = np.clip((values[:, row, column, None] / 255 * colours).sum(axis=0), 0, 255)
    assert np.abs(shown - prediction.result.model.classes[0].colour).max() < 80
    assert np.ptp(shown) > 60


def test_large_maps_are_tiled_pyramids_of_means_over_what_was_scored(make, tmp_path):
    prediction = make(cells=(301, 523))
    slide_map = prediction.slide_map
    write_heatmap(slide_map, prediction.result.model, tmp_path / "h.ome.tif")
    with tifffile.TiffFile(tmp_path / "h.ome.tif") as tif:
        page = tif.series[0].pages[0]
        assert tif.is_ome
        assert page.is_tiled
        assert page.compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        levels = [level.asarray() for level in tif.series[0].levels]
    assert [level.shape for level in levels] == [(4, 301, 523), (4, 151, 262), (4, 76, 131)]
    row, column = np.argwhere(slide_map.valid[:300:2, :522:2] & ~slide_map.valid[1:301:2, :522:2])[0]
    block = np.s_[2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
    full, scored = levels[0][:, block[0], block[1]], slide_map.valid[block]
    np.testing.assert_allclose(levels[1][:3, row, column], full[:3][:, scored].mean(axis=1), atol=0.51)
    assert levels[1][3, row, column] == pytest.approx(255 * scored.mean(), abs=0.51)


def test_the_same_map_gives_the_same_bytes(prediction, tmp_path):
    for name in ("a", "b"):
        write_heatmap(prediction.slide_map, prediction.result.model, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_odd_names_and_values_do_not_break_the_file(prediction, tmp_path):
    probability = prediction.slide_map.probability.copy()
    probability[0, 60, 80] = np.nan
    odd = replace(prediction.slide_map, probability=probability)
    model = prediction.result.model
    rules = tuple(replace(c, name=n) for c, n in zip(model.classes, ("b\x00", '"c"'), strict=True))
    write_heatmap(odd, replace(model, normal_class="<a> & \udc80", classes=rules), tmp_path / "h.ome.tif")
    with tifffile.TiffFile(tmp_path / "h.ome.tif") as tif:
        root = ET.fromstring(tif.ome_metadata)
        assert tif.asarray()[0, 60, 80] == 0
    assert next(root.iter(f"{{{NS['ome']}}}Channel")).get("Name") == "<a> & \ufffd"


def test_names_must_fit_the_channels(prediction, tmp_path):
    model = prediction.result.model
    with pytest.raises(ValueError, match="2 classes for 3 channels"):
        write_heatmap(prediction.slide_map, replace(model, classes=model.classes[:1]), tmp_path / "h.ome.tif")
    assert not list(tmp_path.iterdir())


def test_it_needs_no_imagecodecs(tmp_path):
    code = """
import sys
sys.modules["imagecodecs"] = None
from pathlib import Path
import numpy as np, tifffile
from histo.export.heatmap import write_heatmap
from histo.geometry import MapGrid
from histo.results import ClassRule, ModelInfo, SlideMap
shape = (300, 280)
part = np.zeros(shape, np.float32)
grid = MapGrid((0.0, 0.0), (32.0, 32.0), shape, (16.0, 16.0))
model = ModelInfo("m", "d", (ClassRule("b", (1, 2, 3), 0.1, "v"),), "normal", "tests", "none")
write_heatmap(SlideMap(np.full((2, *shape), 0.5, np.float16), part + 1, part, part == 0, grid), model,
              Path(sys.argv[1]))
assert tifffile.imread(sys.argv[1])[0, 150, 150] == 128
loaded = {"torch", "openslide", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""
    root = Path(__file__).parents[2]
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "h.ome.tif")],
        check=True,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
