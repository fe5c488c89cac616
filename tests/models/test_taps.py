"""The texture of tiles: by which maps of a trunk, without the ring that is dropped, and as NumPy computes it."""

import numpy as np
import pytest
import torch
from torch import nn

from histo.models.backbones import BACKBONES, build_trunk
from histo.models.taps import Tapped

STAGES = {  # the last block at strides 4 and 8
    "compact": (1, 2),
    "resnet18": (1, 2),
    "resnet50": (1, 2),
    "shufflenet_v2_x1_0": (1, 2),
    "mobilenet_v3_small": (1, 3),
    "mobilenet_v3_large": (3, 6),
    "efficientnet_b0": (2, 3),
    "convnext_tiny": (1, 3),
}


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_texture_is_that_of_the_maps_at_strides_4_and_8(backbone: str) -> None:
    torch.manual_seed(1)
    trunk, _ = build_trunk(backbone, 16)
    trunk.eval()
    tapped = Tapped(trunk, margin_cells=2)
    assert tuple(tapped.margins) == STAGES[backbone]
    assert tuple(tapped.margins.values()) == (8, 4)
    assert tapped.ring_px == 32
    x = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        cells, texture = tapped(x)
        torch.testing.assert_close(cells, trunk(x))
        wanted = []
        for number, margin in tapped.margins.items():
            kept = trunk[: number + 1](x).numpy()[:, :, margin:-margin, margin:-margin]
            wanted += [kept.mean((2, 3)), kept.std((2, 3))]
    np.testing.assert_allclose(texture.numpy(), np.concatenate(wanted, axis=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stride", [4, 16])
def test_a_trunk_without_earlier_maps_is_told_by_its_output(stride: int) -> None:
    tapped = Tapped(nn.Sequential(nn.Conv2d(3, 5, stride, stride)).eval(), margin_cells=0)
    cells, texture = tapped(torch.rand(1, 3, 64, 64))
    assert tapped.margins == {0: 0}
    np.testing.assert_allclose(texture[0, :5].detach(), cells[0].mean((1, 2)).detach(), atol=1e-6)
    np.testing.assert_allclose(texture[0, 5:].detach(), cells[0].std((1, 2), correction=0).detach(), atol=1e-6)


def test_half_precision_does_not_round_the_sums() -> None:
    block = nn.Conv2d(3, 2, 4, 4).half()
    nn.init.constant_(block.weight, 0)
    nn.init.constant_(block.bias, 1000.0)
    tapped = Tapped(nn.Sequential(nn.Conv2d(3, 2, 4, 4)).eval(), margin_cells=0)
    tapped.blocks[0] = block
    _, texture = tapped(torch.rand(1, 3, 256, 256).half())
    assert texture.dtype == torch.float32
    np.testing.assert_allclose(texture[0].detach(), [1000, 1000, 0, 0], atol=1e-3)
