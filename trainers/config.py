"""What one training is: frozen, typed, hashable, with a canonical JSON and its digest.

Standard library only. `orchestrator.spec` validates these classes with pydantic, which is told to
be strict through `__pydantic_config__` and reads `ConfigError.field` to name the key that is wrong.
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

TORCHVISION = "torchvision:"  # before the name of one of its networks

Options = tuple[tuple[str, Any], ...]
Kind = Literal["base", "base_long", "selffer", "transfer", "random"]
Init = Literal["he", "torch", "network"]
Family = Literal["constant", "step", "multi_step", "cosine", "linear", "one_cycle"]

STRICT = {"extra": "forbid", "strict": True}
ID_LENGTH = 16
MOST_RESTARTS, MOST_GROWTH = 100, 10
MOST = 10**9  # steps, epochs, images: more is a slip of the pen


class ConfigError(ValueError):
    """A field of a configuration is wrong. `field` names it; the message says what was expected."""

    def __init__(self, field: str, message: str):
        super().__init__(message)
        self.field = field


def require(condition: bool, field: str, message: str) -> None:
    """Raise `ConfigError` for `field` unless `condition` holds."""
    if not condition:
        raise ConfigError(field, message)


def freeze_options(options: Mapping[str, Any]) -> Options:
    """A mapping as sorted pairs, with lists as tuples, so that configurations can be hashed."""

    def frozen(key: str, value: Any) -> Any:
        if isinstance(value, Mapping):
            raise ConfigError(key, "expected numbers, texts, booleans or lists of them")
        if isinstance(value, list | tuple):
            return tuple(frozen(key, item) for item in value)
        return value

    return tuple(sorted((key, frozen(key, value)) for key, value in options.items()))


@dataclass(frozen=True, kw_only=True)
class DatasetRef:
    """A dataset by name (or `package.module:function`), its options, a hash of what is in it."""

    name: str
    options: Options = ()
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class NetworkRef:
    """A network by name (or `package.module:function`), its options, a hash of a user's code."""

    name: str
    options: Options = ()
    fingerprint: str = ""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What planning must know of a dataset: counts are images a class, `shape` is (C, H, W)."""

    classes: tuple[str, ...]
    shape: tuple[int, int, int]
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    fingerprint: str


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """What planning must know of a network: one entry a numbered layer, for one image forward.

    `shapes` are of the layers' outputs.
    """

    macs: tuple[int, ...]
    parameters: tuple[int, ...]
    shapes: tuple[tuple[int, ...], ...]
    state_bytes: int

    @property
    def depth(self) -> int:
        return len(self.macs)


def training_macs(macs: Sequence[int], frozen: int) -> int:
    """Multiply-adds of one training image, from those of each layer forward.

    A layer that learns costs a second pass for the gradient of its weights, and a third for that of
    its input, which the first of them does not need: nothing below it learns.
    """
    learning = macs[frozen:]
    return sum(macs) + sum(learning) + sum(learning[1:])


@dataclass(frozen=True, kw_only=True)
class Task:
    """A dataset, an ordered list of its classes (label i is `classes[i]`), images a class.

    A task of one class is that class (label 1) against the `rest` (label 0). The rest's training
    images are the last `reserved` of each class, which the task that learns those classes leaves
    out: so the negatives are images that no source has seen. See `tasks.members`.
    """

    dataset: DatasetRef
    classes: tuple[int, ...]
    images_per_class: int | None = None
    rest: tuple[int, ...] = ()
    reserved: int = 0

    @property
    def labels(self) -> tuple[int | None, ...]:
        """The class index behind each label; none for the rest."""
        return (None, *self.classes) if self.rest else self.classes


@dataclass(frozen=True, kw_only=True)
class Treatment:
    """Where the first `n` layers come from, and whether they learn (paper, section 3)."""

    kind: Kind
    n: int = 0
    fine_tuned: bool = False

    LETTER: ClassVar = {"base": "", "base_long": "", "selffer": "B", "transfer": "A", "random": "R"}

    @property
    def frozen(self) -> bool:
        """Whether the first `n` layers are held fixed."""
        return self.n > 0 and not self.fine_tuned

    @property
    def frozen_layers(self) -> int:
        return self.n if self.frozen else 0

    @property
    def tuned_layers(self) -> int:
        """How many first layers are copied and learn with the others."""
        return self.n if self.fine_tuned and self.has_parent else 0

    @property
    def has_parent(self) -> bool:
        return self.kind in ("selffer", "transfer")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over a training, as a factor of the recipe's rate: see `schedules.factor`.

    `warmup` and `milestones` are fractions of the training, so that a longer training stretches
    them; `every` counts steps, as Caffe's `stepsize` does. The first step is 0, or 1 where
    `count_from` says so: Caffe counts from 1, so that its rate drops one step earlier.
    Cosine starts again `restarts` times, each cycle `growth` times as long as the one before.
    """

    __pydantic_config__: ClassVar = STRICT
    family: Family = "constant"
    warmup: float = 0.0
    gamma: float = 0.1
    every: int | None = None
    milestones: tuple[float, ...] = ()
    floor: float = 0.0
    count_from: int = 0
    restarts: int = 0
    growth: float = 1.0

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
    """How a network is trained. `steps` or `epochs`; planning turns epochs into steps.

    Rates are a step's, losses are means over a batch. `evaluate_every` counts steps. `init_random`
    is how random filters start, if not as all layers do. `crop` is the side of a square, at random
    places in training and in the middle elsewhere. `pixels: standard` subtracts each channel's mean
    and divides by its deviation, `mean_image` subtracts the mean image and divides by nothing.
    `precision: float32` is exact on a GPU too; `tf32` is what its tensor cores make of it.
    In frozen layers `frozen_statistics` and `frozen_affine` hold what normalisation measures of its
    inputs, and its weights and biases.

    The last three are of fine-tuned layers, the copied ones that learn: the highest of them learns
    at `copied_rate` times the rate, each one below at `layer_decay` times that of the one above,
    and for the first `fresh_first` of the training they are held fixed while the fresh ones learn.
    """

    __pydantic_config__: ClassVar = STRICT
    optimiser: Literal["sgd", "caffe_sgd", "adam", "adamw"] = "sgd"
    rate: float = 0.01
    schedule: Schedule = Schedule()
    momentum: float = 0.9
    weight_decay: float = 0.0
    batch: int = 32
    steps: int | None = None
    epochs: float | None = None
    evaluate_every: int | None = None
    dropout: float | None = None
    init: Init = "he"
    precision: Literal["float32", "tf32", "bfloat16", "float64"] = "float32"
    normalise: Literal["target", "source", "whole"] = "target"
    init_random: Init | None = None
    crop: int | None = None
    mirror: bool = False
    pixels: Literal["standard", "mean_image"] = "standard"
    frozen_statistics: bool = True
    frozen_affine: bool = True
    copied_rate: float = 1.0
    layer_decay: float = 1.0
    fresh_first: float = 0.0

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
    """Where a network may differ from the one that its first layers are copied from.

    Names are of layers (`layer3`) or of modules and tensors in them (`layer3.conv`). What is
    `replaced` is not copied; of what is `widened` the part that both have is. Both learn, even in
    a frozen trial: new weights that did not would be random filters under another name.
    """

    replaced: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()

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
        """An adaptation from what a sweep file says, where `3` is `layer3`."""

        def names(items: Iterable[int | str]) -> tuple[str, ...]:
            found = (str(item) for item in items)
            return tuple(sorted(f"layer{name}" if name.isdigit() else name for name in found))

        return cls(replaced=names(replaced), widened=names(widened))

    def within(self, n: int) -> Adaptation:
        """What of it concerns layers 1..n: no more belongs to a trial that copies these."""

        def inside(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(
                name for name in names if int(name.partition(".")[0].removeprefix("layer")) <= n
            )

        return Adaptation(replaced=inside(self.replaced), widened=inside(self.widened))

    def replaces(self, name: str) -> bool:
        return _covered(name, self.replaced)

    def widens(self, name: str) -> bool:
        return _covered(name, self.widened)


def _covered(name: str, declared: Iterable[str]) -> bool:
    """Whether `layer3.conv.weight` is declared, by its name or as part of what is."""
    return any(name == other or name.startswith(f"{other}.") for other in declared)


@dataclass(frozen=True, kw_only=True)
class Training:
    """One network trained once. Its id is its content: equal trainings are one trial.

    `schedule_from` names the study whose best schedule replaces the recipe's; `tested` is false
    for what chooses and so must never see a test image.
    """

    target: Task
    network: NetworkRef
    treatment: Treatment
    recipe: Recipe
    seed: int = 0
    source: Task | None = None
    parent: str | None = None
    adapt: Adaptation = Adaptation()
    schedule_from: str | None = None
    tested: bool = True

    def __post_init__(self) -> None:
        copies = self.treatment.has_parent or self.adapt == Adaptation()
        require(copies, "adapt", f"a {self.treatment.kind} copies no layers that could differ")

    @functools.cached_property
    def id(self) -> str:
        return digest(self, ID_LENGTH)


def to_json(value: Any) -> Any:
    """JSON values of a configuration, fields at their default left out.

    Leaving defaults out means that a field added later changes no id made before.
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
    """`canonical(part)`, written once for each object: the parts recur in thousands of trials.

    Kept with the object and not by equality, since equal objects may differ in it: 1 is 1.0.
    """
    if not dataclasses.is_dataclass(part):
        return canonical(part)
    kept: dict[str, str] = vars(part)
    if "_canonical" not in kept:
        kept["_canonical"] = canonical(part)
    return kept["_canonical"]


def canonical(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, finite numbers only."""
    if isinstance(value, Training):
        parts = (
            f'"{field.name}":{_canonical_part(item)}'
            for field in sorted(dataclasses.fields(value), key=lambda field: field.name)
            if (item := getattr(value, field.name)) != field.default
        )
        return "{" + ",".join(parts) + "}"
    return json.dumps(to_json(value), sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any, length: int = 64) -> str:
    """The first `length` hexadecimal digits of the SHA-256 of `canonical(value)`."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:length]


def key(*parts: Any) -> int:
    """A 63-bit seed for the random numbers that `parts` name; equal names, equal numbers."""
    return int(digest(list(parts), 16), 16) >> 1


def from_json(text: str) -> Training:
    """The training whose `canonical` JSON is `text`."""

    def task(value: Mapping[str, Any] | None) -> Task | None:
        if value is None:
            return None
        dataset = reference(DatasetRef, value["dataset"])
        indices = {name: tuple(value.get(name, ())) for name in ("classes", "rest")}
        return Task(**{**value, **indices, "dataset": dataset})

    def reference(cls: type, value: Mapping[str, Any]) -> Any:
        return cls(**{**value, "options": freeze_options(dict(value.get("options", ())))})

    value = json.loads(text)
    adapt = value.get("adapt", {})
    target = task(value["target"])
    assert target is not None
    return Training(
        target=target,
        source=task(value.get("source")),
        network=reference(NetworkRef, value["network"]),
        treatment=Treatment(**value["treatment"]),
        recipe=recipe_from(value["recipe"]),
        seed=value.get("seed", 0),
        parent=value.get("parent"),
        adapt=Adaptation(**{field: tuple(names) for field, names in adapt.items()}),
        schedule_from=value.get("schedule_from"),
        tested=value.get("tested", True),
    )


def recipe_from(value: Mapping[str, Any]) -> Recipe:
    """The recipe whose `to_json` is `value`."""
    schedule = dict(value.get("schedule", {}))
    schedule["milestones"] = tuple(schedule.get("milestones", ()))
    return Recipe(**{**value, "schedule": Schedule(**schedule)})
