"""What one writes in an afternoon: OpenSlide, a DataLoader with two workers, an eager network, a CSV.

python bench/plain_script.py SLIDE MODEL OUT
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import openslide
import torch
from torchvision import transforms

from histo.infer import load_model


class Tiles(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Tiles on a grid wherever the thumbnail has colour."""

    def __init__(self, path: str, size: int, mean: list[float], std: list[float]) -> None:
        self.path, self.size = path, size
        self.slide: openslide.OpenSlide | None = None
        with openslide.OpenSlide(path) as slide:
            width, height = slide.dimensions
            colour = np.asarray(slide.get_thumbnail((1024, 1024)).convert("HSV"))[..., 1]
        self.places = [
            (x, y)
            for y in range(0, height - size + 1, size)
            for x in range(0, width - size + 1, size)
            if colour[
                int((y + size / 2) / height * colour.shape[0]), int((x + size / 2) / width * colour.shape[1])
            ] > 15
        ]  # fmt: skip
        self.prepare = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self.slide is None:
            self.slide = openslide.OpenSlide(self.path)
        tile = self.slide.read_region(self.places[index], 0, (self.size, self.size)).convert("RGB")
        return self.prepare(tile), torch.tensor(self.places[index])


def main() -> None:
    """Score the slide."""
    path, model_path, out = sys.argv[1:]
    config = json.loads((Path(model_path) / "config.json").read_text())
    normalise = config["transform"][1]["arguments"]
    network = load_model(model_path).network
    tiles = Tiles(path, config["patch_size_pixels"], normalise["mean"], normalise["std"])
    Path(out).mkdir(parents=True)
    with open(Path(out) / "probs.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["minx", "miny", *config["class_names"]])
        for batch, places in torch.utils.data.DataLoader(tiles, batch_size=32, num_workers=2):
            with torch.no_grad():
                found = network.head(network.trunk(batch)).softmax(dim=1).mean(dim=(2, 3))
            for place, row in zip(places.tolist(), found.tolist(), strict=True):
                table.writerow([*place, *row])


if __name__ == "__main__":
    main()
