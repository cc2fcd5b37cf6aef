"""Recipe of one training: frozen, typed and hashable. Standard library only.

`orchestrator.sweep.schema` validates these classes with pydantic: it reads `__pydantic_config__`
(be strict) and `ConfigError.field` (the wrong key).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from trainers.canonical import MOST, STRICT, require
from trainers.classifier import Classifier
from trainers.detector import Detector

Optimiser = Literal["sgd", "caffe_sgd", "adam", "adamw"]
"""Rule that updates the weights.

- `sgd`: `torch.optim.SGD`. A drop of the rate scales the velocity down at once.
- `caffe_sgd`: Caffe's SGD (`optim.CaffeSGD`). The rate is inside the velocity; biases learn at
  twice the rate and do not decay.
- `adam`: `torch.optim.Adam` with its default betas. The decay is part of the gradient.
- `adamw`: `torch.optim.AdamW` with its default betas. The decay is apart from the gradient.
"""

Init = Literal["he", "torch", "network"]
"""Distribution of first weights.

- `he`: normal with variance 2 / fan-in (He et al. 2015), in the last layer 1 / fan-in; biases 0.
- `torch`: each module's own `reset_parameters`.
- `network`: each numbered layer's own `fill_parameters`, as in CaffeNet and torchvision's networks.
  Layers of a user's network without this function keep the weights that they are built with.
"""

Family = Literal["constant", "step", "multi_step", "cosine", "linear", "one_cycle"]
"""Shape of the learning rate over a training, after the warm-up.

- `constant`: the rate itself.
- `step`: multiplied by `gamma` after every `every` steps.
- `multi_step`: multiplied by `gamma` at each of `milestones`.
- `cosine`: down to `floor` along half a cosine, and again after each of `restarts`
  (Loshchilov and Hutter 2017).
- `linear`: down to `floor` in a straight line.
- `one_cycle`: up from 1/25 of the rate in the first 30 %, then down to 0 (Smith and Topin 2018).
"""

Loss = Literal["cross_entropy", "squared_error"]
"""Loss of one image; `trainers.losses` has the formulas.

- `cross_entropy`: negative logarithm of the true class's probability, in nats.
- `squared_error`: squared differences of the scores from one-hot targets, summed over classes.
"""

Metric = Literal["val_top1", "val_loss"]
"""Validation score that early stopping watches.

- `val_top1`: top-1 accuracy, the higher the better; of a detector, mAP at an overlap of 0.5.
- `val_loss`: loss, the lower the better.
"""

Learning = Literal["fresh", "all"]
"""Layers that learn in a stage.

- `fresh`: those that are not copied.
- `all`: every layer.
"""

Precision = Literal["float32", "tf32", "bfloat16", "float64"]
"""Arithmetic of a training.

- `float32`: single precision, exact on a GPU too.
- `tf32`: single precision whose factors a GPU's tensor cores round to 10 bits: faster.
- `bfloat16`: torch's autocast; weights stay `float32`.
- `float64`: double precision.
"""

Stitch = Literal["random", "least_squares"]
"""First weights of the map of a stitched network (`trainers.stitching`).

- `random`: those of a new last layer.
- `least_squares`: the map onto the outputs of the base's own layer n with the least squared error.
"""

Normalise = Literal["target", "source", "whole"]
"""Training images whose statistics normalise all images.

- `target`: those of the target.
- `source`: those of the source; a base is its own source.
- `whole`: those of the whole dataset.
"""

Pixels = Literal["standard", "mean_image"]
"""Rule that normalises pixels.

