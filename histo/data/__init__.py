"""Reading slides, tissue, tiles, manifests and annotations."""
