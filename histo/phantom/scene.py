"""Everything that is known about a slide before its pixels are painted."""

from dataclasses import dataclass

from histo.phantom.artefacts import Artefacts
from histo.phantom.collagen import Fibres
from histo.phantom.layout import Frame, Layout
from histo.phantom.noise import F32
from histo.phantom.nuclei import Stamps
from histo.phantom.recipe import Tissue
from histo.phantom.region import Region
from histo.phantom.tube import Tube


@dataclass(frozen=True, eq=False)
class Scene:
    """The slide's maps, fibres, stamp shapes, base nuclei and a seed for its hashed textures."""

    frame: Frame
    layout: Layout
    tissue: Tissue
    fibres: Fibres
    bank: list[F32]
    nuclei: Stamps
    tubes: list[Tube]
    tube_nuclei: Stamps
    strands: list[Region]
    artefacts: Artefacts
    seed: int