- `standard`: subtract each channel's mean, and divide by its standard deviation.
- `mean_image`: subtract the mean image, and divide by nothing, as the paper does.
"""

MOST_RESTARTS = 100

MOST_GROWTH = 10


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Learning rate over a training, as a factor of the recipe's rate (`schedules.factor`)."""

    __pydantic_config__: ClassVar = STRICT
    family: Family = "constant"
    """Shape after the warm-up."""
    warmup: float = 0.0
    """Fraction of the training over which the rate rises linearly; 0 by default."""
    gamma: float = 0.1
    """Factor of each drop of `step` and `multi_step`; 0.1 by default."""
    every: int | None = None
    """Steps between two drops of `step`, as Caffe's `stepsize`."""
    milestones: tuple[float, ...] = ()
    """Rising fractions of the training at which `multi_step` drops."""
    floor: float = 0.0
    """Smallest factor of `cosine` and `linear`; 0 by default."""
    count_from: int = 0
    """Number of the first step of `step`; 0 by default. Caffe counts from 1, and so drops one step
    earlier."""
    restarts: int = 0
    """Times that `cosine` starts again; 0 by default."""
    growth: float = 1.0
    """Factor of the length of each cycle of `cosine` over the cycle before; 1 by default."""

    def __post_init__(self) -> None:
        require(0 <= self.warmup < 1, "warmup", "expected a fraction of the training, 0 ≤ x < 1")
        require(0 < self.gamma <= 1, "gamma", "expected a factor, 0 < x ≤ 1")
        require(0 <= self.floor <= 1, "floor", "expected a factor, 0 ≤ x ≤ 1")
        require(
            (self.every is not None) == (self.family == "step"),
            "every",
            "expected a number of steps, with family 'step' and no other",
        )
        require(self.every is None or self.every > 0, "every", "expected a number of steps, x > 0")
        require(
            self.count_from == 0 or (self.count_from == 1 and self.family == "step"),
            "count_from",
            "expected 0, or 1 with family 'step'",
        )
        require(
            bool(self.milestones) == (self.family == "multi_step"),
            "milestones",
            "expected a list of fractions, with family 'multi_step' and no other",
        )
        require(
            all(0 < m < 1 for m in self.milestones)
            and list(self.milestones) == sorted(set(self.milestones)),
            "milestones",
            "expected rising fractions of the training, each 0 < x < 1",
        )
        require(
            0 <= self.restarts <= MOST_RESTARTS and (not self.restarts or self.family == "cosine"),
            "restarts",
            f"expected a number of restarts, 0 ≤ x ≤ {MOST_RESTARTS}, with family 'cosine' only",
        )
        require(
            1 <= self.growth <= MOST_GROWTH and (self.growth == 1 or self.restarts > 0),
            "growth",
            f"expected a factor, 1 ≤ x ≤ {MOST_GROWTH}, with restarts only",
        )


def layer_names(items: Iterable[int | str]) -> tuple[str, ...]:
    """Return sorted names of layers or parts of them, where `3` stands for `layer3`.

    Raises `ValueError` for anything but numbers of layers and names such as `layer3.conv`.
    """
    names = sorted(f"layer{x}" if str(x).isdigit() else str(x) for x in items)
    for name in names:
        if not re.fullmatch(r"layer[1-9]\d*(\.\w+)*", name):
            raise ValueError(
                f"expected numbers of layers or names such as layer3.conv, found {name!r}"
            )
    return tuple(names)


def layer_number(name: str) -> int:
    """Return the number of the layer that a part belongs to: 3 for `layer3.conv.weight`."""
    return int(name.partition(".")[0].removeprefix("layer"))


def covered(name: str, declared: Iterable[str]) -> bool:
    """Return whether a name is declared, itself or a part that it belongs to (`layer3.conv`)."""
    return any(name == other or name.startswith(f"{other}.") for other in declared)


