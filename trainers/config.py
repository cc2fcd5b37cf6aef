"""Configuration of one training: frozen, typed, hashable, with a canonical JSON and its digest.

Standard library only. `orchestrator.sweep.schema` validates these classes with pydantic: it reads
`__pydantic_config__` (be strict) and `ConfigError.field` (the wrong key).
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

TORCHVISION = "torchvision:"
"""Prefix of the names of torchvision's networks."""

Options = tuple[tuple[str, Any], ...]
"""Options of a dataset or a network: pairs of name and value, sorted by name."""

Kind = Literal["base", "base_long", "selffer", "transfer", "random"]
"""Origin of a network's first n layers (paper, section 3).

- `base`: no layer is copied; all start fresh and learn the target.
- `base_long`: a base that is trained for the steps of a base and of a fine-tuned network together.
- `selffer`: layers 1..n come from a base of the same target (the paper's BnB).
- `transfer`: layers 1..n come from a base of another task (the paper's AnB).
- `random`: layers 1..n are random filters.
"""

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

Precision = Literal["float32", "tf32", "bfloat16", "float64"]
"""Arithmetic of a training.

- `float32`: single precision, exact on a GPU too.
- `tf32`: single precision whose factors a GPU's tensor cores round to 10 bits: faster.
- `bfloat16`: torch's autocast; weights stay `float32`.
- `float64`: double precision.
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

Fit = Literal["squash", "cover", "crop", "pad"]
"""Way to bring images to one size.

- `squash`: scale both sides, so that the aspect ratio may change.
- `cover`: scale the shorter side to the size, and keep the centre.
- `crop`: keep the centre, without scaling; images must be at least as large as the size.
- `pad`: add black borders, without scaling; images must be at most as large as the size.
"""

STRICT = {"extra": "forbid", "strict": True}
ID_LENGTH = 16  # hexadecimal digits
MOST_RESTARTS = 100
MOST_GROWTH = 10
MOST = 10**9  # steps, epochs or images: a larger number is a typing error


class ConfigError(ValueError):
    """A wrong field of a configuration. `field` names it; the message says what was expected."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


def is_own(name: str) -> bool:
    """Return whether the name of a dataset or a network is a user's function."""
    return ":" in name and not name.startswith(TORCHVISION)


def require(condition: bool, field: str, message: str) -> None:
    """Raise `ConfigError` for `field` unless `condition` holds."""
    if not condition:
        raise ConfigError(field, message)


