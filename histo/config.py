"""The typed form of configs/*.yaml and of what a model card shares with them; unknown keys are errors."""

import re
from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from histo.errors import UsageError
from histo.geometry import TileSpec
from histo.precedence import label_of, labels_of
from histo.schema import Share, Strict, explain, on_one_line
from histo.training_options import (
    AddOn,
    AveragingConfig,
    CrossValidationConfig,
    LossConfig,
    MiningConfig,
    OptimiserConfig,
    ScreenConfig,
    StopConfig,
    WeakConfig,
)

Channel = Annotated[int, Field(ge=0, le=255)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Spread = Annotated[float, Field(gt=0, le=1)]
Density = Annotated[float, Field(gt=0, le=4)]  # beyond it 8 bits show black


class ClassConfig(Strict):
    """A lesion class: how it is named and drawn, its smallest area and the verdict it leads to."""

    name: Name
    colour: tuple[Channel, Channel, Channel]
    min_area_mm2: float = Field(gt=0)
    verdict: Name


class ClassesConfig(Strict):
    """What the network tells apart: the tissue that is no lesion, and the lesions in order of precedence."""

    normal: Name = "normal"
    normal_label: Name = "normal"
    lesions: tuple[ClassConfig, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        names = self.names
        if len(set(names)) < len(names):
            raise ValueError(f"class names must be unique, got {', '.join(names)}")
        if self.normal_label in {c.verdict for c in self.lesions}:
            raise ValueError(f"normal_label {self.normal_label} is the verdict of a lesion; they must differ")
        if "ignore" in names:
            raise ValueError("no class may be called ignore, which is QuPath's word for what is not to be learnt")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of the network's outputs, the normal one first."""
        return (self.normal, *(c.name for c in self.lesions))

    @property
    def labels(self) -> tuple[str, ...]:
        """All slide labels, the normal one first."""
        return labels_of(self.lesions, self.normal_label)

    def label_of(self, found: Container[str]) -> str:
        """Return the slide label for the lesion classes found: the first in order of precedence decides."""
        return label_of(found, self.lesions, self.normal_label)


class TileConfig(Strict):
    """The tiles that the network sees, see `histo.geometry.TileSpec`.

    `tissue_od` is the median optical density (natural logarithm; red, green, blue) to which every slide's tissue is
    brought before the network sees it, see `histo.data.stain_norm`; without it pixels stay as they are. `nuclear_od` is
    how much, in red light, nuclei stand out then; without it they stay as the median of the tissue leaves them.
    """

    size_px: int = Field(512, ge=64, le=2048)
    mpp: float = Field(1.0, ge=0.1, le=5)
    stride_px: int = Field(16, ge=2)
    margin_px: int = Field(32, ge=0)
    tissue_od: tuple[Density, Density, Density] | None = None
    nuclear_od: Density | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        self.spec()
        if self.nuclear_od is not None and self.tissue_od is None:
            raise ValueError("nuclear_od needs tissue_od, at which nuclei are measured; give both, or null for both")
        return self

    def spec(self) -> TileSpec:
        """Return the geometry record."""
        return TileSpec(self.size_px, self.mpp, self.stride_px, self.margin_px)


class RuleConfig(Strict):
    """Thresholds of the step from slide map to verdict, on calibrated probability."""

    seed: float = Field(0.8, gt=0.5, lt=1)
    grow: float = Field(0.5, gt=0, lt=1)
    certain: float = Field(0.8, gt=0.5, lt=1)
    borderline: float = Field(1.5, ge=1)
    max_unreadable_share: float = Field(0.05, gt=0, lt=1)
    max_excluded_share: float = Field(0.10, gt=0, lt=1)
    least_tissue_mm2: float = Field(0.1, ge=0)
    enough_tissue_mm2: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _grows_from_its_seed(self) -> Self:
        if self.grow > self.seed:
            raise ValueError(f"grow ({self.grow:g}) must not be above seed ({self.seed:g})")
        return self


NAMED_STARTS = ("random", "imagenet", "shipped")


class BackboneConfig(Strict):
    """The backbone and the normalisation of its input, per channel of RGB in 0 to 1."""

    backbone: str = "resnet18"
    mean: tuple[Share, Share, Share] = (0.80, 0.65, 0.77)
    std: tuple[Spread, Spread, Spread] = (0.18, 0.24, 0.18)


class NetworkConfig(BackboneConfig):
    """The network of a model's card; `pretrained` tells that its training started from ImageNet."""

    pretrained: bool = False


class DataConfig(Strict):
    """Where the labelled slides are and how tiles are drawn from them.

    `tile_px` is the side of a training tile, that of `tile.size_px` if not given: smaller ones give more steps for the
    same time.
    `aliases` says which class, or `ignore`, is meant by other words of annotation files, capitals aside.
    """

    manifest: Path
    aliases: dict[str, str] = Field(default_factory=dict)
    unannotated: Literal["normal", "ignore"] = "normal"
    validation_share: float = Field(0.2, gt=0, lt=1)
    tile_px: int | None = Field(None, ge=64, le=2048)
    tiles_per_epoch: int = Field(800, ge=1)
    lesion_share: float = Field(0.5, ge=0, le=1)
    loaders: int = Field(1, ge=0)
    cache_gb: float = Field(4.0, ge=0)


class AugmentConfig(Strict):
    """Strengths of augmentation; 0 switches one off."""

    stain: float = Field(0.25, ge=0, le=1)
    grain: float = Field(0.15, ge=0, le=1)
    rescan: float = Field(0.2, ge=0, le=1)
    grey: float = Field(0.1, ge=0, le=1)
    light: float = Field(0.10, ge=0, le=1)
    scale: float = Field(0.15, ge=0, le=0.5)
    blur: float = Field(0.3, ge=0, le=1)
    noise: float = Field(0.3, ge=0, le=1)
    jpeg: float = Field(0.3, ge=0, le=1)


class TrainNetworkConfig(BackboneConfig):
    """The network and how its training starts.

    `start` is `random`, `imagenet`, `shipped`, or the folder of a model bundle; `freeze` keeps nothing, all of the
    trunk or all but its last block (`early`) as it starts.
    """

    start: str = Field("random", min_length=1)
    freeze: Literal["nothing", "early", "trunk"] = "nothing"

    @model_validator(mode="after")
    def _keeps_what_is_worth_it(self) -> Self:
        if self.freeze != "nothing" and self.start == "random":
            raise ValueError(
                f"freeze: {self.freeze} would keep random weights; set freeze to nothing, or start to shipped, "
                "imagenet or a bundle"
            )
        return self

    @property
    def from_imagenet(self) -> bool:
        """Whether torchvision's or timm's weights are wanted."""
        return self.start == "imagenet"

    def for_card(self) -> dict[str, Any]:
        """Return the part that a model card holds."""
        return self.model_dump(include=set(BackboneConfig.model_fields)) | {"pretrained": self.from_imagenet}


class TrainConfig(Strict):
    """One training run. `name` names the run's folder and the model."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, lt=2**32)
    intended_use: str
    classes: ClassesConfig
    data: DataConfig
    tile: TileConfig = TileConfig()
    network: TrainNetworkConfig = TrainNetworkConfig()
    augment: AugmentConfig = AugmentConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    loss: LossConfig = LossConfig()
    weak: WeakConfig = WeakConfig()
    mining: MiningConfig = MiningConfig()
    stop: StopConfig = StopConfig()
    averaging: AveragingConfig = AveragingConfig()
    cross_validation: CrossValidationConfig = CrossValidationConfig()
    screen: ScreenConfig = ScreenConfig()
    trainer: dict[str, JsonValue] = Field(default_factory=dict)
    callbacks: tuple[AddOn, ...] = ()
    loggers: tuple[AddOn, ...] = ()
    rule: RuleConfig = RuleConfig()

    @model_validator(mode="after")
    def _training_tiles_fit(self) -> Self:
        self.learning_spec()
        if self.data.tiles_per_epoch < self.optimiser.batch_size:
            raise ValueError("data.tiles_per_epoch must be at least optimiser.batch_size")
        return self

    @model_validator(mode="after")
    def _screen_is_coarser(self) -> Self:
        """A cell of the network asks the screen's cell under its middle, and would pass over others."""
        fine, coarse = self.tile.mpp * self.tile.stride_px, self.screen.mpp * self.screen.stride_px
        if self.screen.enabled and coarse < fine:
            raise ValueError(
                f"the screen's cells (screen.mpp times screen.stride_px, {coarse:g} µm) must not be smaller than the "
                f"network's (tile.mpp times tile.stride_px, {fine:g} µm)"
            )
        return self

    def learning_spec(self) -> TileSpec:
        """Return the geometry of training tiles: that of inference, with a side of their own where one is given."""
        spec = self.tile.spec()
        try:
            return replace(spec, size_px=self.data.tile_px or spec.size_px)
        except ValueError as error:
            raise ValueError(f"data.tile_px: {error}") from error


def load_config(path: Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read a training configuration and apply `key.sub=value` overrides.

    Relative paths in it count from its own folder. Raises `UsageError` naming the file and the key.
    """
    tree = read_keys(path, "configs/phantom.yaml")
    for override in overrides:
        _set(tree, override)
    try:
        config = TrainConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(f"{path}: {'; '.join(explain(error, TrainConfig, overrides))}") from error
    folder = path.parent.resolve()
    data = config.data.model_copy(update={"manifest": folder / config.data.manifest})
    network = config.network
    if network.start not in NAMED_STARTS:
        network = network.model_copy(update={"start": str(folder / network.start)})
    return config.model_copy(update={"data": data, "network": network})


def read_keys(path: Path, example: str) -> dict[str, Any]:
    """Read a YAML file of `key: value` lines; `example` is the file that shows all keys.

    Raises `UsageError` for a file that is not there or no YAML, or that has a key twice.
    """
    try:
        tree = parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}); give the path of a configuration") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"{path} is not YAML: {on_one_line(str(error))}") from error
    if not isinstance(tree, dict):
        raise UsageError(f"{path} must hold `key: value` lines; see {example} for all keys")
    return tree


def _set(tree: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    *parents, last = dotted.split(".")
    if not equals or not last:
        raise UsageError(f"--set {override!r} must look like key.sub=value")
    node = tree
    for key in parents:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise UsageError(f"--set {override!r}: {key!r} holds a value, not keys")
    try:
        node[last] = parse_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise UsageError(f"--set {override!r} holds no YAML value: {' '.join(str(error).split())}") from error


class _Loader(yaml.SafeLoader):
    """PyYAML's, but 1e-3 is a number, as in YAML 1.2, and no key stands twice in a section."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.YAMLError(f"the key {key!r} stands twice in one section")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: a text that looks like 1e-3 is quoted."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
    )


def as_yaml(tree: Any) -> str:
    """Return keys and values as YAML that `read_keys` reads back as they are."""
    return str(yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


def parse_yaml(text: str) -> Any:
    """Read YAML. Raises `yaml.YAMLError` or `ValueError`."""
    return yaml.load(text, Loader=_Loader)
