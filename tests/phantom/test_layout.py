"""The layers of the specimen: depth, epidermis, and fibres that do not repeat."""

import numpy as np
import pytest

from histo.phantom.collagen import collagen, weave
from histo.phantom.layout import frame_for, lay_out
from histo.phantom.noise import Window
from histo.phantom.recipe import draw_tissue, stream
from histo.phantom.tube import Tube


@pytest.mark.parametrize("domain", ["train", "extreme"])
def test_no_tissue_lies_above_the_skin(domain: str) -> None:
    """Regression: fragments without a surface took another's depth and were drawn as horn from edge to edge."""
    frame = frame_for((3000, 3000), 0.5)
    for seed in range(25):
        layout = lay_out(frame, draw_tissue(seed, seed, domain), seed)
        inside = layout.tissue > 0
        assert (layout.depth[inside] >= layout.tissue[inside] - 1e-3).all(), seed


def test_the_epidermis_stays_a_layer_on_small_slides() -> None:
    """Regression: on a small extreme slide the epidermis filled the specimen and no lesion had room."""
    frame = frame_for((1400, 1200), 0.5)
    for seed in range(25):
        layout = lay_out(frame, draw_tissue(seed, seed, "extreme"), seed)
        inside = layout.tissue > 0
        assert (layout.epidermis[inside] > 0).mean() < 0.7, seed


def test_fibres_do_not_repeat_where_their_texture_does() -> None:
    frame = frame_for((3000, 3000), 0.5)
    tissue = draw_tissue(4, 4, "train")
    fibres = weave(stream(4, "texture"), lay_out(frame, tissue, 4), tissue)
    rows, columns = fibres.texture.shape[0] - 1, 4 * (fibres.texture.shape[1] - 1)

    def field(y: int, x: int) -> np.ndarray:
        eosin = collagen(fibres, tissue, Window(y, x, 384, 384), frame.factor, frame.mpp)[0]
        return (eosin - eosin.mean()) / eosin.std()

    here = field(300, 200)
    for y, x in ((300 + rows, 200), (300, 200 + columns), (300 + rows // 2, 200)):
        assert abs(float((here * field(y, x)).mean())) < 0.12, (y, x)
    assert abs(float((here * field(300, 200)).mean()) - 1) < 1e-3


def test_a_tube_bulges_by_less_than_its_wall() -> None:
    turn = np.linspace(0, 2 * np.pi, 200, dtype=np.float32)
    bulges = [
        Tube(0, 0, 60, 40, 0.0, 20, (0.3, 0.5), (0, 0), False, seed).bulge_um(turn) for seed in range(1, 2000, 97)
    ]
    assert max(float(np.abs(b).max()) for b in bulges) < 20
    assert np.mean([float(np.ptp(b)) for b in bulges]) > 2
    for bulge in bulges:
        assert abs(float(bulge[0] - bulge[-1])) < 0.05, "the outline must close"
