"""Augmentation of training tiles. The only importer of albumentations."""

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from histo.config import AugmentConfig
from histo.data.rescan import rescan
from histo.data.stain import jitter_stain

# albumentations asks the network for its newest version at import unless told not to.
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2

Augment = Callable[[NDArray[np.uint8], NDArray[np.uint8], int], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def build_augmentation(config: AugmentConfig) -> Augment:
    """Return `augment(rgb, labels, seed)` for tiles (S, S, 3) uint8 and label maps (S, S); same seed, same result.

    Symmetries of the square and scale act on both; the rest on the picture only.
    """
    geometry = [A.D4()]
    if config.scale:
        scale = (1 - config.scale, 1 + config.scale)
        # What comes in from outside the tile is mirrored, and so are its labels.
        geometry.append(A.Affine(scale=scale, rotate=(-20, 20), border_mode=cv2.BORDER_REFLECT_101, p=0.5))
    picture = [
        A.ToGray(p=config.grey),
        A.RandomBrightnessContrast(config.light, config.light, p=0.7 if config.light else 0),
        A.RandomGamma((80, 125), p=0.4 if config.light else 0),
        A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.6)), A.Sharpen(alpha=(0.1, 0.5))], p=config.blur),
        A.GaussNoise(std_range=(0.005, 0.04), p=config.noise),
        A.ImageCompression(quality_range=(40, 95), p=config.jpeg),
    ]
    compose = A.Compose([*geometry, *picture], mask_interpolation=cv2.INTER_NEAREST)

    def augment(
        rgb: NDArray[np.uint8], labels: NDArray[np.uint8], seed: int
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        compose.set_random_seed(seed)
        stained = jitter_stain(rgb, config.stain, config.grain, seed)
        if np.random.default_rng([seed, 2]).random() < config.rescan:
            stained = rescan(stained, seed)
        both = compose(image=stained, mask=labels)
        return both["image"], both["mask"]

    return augment
