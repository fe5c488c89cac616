"""What a trunk shows on the way to its output: the texture of tiles, as the mean and the spread of its earlier maps.

Lee et al. (NeurIPS 2018) tell foreign input by the means of every layer's maps. The last map holds what tells the
classes apart and little else; what tissue is made of, the sizes and the grain of things, stands in those before it.
"""

import torch
from torch import Tensor, nn

from histo.models.backbones import PROBE_PX, shapes_of

FINEST_PX = 4  # maps of a finer stride than this show pixels, not tissue


class Tapped(nn.Module):
    """A trunk in evaluation mode that tells the texture of its tiles too.

    The maps it looks at are the last one at each stride from 4 px up to the one before its own; a trunk that has none,
    such as a timm encoder, which is one block, is told by its output. `margin_cells` of the output are left out.
    """

    def __init__(self, trunk: nn.Sequential, margin_cells: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(trunk)
        last = {side: number for number, (side, _) in enumerate(shapes_of(trunk))}
        own = min(last)
        sides = [side for side in last if own < side <= PROBE_PX // FINEST_PX and side % own == 0] or [own]
        self.ring_px = margin_cells * PROBE_PX // own
        self.margins = {last[side]: margin_cells * (side // own) for side in sides}

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the output (B, C, h, w) and the texture (B, T) of pictures (B, 3, S, S)."""
        found = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.margins:
                kept = without_ring(x, self.margins[number]).float()
                spread, mean = torch.std_mean(kept, dim=(2, 3), correction=0)
                found += [mean, spread]
        return x, torch.cat(found, dim=1)


def without_ring(cells: Tensor, margin_cells: int) -> Tensor:
    """Return a map (B, C, h, w) without a ring of cells."""
    end = -margin_cells or None  # counted from the end, so that an export serves tiles of any size
    return cells[:, :, margin_cells:end, margin_cells:end]
