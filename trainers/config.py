"""Configuration of one training: frozen, typed, hashable, with an id that is its content.

Standard library only. `orchestrator.sweep.schema` validates these classes with pydantic: it reads
`__pydantic_config__` (be strict) and `ConfigError.field` (the wrong key).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from trainers.canonical import STRICT, Options, digest, require
from trainers.recipe import Recipe, Stage, covered, layer_names, layer_number

NETWORK_NAMES = ("conv8", "caffenet")
"""Names of the networks that come with the program; `trainers.networks` has them."""

TORCHVISION = "torchvision:"
"""Prefix of the names of torchvision's networks."""

Kind = Literal[
    "base", "base_long", "selffer", "transfer", "random", "stitched", "stitched_self", "pixels"
]
"""Origin of a network's first n layers (paper, section 3).

- `base`: no layer is copied; all start fresh and learn the target.
- `base_long`: a base that is trained for the steps of a base and of a fine-tuned network together.
- `selffer`: layers 1..n come from a base of the same target (the paper's BnB).
- `transfer`: layers 1..n come from a base of another task (the paper's AnB).
- `random`: layers 1..n are random filters.
- `stitched`: layers 1..n come from a base of another task, the others from the target's own base.
  All are frozen, and one linear map between them learns (`trainers.stitching`).
- `stitched_self`: the same, with both parts from the target's own base.
- `pixels`: there is no network; a classifier is fitted to the pixels.
"""

Fit = Literal["squash", "cover", "crop", "pad"]
"""Way to bring images to one size.

- `squash`: scale both sides, so that the aspect ratio may change.
- `cover`: scale the shorter side to the size, and keep the centre.
- `crop`: keep the centre, without scaling; images must be at least as large as the size.
- `pad`: add black borders, without scaling; images must be at most as large as the size.
"""

ID_LENGTH = 16  # hexadecimal digits


def is_own(name: str) -> bool:
    """Return whether the name of a dataset or a network is a user's function."""
    return ":" in name and not name.startswith(TORCHVISION)


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
    has_objects: bool = False
    """True if images have objects in boxes: networks learn to detect them."""


class NetworkError(Exception):
    """A network that cannot be built, or weights that do not fit it."""


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


def training_macs(macs: Sequence[int], frozen: int, *, stitched: bool = False) -> int:
    """Return the multiply-adds of one training image; `macs` are each layer's, forward.

    A layer that learns costs a second pass for the gradient of its weights and a third for the
    gradient of its input. The first layer that learns needs no third: nothing below it learns.
    The layers above a stitch need the third alone. The map itself, which is small, is left out.
    """
    learning = macs[frozen:]
    if stitched:
        return sum(macs) + sum(learning)
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
    Images that are stored as floats keep their own scale, and those of a function of yours are
    floats of 0..1 if it returns bytes: for both, declare mean and deviation on that scale."""

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
    negatives: int | None = None
    """Negatives of a task of one class in all. Default: all reserved images; with a limit of
    `images_per_class`, about as many, and at least one per class."""
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

    @classmethod
    def of(cls, name: str, n: int = 0) -> Self:
        """Return the treatment of a name as a sweep file writes it, with n first layers."""
        kind: Any = name.removesuffix("+")
        return cls(kind=kind, n=n, fine_tuned=name.endswith("+"))

    @property
    def name(self) -> str:
        """Name in a sweep file: `transfer`, or `transfer+` if layers 1..n learn."""
        return self.kind + "+" * self.fine_tuned

    @property
    def frozen(self) -> bool:
        """True if layers 1..n exist and do not learn."""
        return self.n > 0 and not self.fine_tuned

    @property
    def tuned_layers(self) -> int:
        """Number of first layers that are copied and learn."""
        return self.n if self.fine_tuned and self.has_parent else 0

    @property
    def has_parent(self) -> bool:
        """True if layers are copied from a base."""
        return self.kind in ("selffer", "transfer") or self.is_stitched

    @property
    def is_stitched(self) -> bool:
        """True if layers n+1.. are copied too, and only a map between both parts learns."""
        return self.kind in ("stitched", "stitched_self")


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
            try:
                layer_names([name])
            except ValueError as error:
                require(False, field, str(error))
        for index, (field, name) in enumerate(names):
            others = [other for _, other in names[:index] + names[index + 1 :]]
            require(not covered(name, others), field, f"{name} is declared twice")

    @classmethod
    def of(cls, replaced: Iterable[int | str], widened: Iterable[int | str] = ()) -> Adaptation:
        """Return the adaptation of a sweep file's lists, where `3` stands for `layer3`."""

        def names(items: Iterable[int | str]) -> tuple[str, ...]:
            return tuple(sorted(f"layer{x}" if str(x).isdigit() else str(x) for x in items))

        return cls(replaced=names(replaced), widened=names(widened))

    def within(self, n: int) -> Adaptation:
        """Return the part of the adaptation that applies to layers 1..n."""
        if not (self.replaced or self.widened):
            return self

        def inside(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(name for name in names if layer_number(name) <= n)

        return Adaptation(replaced=inside(self.replaced), widened=inside(self.widened))

    def replaces(self, name: str) -> bool:
        """Return whether a tensor such as `layer3.conv.weight` is not copied."""
        return covered(name, self.replaced)

    def widens(self, name: str) -> bool:
        """Return whether a tensor is larger than the base's."""
        return covered(name, self.widened)

    def changes(self, name: str) -> bool:
        """Return whether a tensor is replaced or widened, and so has new weights."""
        return self.replaces(name) or self.widens(name)


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
    upper: str | None = None
    """Id of the base that a stitched network has layers n+1.. from; none by default."""
    source_network: NetworkRef | None = None
    """Network that a stitched network has layers 1..n from; by default that of the target."""
    adapt: Adaptation = Adaptation()
    """Differences from the base's network; none by default."""
    schedule_from: str | None = None
    """Study whose best schedule replaces the recipe's; none by default."""
    tested: bool = True
    """True if the test images are used; by default. A training that serves to choose sees none."""

    def __post_init__(self) -> None:
        kind, is_stitched = self.treatment.kind, self.treatment.is_stitched
        copies = self.treatment.has_parent and not is_stitched
        differs = bool(self.adapt.replaced or self.adapt.widened)
        require(copies or not differs, "adapt", f"a {kind} copies no layers that could differ")
        require(is_stitched or self.upper is None, "upper", f"a {kind} has upper layers of its own")

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids that layers are copied from, each once, that of layers 1..n first."""
        if self.upper is None:
            return (self.parent,) if self.parent else ()
        return tuple(dict.fromkeys(filter(None, (self.parent, self.upper))))

    @property
    def frozen_layers(self) -> int:
        """Number of first layers that do not learn at all: no gradient passes through them."""
        if not self.treatment.frozen:
            return 0
        learning = [layer_number(str(name)) - 1 for name in self.recipe.learn]
        return min([self.treatment.n, *learning, self.recipe.freeze or self.treatment.n])

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Stages of a fine-tuning; any other training is one stage."""
        is_tuned = self.treatment.fine_tuned and self.treatment.has_parent
        return self.recipe.all_stages if is_tuned else (Stage(fraction=1.0),)

    @property
    def learning_layers(self) -> int:
        """Number of first layers among which copied weights learn."""
        if self.treatment.frozen and not (self.recipe.freeze or self.recipe.learn):
            return 0
        return self.treatment.n if self.treatment.has_parent else 0

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
