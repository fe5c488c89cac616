"""The colour rule: lesions and what resembles them draw their stain from the same ranges.

Amounts are mean haematoxylin and eosin as `Canvas` holds them. Whoever knows only a tile's colour can then
not tell calcium from lymphoid tissue, cartilage or bacteria, nor bone from keloid, muscle or tendon.
"""

import numpy as np

from histo.phantom.recipe import Lot

Amounts = tuple[float, float]
_BLACK = 1.5
_PALE = 0.1


def dark(lot: Lot) -> Amounts:
    """Draw the mean haematoxylin and eosin of something basophilic: deep blue to almost black, a tenth of it pale."""
    pale = lot.rng.random() < _PALE
    h = lot.between((0.14, 0.3), (0.1, 0.36)) if pale else lot.between((0.45, 1.3), (0.36, 1.7))
    return h, min(lot.between((0.25, 0.9), (0.18, 1.1)), 0.2 + 0.9 * h)


def pink(lot: Lot) -> Amounts:
    """Draw the mean haematoxylin and eosin of something eosinophilic; a quarter is bluish or purple."""
    e = lot.log_between((0.35, 1.6), (0.25, 2.1))
    bluish = lot.rng.random() < 0.28
    h = lot.between((0.15, 0.75), (0.12, 1.0))
    return (h if bluish else 0.15 * float(lot.rng.random())), e


def nuclear_share(lot: Lot, h: float, cover: float) -> tuple[float, float]:
    """Split a mean haematoxylin between ground and nuclei that cover a share of the area: (ground, strength).

    Nuclei blacker than `_BLACK` show no chromatin any more: what is left of the mean goes to the ground.
    """
    cover = max(cover, 0.08)
    ground = h * lot.between((0.12, 0.6), (0.05, 0.8))
    strength = float(np.clip((h - ground) / cover, 0.35, _BLACK))
    return max(ground, h - strength * cover), strength
