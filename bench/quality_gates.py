"""What the quality gates say of slides as they are and of spoilt copies of their tiles.

    python bench/quality_gates.py SLIDE... [--mpp 0.5] [--tiles 6] [--spoil inverted,brown] [--names]

Tiles come from all over the tissue at the shipped model's scale; nothing is scored, so `foreign_tissue` is not asked.
A picture that is no slide (JPEG, PNG) is taken as one field of `--mpp`. Prints, for every way of spoiling, how many
inputs each gate sends to review.
"""

import argparse
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from histo.data.glass import glass_among, glass_of
from histo.data.quality import judge_quality
from histo.data.tile_sample import fullest, spread, stacked
from histo.data.tiles import TileDataset
from histo.errors import SlideError
from histo.geometry import tile_means
from histo.infer import load_model
from histo.models.bundle import Model
from histo.opening import open_for

STAINS = np.array([[0.5626, 0.7201, 0.4062], [0.2159, 0.8012, 0.5581], [0.7, -0.45, 0.55]])
BLUE, BROWN, GREEN = (0.65, 0.70, 0.29), (0.27, 0.57, 0.78), (0.75, 0.2, 0.4)


def restained(rgb: np.ndarray, first: tuple[float, ...], second: tuple[float, ...]) -> np.ndarray:
    """Return the picture with haematoxylin and eosin replaced by two other dyes."""
    od = np.maximum(-np.log((rgb.astype(np.float32) + 1) / 246), 0)
    dyes = np.maximum(od @ np.linalg.inv(STAINS), 0)
    other = dyes[..., :1] * np.array(first) + dyes[..., 1:2] * np.array(second)
    return np.clip(246 * np.exp(-other), 0, 255).astype(np.uint8)


def turned(rgb: np.ndarray, degrees: int) -> np.ndarray:
    """Return the picture with its hue turned."""
    hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] + degrees // 2) % 180
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def blurred(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Return a blur by as many pixels, which are µm on the tiles of the shipped model."""
    return lambda rgb: cv2.GaussianBlur(rgb, (0, 0), sigma)


SPOIL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "as it is": lambda rgb: rgb,
    "inverted": lambda rgb: 255 - rgb,
    "grey": lambda rgb: np.repeat(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2),
    "brown": lambda rgb: restained(rgb, BLUE, BROWN),
    "green": lambda rgb: restained(rgb, (0.35, 0.65, 0.35), GREEN),
    "dark": lambda rgb: ((255 - rgb) * np.array([0, 0.4, 1])).astype(np.uint8),
    "hue +30": lambda rgb: turned(rgb, 30),
    "hue -30": lambda rgb: turned(rgb, -30),
    "blur 1 µm": blurred(1),
    "blur 2 µm": blurred(2),
    "blur 4 µm": blurred(4),
    "twice as large": lambda rgb: cv2.resize(rgb, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)[
        : len(rgb), : len(rgb)
    ],
}


def tiles_of(path: Path, model: Model, mpp: float | None, most: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return tiles (N, S, S, 3) and the glass's colour (3,), or None for what cannot be read or holds no tissue."""
    scale = model.card.tile.mpp
    if path.suffix.lower() in (".jpg", ".jpeg", ".png"):
        rgb = cv2.imread(str(path))[..., ::-1]
        factor = (mpp or scale) / scale
        return np.ascontiguousarray(cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))[None], (
            glass_among(rgb.reshape(-1, 3))
        )
    with open_for(path, model, mpp, sha256="") as opened:
        try:
            laid = opened.laid
        except SlideError:
            return None
        full = fullest(tile_means(laid.tiles, laid.tissue - laid.excluded))
        data = TileDataset.of(laid.slide, laid.tiles)
        wanted = full[spread(len(full), most)].tolist()
        return stacked(tile for i in wanted if (tile := data[i]) is not None), glass_of(laid.overview)


def main() -> None:
    """Print a line for every way of spoiling."""
    parser = argparse.ArgumentParser()
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--mpp", type=float)
    parser.add_argument("--tiles", type=int, default=6)
    parser.add_argument("--spoil", default=",".join(SPOIL))
    parser.add_argument("--names", action="store_true", help="name the inputs that are sent to review")
    given = parser.parse_args()
    model = load_model(lazy=True)
    found = {path: tiles_of(path, model, given.mpp, given.tiles) for path in given.slides}
    inputs = {path: one for path, one in found.items() if one is not None and len(one[0])}
    for name in given.spoil.split(","):
        told: Counter[str] = Counter()
        who = []
        for path, (tiles, glass) in inputs.items():
            spoilt = np.stack([SPOIL[name](tile) for tile in tiles])
            # The glass is spoilt too, but blur, scale and what leaves it bright.
            colour = (
                glass
                if name.startswith(("as", "blur", "twice"))
                else glass_among(SPOIL[name](_plain(glass)).reshape(-1, 3))
            )
            _, reasons = judge_quality(spoilt, model.card.tile.mpp, colour, 1.0, None)
            told.update(r.code for r in reasons)
            who += [f"{path.stem}: {r.code}" for r in reasons]
            told["any"] += bool(reasons)
        print(f"{name}: {told.pop('any')} of {len(inputs)} in review {dict(told)}", flush=True)
        for line in who if given.names else ():
            print(f"    {line}")


def _plain(colour: np.ndarray) -> np.ndarray:
    return np.full((1, 1, 3), np.floor(colour + 0.5), np.uint8)


if __name__ == "__main__":
    main()