@dataclass(frozen=True, kw_only=True)
class Stop:
    """Early stopping: the training ends when its validation score no longer improves.

    The weights of the best evaluation are kept. The recipe's length is the longest one.
    """

    __pydantic_config__: ClassVar = STRICT
    patience: int
    """Evaluations without an improvement after which the training ends."""
    metric: Metric = "val_top1"
    """Score that must improve; `val_top1` by default."""

    def __post_init__(self) -> None:
        require(1 <= self.patience <= MOST, "patience", "expected evaluations, 1 ≤ x ≤ 10⁹")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A part of a fine-tuning with layers, a rate and images of its own."""

    __pydantic_config__: ClassVar = STRICT
    fraction: float
    """Fraction of the steps; those of all stages add up to 1."""
    learn: Learning | tuple[int | str, ...] = "all"
    """Layers that learn: `fresh`, `all`, or a list of copied layers or modules, which learn beside
    the fresh ones: `[7, layer6.conv]`. `all` by default."""
    rate: float = 1.0
    """Factor of the learning rate; 1 by default."""
    images_per_class: int | None = None
    """Training images per class that the stage sees, the first ones; all by default."""

    def __post_init__(self) -> None:
        require(0 < self.fraction <= 1, "fraction", "expected a fraction of the steps, 0 < x ≤ 1")
        require(0 < self.rate <= MOST, "rate", "expected a factor, x > 0")
        images = self.images_per_class
        require(images is None or 1 <= images <= MOST, "images_per_class", "expected images, x ≥ 1")
        _settle_names(self, "learn")


def _settle_names(config: Recipe | Stage, field: str) -> None:
    """Replace numbers of layers in a field by names, so that equal settings have equal ids."""
    value = getattr(config, field)
    if isinstance(value, tuple):
        try:
            object.__setattr__(config, field, layer_names(value))
        except ValueError as error:
            require(False, field, str(error))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that a network is trained with. Losses are means over a batch.

    `copied_rate`, `layer_decay`, `l2_sp` and `feature_l2` apply where copied layers learn;
    `fresh_first` and `stages` to fine-tuned trials; `freeze` and `learn` to frozen ones;
    `classifier` to frozen ones and to `pixels`.
    """

    __pydantic_config__: ClassVar = STRICT
    optimiser: Optimiser = "sgd"
    """Rule that updates the weights; `sgd` by default."""
    rate: float = 0.01
    """Learning rate per step, which the schedule multiplies; 0.01 by default."""
    schedule: Schedule = Schedule()
    """Factor of the rate over the training; constant by default."""
    momentum: float = 0.9
    """Momentum of `sgd` and `caffe_sgd`; 0.9 by default."""
    weight_decay: float = 0.0
    """Factor of the weights in the update; 0 by default."""
    batch: int = 32
    """Images per step; 32 by default."""
    steps: int | None = None
    """Length of the training in steps. Give `steps` or `epochs`."""
    epochs: float | None = None
    """Length of the training in passes over the training images. Planning turns it into steps."""
    least_steps: int | None = None
    """Fewest steps of a training whose length is in epochs, so that a task of few images has time
    to learn; 1 by default. It changes no `steps`."""
    evaluate_every: int | None = None
    """Steps between two evaluations; a tenth of the training by default."""
    dropout: float | None = None
    """Probability of all dropout modules; the network's own by default."""
    init: Init = "he"
    """First weights. `he` by default; a sweep of a user's own network has `network` by default."""
    precision: Precision = "float32"
    """Arithmetic; `float32` by default."""
    normalise: Normalise = "target"
    """Images whose statistics normalise all images; the target's by default."""
    init_random: Init | None = None
    """First weights of random filters (treatment `random`); as `init` by default."""
    stitch: Stitch = "random"
    """First weights of the map of a stitched network; `random` by default."""
    crop: int | None = None
    """Side of a square in pixels: at a random place in training, in the middle elsewhere. The whole
    image by default."""
    mirror: bool = False
    """Mirror training images at random; false by default."""
    pixels: Pixels = "standard"
    """Rule that normalises pixels; `standard` by default."""
    frozen_statistics: bool = True
    """Freeze the statistics of normalisation in frozen layers; true by default."""
    frozen_affine: bool = True
    """Freeze the weights and biases of normalisation in frozen layers; true by default."""
    copied_rate: float = 1.0
    """Factor of the rate in the highest copied layer; 1 by default."""
    layer_decay: float = 1.0
    """Factor of the rate from each copied layer to the layer below it; 1 by default."""
    fresh_first: float = 0.0
    """First fraction of the steps in which copied layers are frozen; 0 by default. A short form of
    two `stages`."""
    stages: tuple[Stage, ...] = ()
    """Parts of a fine-tuning, in order: which layers learn, at which rate, from which images. By
    default one part, in which all layers learn."""
    freeze: int | None = None
    """Number of first layers that are frozen, of the n that are copied or random; all n by default.
    Layers above them learn."""
    learn: tuple[int | str, ...] = ()
    """Layers or modules that learn although they are among the frozen ones: `[3, layer4.conv]`.
    None by default."""
    loss: Loss = "cross_entropy"
    """Loss of one image; `cross_entropy` by default."""
    label_smoothing: float = 0.0
    """Share of a target that is spread over all classes in training; 0 by default."""
    l2_sp: float = 0.0
    """Weight of the penalty ½‖w − w₀‖² on copied weights w that learn; w₀ are the source's. It
    takes the place of their weight decay (Li et al. 2018); 0 by default."""
    feature_l2: float = 0.0
    """Weight of the penalty on the outputs of layer n, the mean of their squares; 0 by default."""
    stop: Stop | None = None
    """Early stopping by the validation score; none by default."""
    classifier: Classifier | None = None
    """Classifier that is fitted to the outputs of frozen layers, in place of the layers above them,
    or to the pixels (treatment `pixels`); none by default."""
    detector: Detector | None = None
    """Detector of a task whose images have objects in boxes, in place of the layers above its
    backbone; `fcos` on all layers of maps by default. Other tasks have none."""

    def __post_init__(self) -> None:
        finite = "expected a finite number"
        for field in ("rate", "momentum", "weight_decay"):
            require(math.isfinite(getattr(self, field)), field, finite)
        require(self.rate > 0, "rate", "expected a learning rate, x > 0")
        require(0 <= self.momentum < 1, "momentum", "expected 0 ≤ x < 1")
        require(self.weight_decay >= 0, "weight_decay", "expected x ≥ 0")
        require(1 <= self.batch <= MOST, "batch", "expected a number of images, 1 ≤ x ≤ 10⁹")
        for field in ("steps", "epochs", "least_steps", "evaluate_every"):
            value = getattr(self, field)
            require(value is None or 0 < value <= MOST, field, "expected 0 < x ≤ 10⁹")
        require(self.dropout is None or 0 <= self.dropout < 1, "dropout", "expected 0 ≤ x < 1")
        expected = "expected the side of a square in pixels, x > 0"
        require(self.crop is None or 0 < self.crop <= MOST, "crop", expected)
        require(0 < self.copied_rate <= MOST, "copied_rate", "expected a factor, x > 0")
        require(0 < self.layer_decay <= 1, "layer_decay", "expected a factor, 0 < x ≤ 1")
        require(
            0 <= self.fresh_first < 1, "fresh_first", "expected a fraction of the steps, 0 ≤ x < 1"
        )
        fractions = math.fsum(stage.fraction for stage in self.stages)
        expected = f"expected fractions that add up to 1, found {fractions:g}"
        require(not self.stages or math.isclose(fractions, 1, rel_tol=1e-6), "stages", expected)
        short = "expected stages or fresh_first, found both"
        require(not (self.stages and self.fresh_first), "stages", short)
        expected = "expected a number of layers, x ≥ 1"
        require(self.freeze is None or 1 <= self.freeze <= MOST, "freeze", expected)
        require(0 <= self.label_smoothing < 1, "label_smoothing", "expected a share, 0 ≤ x < 1")
        for field in ("l2_sp", "feature_l2"):
            require(0 <= getattr(self, field) <= MOST, field, "expected a weight, x ≥ 0")
        _settle_names(self, "learn")
        contradicts = self.classifier is not None and (self.freeze or self.learn)
        expected = "it is fitted to n frozen layers: leave out freeze and learn"
        require(not contradicts, "classifier", expected)

    @property
    def all_stages(self) -> tuple[Stage, ...]:
        """The stages of a fine-tuning, `fresh_first` included."""
        if self.fresh_first:
            first = Stage(fraction=self.fresh_first, learn="fresh")
            return first, Stage(fraction=1 - self.fresh_first)
        return self.stages or (Stage(fraction=1.0),)
