"""What a slide's examination yields: the slide map, lesions, areas, the verdict, and their JSON form.

These records are all that exporters, the ledger and `evaluate` ever see of a slide.
"""

import json
import os
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from histo.errors import UsageError
from histo.geometry import MapGrid, Pyramid
from histo.outlines import Outline
from histo.precedence import label_of, labels_of
from histo.wording import counted

SCHEMA = 4  # 2: evidence of the strongest cells (docs/adr/0008); 3: `foreign_distance`; 4: `exclusions_hold`
ENOUGH_REFERENCES = 50  # patients; with fewer the limit is so wide that hardly anything is foreign (docs/adr/0011)
RESEARCH_USE = "Research use only. Not a medical device. A pathologist decides."

Status = Literal["done", "review", "refused", "failed"]
WhyNot = Literal["small", "weak"]  # why a region is no finding: its area, or what speaks for it


@dataclass(frozen=True)
class ClassRule:
    """One lesion class of a model: its name, colour (RGB 0 to 255), smallest area and the verdict it leads to."""

    name: str
    colour: tuple[int, int, int]
    min_area_mm2: float
    verdict: str


@dataclass(frozen=True)
class ModelInfo:
    """Which model made a result: `classes` in order of precedence, `labels` all verdicts it can give.

    `screen` says what its screen missed where its threshold was chosen; empty without one.
    """

    name: str
    digest: str
    classes: tuple[ClassRule, ...]
    normal_label: str
    intended_use: str
    calibration: str
    normal_class: str = "normal"
    screen: str = ""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the channels of the slide map, the normal class first."""
        return (self.normal_class, *(c.name for c in self.classes))

    def label_of(self, found: Container[str]) -> str:
        """Return the label that the lesion classes found lead to: the first in order of precedence decides."""
        return label_of(found, self.classes, self.normal_label)

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that a verdict of this model can have, the normal one first."""
        return labels_of(self.classes, self.normal_label)


@dataclass(frozen=True)
class Reason:
    """Why a slide needs review, was refused or failed: a stable code and a sentence."""

    code: str
    message: str


@dataclass(frozen=True)
class Lesion:
    """One connected region of one class; coordinates in level-0 px, probabilities calibrated.

    `probability` is its own, by all of its evidence, and what it counts by: the mean and maximum are those of the map's
    cells. None where the model's slide scores are not calibrated. `contribution` is its share of the expected area of
    its class, `edge_mm` its distance to the nearest edge of the tissue.
    """

    lesion_id: str
    name: str
    class_name: str
    outline: Outline
    area_mm2: float
    feret_mm: float
    probability_mean: float
    probability_max: float
    peak_level0_px: tuple[float, float]
    contribution: float | None = None
    edge_mm: float | None = None
    probability: float | None = None


@dataclass(frozen=True)
class ClassBurden:
    """How much of one class a slide holds.

    `presence` is the probability that it holds any, `evidence` the log-odds that this was computed from.
    """

    class_name: str
    area_mm2: float
    count: int
    largest_feret_mm: float
    presence: float
    evidence: float | None = None


@dataclass(frozen=True)
class Areas:
    """Tissue accounting in mm²: tissue = scored + unreadable + excluded + screened.

    Screened is what the screen of `--mode screen` saw and the network itself was not shown.
    """

    tissue_mm2: float
    scored_mm2: float
    unreadable_mm2: float
    excluded_mm2: float
    screened_mm2: float = 0.0


@dataclass(frozen=True)
class StainGains:
    """What a slide's optical density was multiplied by before the network saw it: red, green, blue, then haematoxylin.

    `haematoxylin` is None where that was left as the channels have it.
    """

    channels: tuple[float, float, float]
    haematoxylin: float | None = None


@dataclass(frozen=True)
class Checks:
    """What was measured to tell whether a slide may be judged at all; None where it could not be measured.

    Shares of the sampled tissue: `unexplained_share` of what has colour has one that no haematoxylin and eosin
    gives, `colourless_share` of what is stained has none, `out_of_focus_share` is blurred. `nucleus_um` is the
    middle width of `nuclei` found, `black_share` of all tissue is dark without colour, `dark_share` of the sampled
    tiles, glass included, is too dark to tell a colour. `foreign_distance` is how far the slide's texture lies from
    the mean of the model's reference slides, in that model's units; above `foreign_limit` it is foreign.
    `reference_slides` of `reference_patients` (None: an older histo did not count them) set that limit; with few
    patients it is loose. `at_a_glance`: texture and limit are those of a few tiles, as in screen mode.
    """

    unexplained_share: float | None = None
    colourless_share: float | None = None
    out_of_focus_share: float | None = None
    nucleus_um: float | None = None
    nuclei: int = 0
    foreign_distance: float | None = None
    foreign_limit: float | None = None
    reference_slides: int | None = None
    reference_patients: int | None = None
    black_share: float | None = None
    dark_share: float | None = None
    at_a_glance: bool = False

    @property
    def limit_from(self) -> str:
        """What sets the limit of foreign tissue, in words."""
        found = counted(self.reference_slides or 0, "slide")
        found += f" of {counted(self.reference_patients, 'patient')}" if self.reference_patients else ""
        return f"a few tiles of {found}, as of this one" if self.at_a_glance else found

    @property
    def has_few_references(self) -> bool:
        """Whether foreign tissue is told by so few patients that hardly any is told."""
        count = self.reference_patients or self.reference_slides
        return count is not None and count < ENOUGH_REFERENCES


