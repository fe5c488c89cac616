"""The sections of a training configuration that say how to learn; `histo.config.TrainConfig` holds them."""

from typing import Literal, Self

from pydantic import Field, JsonValue, model_validator

from histo.schema import Share, Strict

Pool = Literal["log_sum_exp", "mean", "top_k"]


class OptimiserConfig(Strict):
    """AdamW with a one-cycle schedule."""

    epochs: int = Field(8, ge=1)
    batch_size: int = Field(8, ge=1)
    learning_rate: float = Field(1e-3, gt=0)
    weight_decay: float = Field(1e-2, ge=0)
    gradient_clip: float = Field(1.0, gt=0)


class LossConfig(Strict):
    """What is minimised: `outline_weight` times the loss of map cells plus `slide_weight` times that of bags.

    `balance` weighs classes by the area that an epoch shows to the power of minus `balance`; `q` bends the generalised
    cross-entropy from the ordinary one (towards 0) to the mean absolute error (1).
    """

    kind: Literal["cross_entropy", "generalised_cross_entropy"] = "cross_entropy"
    q: float = Field(0.7, gt=0, le=1)
    label_smoothing: float = Field(0.0, ge=0, lt=0.5)
    balance: Share = 0.0
    outline_weight: float = Field(1.0, ge=0)
    slide_weight: float = Field(1.0, ge=0)

    @model_validator(mode="after")
    def _learns_something(self) -> Self:
        if self.outline_weight == self.slide_weight == 0:
            raise ValueError("outline_weight and slide_weight are both 0, so nothing would be learnt")
        return self


class WeakConfig(Strict):
    """How slides that have only a diagnosis are learnt from: bags of tiles whose pooled scores get the label.

    `strongest_share` of a bag's tiles are among the `strongest_tiles` of its slide, as the network scores them every
    `refresh_epochs` among those of before and `scored_tiles` others; the rest of the bag is drawn at random.
    """

    bag_tiles: int = Field(6, ge=1)
    bags_per_step: int = Field(1, ge=1)
    pool: Pool = "log_sum_exp"
    sharpness: float = Field(1.0, gt=0)
    top_k: int = Field(20, ge=1)
    refresh_epochs: int = Field(1, ge=1)
    strongest_share: Share = 0.5
    strongest_tiles: int = Field(8, ge=1)
    scored_tiles: int = Field(96, ge=1)


class MiningConfig(Strict):
    """Every `every_epochs` (0: never) what the network gets wrong is looked up: false positives and missed lesions.

    On each slide `scored_tiles` of either kind are scored and the worst `tiles_per_slide` kept; `share` of all tiles
    are then drawn around them.
    """

    every_epochs: int = Field(0, ge=0)
    share: Share = 0.3
    tiles_per_slide: int = Field(4, ge=1)
    scored_tiles: int = Field(24, ge=1)


class StopConfig(Strict):
    """What chooses the best epoch, and after how many epochs without progress training ends (0: never).

    Up to `tiles_per_slide` of a validation slide are looked at, up to `unoutlined_tiles_per_slide` where only its
    diagnosis says whether a lesion is there.
    """

    monitor: Literal["patient_loss", "validation_loss"] = "patient_loss"
    patience: int = Field(0, ge=0)
    tiles_per_slide: int = Field(48, ge=1)
    unoutlined_tiles_per_slide: int = Field(512, ge=1)


class AveragingConfig(Strict):
    """What is kept of the weights.

    `ema`: decay of their moving average, 0 for none; `start_share`: share of the model that training started from;
    `batchnorm_steps`: steps that measure BatchNorm anew.
    """

    ema: float = Field(0.0, ge=0, lt=1)
    start_share: float = Field(0.0, ge=0, lt=1)
    batchnorm_steps: int = Field(0, ge=0)


class CrossValidationConfig(Strict):
    """`folds`: how many times the training is repeated so that every slide is held out once; 0 for none.

    With `by: site` each site of the manifest is held out once instead, and there are as many folds as sites.
    """

    folds: int = Field(0, ge=0)
    by: Literal["patient", "site"] = "patient"

    @property
    def is_wanted(self) -> bool:
        """Whether there are any folds."""
        return self.folds > 0 or self.by == "site"

    @model_validator(mode="after")
    def _is_no_single_fold(self) -> Self:
        if self.folds == 1:
            raise ValueError("folds must be 0 (none) or at least 2")
        if self.by == "site" and self.folds:
            raise ValueError("with by: site there are as many folds as sites; set folds to 0")
        return self


class ScreenConfig(Strict):
    """The screen of `histo infer --mode screen`: a small network at a coarse scale, trained after the main one.

    It learns for `steps` of `batch_size` tiles whether a cell of `stride_px` holds any lesion; such cells weigh
    `lesion_weight` times the others. Its threshold is the highest that misses at most `most_missed` of the outlined
    lesion area of the validation slides, each seen in `stains` other stains too, and no deposit of 200 µm or more on
    the slides as they are.
    """

    enabled: bool = False
    mpp: float = Field(4.0, ge=1, le=5)
    stride_px: int = Field(8, ge=4)
    steps: int = Field(1200, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)
    lesion_weight: float = Field(4.0, gt=0)
    most_missed: Share = 0.005
    stains: int = Field(3, ge=0)


class AddOn(Strict):
    """A Lightning callback or logger by its dotted path, such as `pytorch_lightning.callbacks.LearningRateMonitor`."""

    path: str = Field(alias="class", pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$")
    args: dict[str, JsonValue] = Field(default_factory=dict)