def freeze_options(options: Mapping[str, Any]) -> Options:
    """Return a mapping as sorted pairs, lists as tuples, so that configurations can be hashed.

    Raises `ConfigError` for a mapping within the mapping.
    """

    def frozen(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ConfigError(key, "expected numbers, strings, booleans or lists of them")
        if isinstance(value, list | tuple):
            return tuple(frozen(key, item) for item in value)
        return value

    return tuple(sorted((key, frozen(key, value)) for key, value in options.items()))


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """A dataset and its content."""

    name: str
    """Name of a known dataset, or `package.module:function`."""
    options: Options = ()
    """Options of the dataset; those at their default are left out."""
    fingerprint: str = ""
    """Hash of the dataset's content."""


@dataclass(frozen=True, kw_only=True)
class NetworkRef:
    """A network before its first weights."""

    name: str
    """Name of a known network, `torchvision:NAME`, or `package.module:function`."""
    options: Options = ()
    """Options of the network; those at their default are left out."""
    fingerprint: str = ""
    """Hash of the source of a user's own network; empty for all others."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Facts about a dataset that planning needs."""

    classes: tuple[str, ...]
    """Names of the classes, by index."""
    shape: tuple[int, int, int]
    """Shape (C, H, W) of an image."""
    train: tuple[int, ...]
    """Training images per class."""
    validation: tuple[int, ...]
    """Validation images per class."""
    test: tuple[int, ...]
    """Test images per class."""
    fingerprint: str
    """Hash of the dataset's content."""
    notes: tuple[str, ...] = ()
    """Sentences on the data that a user should read."""


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """Facts about a network that planning needs; tuples have one entry per numbered layer."""

    macs: tuple[int, ...]
    """Multiply-adds of one image, forward."""
    parameters: tuple[int, ...]
    """Numbers that can learn."""
    shapes: tuple[tuple[int, ...], ...]
    """Shape of the layer's output for one image."""
    state_bytes: int
    """Size of all parameters and buffers, in bytes."""

    @property
    def depth(self) -> int:
        """Number of numbered layers."""
        return len(self.macs)


def training_macs(macs: Sequence[int], frozen: int) -> int:
    """Return the multiply-adds of one training image; `macs` are each layer's, forward.

    A layer that learns costs a second pass for the gradient of its weights and a third for the
    gradient of its input. The first layer that learns needs no third: nothing below it learns.
    """
    learning = macs[frozen:]
    return sum(macs) + sum(learning) + sum(learning[1:])


@dataclass(frozen=True, kw_only=True)
class TaskForm:
    """The form in which networks see the images of a task (`trainers.forms`)."""

    __pydantic_config__: ClassVar = STRICT
    size: int | None = None
    """Height and width in pixels; that of the stored images by default."""
    fit: Fit = "squash"
    """Way to this size; `squash` by default."""
    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; those of the stored images by default."""
    grey_to_colour: Literal["repeat"] | None = None
    """Rule for grey images and `channels: 3`: `repeat` the grey channel three times."""
    colour_to_grey: Literal["luma", "mean"] | None = None
    """Rule for colour images and `channels: 1`: `luma` (0.299 R + 0.587 G + 0.114 B, ITU-R BT.601)
    or the `mean` of the channels."""
    mean: tuple[float, ...] = ()
    """Subtracted from each channel, on the scale of `range`. Default: the recipe's `normalise`."""
    deviation: tuple[float, ...] = ()
    """Divisor of each channel, on the scale of `range`; given with `mean`."""
    range: tuple[float, float] = (0.0, 1.0)
    """Values of a black and of a white pixel before `mean` is subtracted; 0 and 1 by default.
    Images that are stored as floats keep their own scale."""

    def __post_init__(self) -> None:
        require(
            self.size is None or 1 <= self.size <= 4096, "size", "expected pixels, 1 ≤ x ≤ 4096"
        )
        require(self.fit == "squash" or self.size is not None, "fit", "give the size too")
        require(len(self.deviation) == len(self.mean), "deviation", "expected one per mean")
        numbers = (*self.mean, *self.deviation, *self.range)
        require(all(map(math.isfinite, numbers)), "mean", "expected finite numbers")
        require(all(x > 0 for x in self.deviation), "deviation", "expected numbers, x > 0")
        require(
            len(self.range) == 2 and self.range[0] < self.range[1], "range", "expected [low, high]"
        )
        default = self.range == (0.0, 1.0)
        require(default or bool(self.mean), "range", "needs mean and deviation on its scale")


@dataclass(frozen=True, kw_only=True)
class Task:
    """Classes of a dataset to tell apart; a source or a target.

    A task of one class is that class (label 1) against the `rest` (label 0). `tasks.members` gives
    the images.
    """

    dataset: DatasetRef
    """Dataset that the images come from."""
    classes: tuple[int, ...]
    """Class indices in order: label i is `classes[i]`."""
    images_per_class: int | None = None
    """Training images per class, the first ones; all by default."""
    rest: tuple[int, ...] = ()
    """Class indices behind label 0 of a task of one class; none by default."""
    reserved: int = 0
    """Last training images per class that serve as negatives of a task of one class.

    The task that learns their classes leaves them out, so that no source has seen a negative.
    """
    images: int | None = None
    """Training images in all, instead of `images_per_class`; all by default."""
    balanced: bool = True
    """True if `images` are shared out equally; else classes keep their shares of the dataset."""
    draw: int | None = None
    """Seed that draws the training images at random; the first ones by default."""
    form: TaskForm = TaskForm()
    """Form in which networks see the images; as they are stored by default."""

    @property
    def labels(self) -> tuple[int | None, ...]:
        """Class index behind each label; None for the rest."""
        return (None, *self.classes) if self.rest else self.classes


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """Origin of the first n layers, and whether they learn (paper, section 3)."""

    kind: Kind
    """Origin of layers 1..n."""
    n: int = 0
    """Number of first layers that come from elsewhere; 0 for bases."""
    fine_tuned: bool = False
    """True if layers 1..n learn with the others; by default they are frozen."""

    @property
    def name(self) -> str:
        """Name in a sweep file: `transfer`, or `transfer+` if layers 1..n learn."""
        return self.kind + "+" * self.fine_tuned

    @property
    def frozen(self) -> bool:
        """True if layers 1..n exist and do not learn."""
        return self.n > 0 and not self.fine_tuned

    @property
    def frozen_layers(self) -> int:
        """Number of first layers that do not learn."""
        return self.n if self.frozen else 0

    @property
    def tuned_layers(self) -> int:
        """Number of first layers that are copied and learn."""
        return self.n if self.fine_tuned and self.has_parent else 0

    @property
    def has_parent(self) -> bool:
        """True if layers are copied from a base."""
        return self.kind in ("selffer", "transfer")


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


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that a network is trained with. Losses are means over a batch.

    `copied_rate`, `layer_decay` and `fresh_first` apply to fine-tuned trials: copied layers learn
    there beside fresh ones.
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
    """First fraction of the steps in which copied layers are frozen; 0 by default."""

    def __post_init__(self) -> None:
        finite = "expected a finite number"
        for field in ("rate", "momentum", "weight_decay"):
            require(math.isfinite(getattr(self, field)), field, finite)
        require(self.rate > 0, "rate", "expected a learning rate, x > 0")
        require(0 <= self.momentum < 1, "momentum", "expected 0 ≤ x < 1")
        require(self.weight_decay >= 0, "weight_decay", "expected x ≥ 0")
        require(1 <= self.batch <= MOST, "batch", "expected a number of images, 1 ≤ x ≤ 10⁹")
        for field in ("steps", "epochs", "evaluate_every"):
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


@dataclass(frozen=True, kw_only=True)
class Adaptation:
    """Differences between a network and the one that its first layers are copied from.

    A name is that of a layer (`layer3`), or of a module or tensor in it (`layer3.conv`). Replaced
    and widened tensors learn, even in a frozen trial: otherwise they would be random filters.
    """

    replaced: tuple[str, ...] = ()
    """Names that are not copied."""
    widened: tuple[str, ...] = ()
    """Names whose tensors are larger than the base's; the common part is copied."""

    def __post_init__(self) -> None:
        names = [
            (field, name) for field in ("replaced", "widened") for name in getattr(self, field)
        ]
        for field, name in names:
            message = f"expected numbers of layers or names such as layer3.conv, found {name!r}"
            require(re.fullmatch(r"layer[1-9]\d*(\.\w+)*", name) is not None, field, message)
        for index, (field, name) in enumerate(names):
            others = [other for _, other in names[:index] + names[index + 1 :]]
            require(not _covered(name, others), field, f"{name} is declared twice")

    @classmethod
    def of(cls, replaced: Iterable[int | str], widened: Iterable[int | str] = ()) -> Adaptation:
        """Return the adaptation of a sweep file's lists, where `3` stands for `layer3`."""

        def names(items: Iterable[int | str]) -> tuple[str, ...]:
            return tuple(sorted(f"layer{x}" if str(x).isdigit() else str(x) for x in items))

        return cls(replaced=names(replaced), widened=names(widened))

    def within(self, n: int) -> Adaptation:
        """Return the part of the adaptation that applies to layers 1..n."""

        def inside(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(
                name for name in names if int(name.partition(".")[0].removeprefix("layer")) <= n
            )

        return Adaptation(replaced=inside(self.replaced), widened=inside(self.widened))

    def replaces(self, name: str) -> bool:
        """Return whether a tensor such as `layer3.conv.weight` is not copied."""
        return _covered(name, self.replaced)

    def widens(self, name: str) -> bool:
        """Return whether a tensor is larger than the base's."""
        return _covered(name, self.widened)

    def changes(self, name: str) -> bool:
        """Return whether a tensor is replaced or widened, and so has new weights."""
        return self.replaces(name) or self.widens(name)


def _covered(name: str, declared: Iterable[str]) -> bool:
    """Return whether a name is declared, itself or a part that it belongs to (`layer3.conv`)."""
    return any(name == other or name.startswith(f"{other}.") for other in declared)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network trained once. Its id is its content: equal trainings are one trial."""

    target: Task
    """Task that the network learns."""
    network: NetworkRef
    """Network that learns it."""
    treatment: Treatment
    """Origin of the first n layers, and whether they learn."""
    recipe: Recipe
    """Settings that the network is trained with."""
    seed: int = 0
    """Seed of all random numbers; 0 by default."""
    source: Task | None = None
    """Task of the base that layers are copied from; none by default."""
    parent: str | None = None
    """Id of the base that layers are copied from; none by default."""
    adapt: Adaptation = Adaptation()
    """Differences from the base's network; none by default."""
    schedule_from: str | None = None
    """Study whose best schedule replaces the recipe's; none by default."""
    tested: bool = True
    """True if the test images are used; by default. A training that serves to choose sees none."""

    def __post_init__(self) -> None:
        copies = self.treatment.has_parent or self.adapt == Adaptation()
        require(copies, "adapt", f"a {self.treatment.kind} copies no layers that could differ")

    @functools.cached_property
    def id(self) -> str:
        """First digits of the SHA-256 of the canonical JSON."""
        return digest(self, ID_LENGTH)


def unsearched_id(training: str) -> str:
    """Return the id of the same training with its recipe's own schedule, not a study's.

    `training` is the canonical JSON of a training, as its row holds it.
    """
    content = json.loads(training)
    content.pop("schedule_from", None)
    return digest(content, ID_LENGTH)


def to_json(value: Any) -> Any:
    """Return a configuration as JSON values, without the fields at their default.

    A new field with a default therefore changes no older id.
    """
    if dataclasses.is_dataclass(value):
        return {
            field.name: to_json(getattr(value, field.name))
            for field in dataclasses.fields(value)
            if getattr(value, field.name) != field.default
        }
    if isinstance(value, tuple | list):
        return [to_json(item) for item in value]
    return value


def _canonical_part(part: Any) -> str:
    """Return `canonical(part)`, computed once per object: parts recur in thousands of trials.

    The string is kept with the object. A cache by equality would be wrong, since equal objects may
    differ in their JSON: 1 == 1.0.
    """
    if not dataclasses.is_dataclass(part):
        return canonical(part)
    attributes: dict[str, str] = vars(part)
    if "_canonical" not in attributes:
        attributes["_canonical"] = canonical(part)
    return attributes["_canonical"]


def canonical(value: Any) -> str:
    """Return the canonical JSON of a value: sorted keys, no spaces, finite numbers only."""
    if isinstance(value, Training):
        parts = (
            f'"{field.name}":{_canonical_part(item)}'
            for field in sorted(dataclasses.fields(value), key=lambda field: field.name)
            if (item := getattr(value, field.name)) != field.default
        )
        return "{" + ",".join(parts) + "}"
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 64) -> str:
    """Return the first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def key(*parts: Any) -> int:
    """Return the 63-bit seed of the random numbers that `parts` name."""
    return int(digest(list(parts), 16), 16) >> 1