@dataclass(frozen=True)
class Verdict:
    """The slide's label, the probability per label, the labels that are not excluded, and what else is there.

    `level` is the certified least rate at which `not_excluded` holds the true label, or None. `exclusions_hold` is
    False where a check speaks against the slide: then no label is excluded.
    """

    label: str
    probability: Mapping[str, float]
    not_excluded: tuple[str, ...]
    also: tuple[str, ...] = ()
    level: float | None = None
    exclusions_hold: bool = True


@dataclass(frozen=True)
class Provenance:
    """What produced a result: versions by package, settings and their digest, the device, the engine and reader.

    Engines and readers are no settings: each is used only where it agrees with the reference.
    """

    versions: Mapping[str, str]
    settings: Mapping[str, str | float | int | None]
    settings_digest: str
    device: str
    engine: str = ""
    reader: str = ""


@dataclass(frozen=True)
class SlideResult:
    """Everything histo says of one slide. `path` is the slide's path: absolute in results of `histo infer`."""

    slide_id: str
    path: str
    sha256: str | None
    status: Status
    reasons: tuple[Reason, ...]
    model: ModelInfo
    provenance: Provenance
    pyramid: Pyramid | None = None
    verdict: Verdict | None = None
    areas: Areas | None = None
    burdens: tuple[ClassBurden, ...] = ()
    lesions: tuple[Lesion, ...] = ()
    checks: Checks | None = None
    stain_gains: StainGains | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    research_use: str = RESEARCH_USE
    schema: int = SCHEMA

    @property
    def is_unseen(self) -> bool:
        """Whether the network scored nothing of the slide, as screen mode may: its probabilities say nothing then."""
        return self.areas is not None and self.areas.scored_mm2 == 0


@dataclass(frozen=True, eq=False)
class SlideMap:
    """The stitched map of a slide on `grid`.

    `probability` (C, H, W) float16, calibrated, the normal class first, zero where nothing was scored;
    `tissue` (H, W) float32 fraction of the cell that is tissue, excluded parts included; `excluded` (H, W)
    float32 fraction under ink; `valid` (H, W) bool, tissue that was read and scored; `screened` (H, W) bool, passed
    over by the screen, None where there was none.
    """

    probability: NDArray[np.float16]
    tissue: NDArray[np.float32]
    excluded: NDArray[np.float32]
    valid: NDArray[np.bool_]
    grid: MapGrid
    screened: NDArray[np.bool_] | None = None

    @property
    def passed_over(self) -> NDArray[np.bool_]:
        """Cells (H, W) that the screen passed over; none in full mode."""
        return np.zeros(self.valid.shape, bool) if self.screened is None else self.screened & ~self.valid


@dataclass(frozen=True, eq=False)
class Overview:
    """A small picture of the scanned bounds: `rgb` (H, W, 3) uint8 on the lattice `grid`.

    `scanned` (H, W) bool tells which cells the scanner has wholly seen; None where it left nothing out.
    """

    rgb: NDArray[np.uint8]
    grid: MapGrid
    scanned: NDArray[np.bool_] | None = None


@dataclass(frozen=True, eq=False)
class EvidenceField:
    """A strong field at two magnifications: pictures (H, W, 3) uint8 and the µm that their sides show.

    `lesion_id` is None for the strongest field of a class that does not count; `why_not` says why, and `area_mm2` is
    that of its region, 0 where that is a speck. `probability` is the map's highest there, `own_probability` that of the
    region, as a lesion has it.
    """

    lesion_id: str | None
    why_not: WhyNot | None
    area_mm2: float
    class_name: str
    probability: float
    near_rgb: NDArray[np.uint8]
    far_rgb: NDArray[np.uint8]
    near_um: float
    far_um: float
    own_probability: float | None = None


@dataclass(frozen=True, eq=False)
class SlidePrediction:
    """A result with the arrays that its pictures are drawn from; None and empty for refused and failed slides."""

    result: SlideResult
    slide_map: SlideMap | None = None
    overview: Overview | None = None
    evidence: tuple[EvidenceField, ...] = ()


_ADAPTER: TypeAdapter[SlideResult] = TypeAdapter(SlideResult)


def to_json(result: SlideResult) -> str:
    """Return the result as JSON text; the same result always gives the same text."""
    text = json.dumps(_ADAPTER.dump_python(result, mode="json"), indent=1, allow_nan=False, ensure_ascii=False)
    # Names of files may hold bytes that are no text; JSON may not.
    return text.encode("utf-8", "replace").decode("utf-8") + "\n"


def load_result(path: str | os.PathLike[str]) -> SlideResult:
    """Read a `result.json`.

    Raises `UsageError` when the file is missing, not JSON, of another schema or not a result.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        result = _ADAPTER.validate_json(text)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give the path of a result.json") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a result of histo; run `histo infer` again to make it anew") from error
    if result.schema != SCHEMA:
        raise UsageError(f"{path} has schema {result.schema} and this version reads {SCHEMA}; run `histo infer` again")
    return result
