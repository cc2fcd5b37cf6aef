"""`Sweep`: the content of a sweep file as frozen and strict models."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo

from orchestrator.sweep.components import (
    DEFAULT_NETWORK,
    Component,
    Data,
    DataField,
    NetworkField,
    TargetField,
)
from orchestrator.sweep.features import Features
from orchestrator.sweep.fields import NAME, Seed, StrictModel, parse_layers
from orchestrator.sweep.search import Search
from orchestrator.sweep.source import Path
from orchestrator.sweep.tasks import NamedTask, WeightsField
from trainers.canonical import ConfigError
from trainers.config import TaskForm, Treatment
from trainers.recipe import Recipe

TreatmentName = Literal[
    "base",  # trained from scratch
    "base_long",  # a base with as many steps as a base and a fine-tuning together
    "selffer",  # BnB: the first n layers from the base of the same half, frozen
    "selffer+",  # BnB+: the same, fine-tuned
    "transfer",  # AnB: the first n layers from the base of the other half, frozen
    "transfer+",  # AnB+: the same, fine-tuned
    "random",  # the first n layers as they were initialised, frozen
    "stitched",  # An|B: n layers of the other half, a map that learns, the upper layers of the base
    "stitched_self",  # Bn|B: the same with the first n layers of the same half
    "pixels",  # no network: recipe.classifier on the pixels
]
Measure = Literal["weights", "interpolation", "similarity", "predictors"]
TREATMENTS: tuple[TreatmentName, ...] = get_args(TreatmentName)
DEFAULT_TREATMENTS = TREATMENTS[:7]  # the paper's
COPYING = ("selffer", "selffer+", "transfer", "transfer+", "stitched", "stitched_self")
FROM_SOURCE = ("transfer", "transfer+", "stitched")
MEASURED = ("selffer", "transfer")  # kinds, frozen or fine-tuned
LEAST_CPU, MOST_CPUS = 0.0001, 100_000
ACCELERATOR_AMOUNT = 0.001  # Ray itself requests this much of an accelerator type


class Halves(StrictModel):
    """Both halves of a named split."""

    A: tuple[Any, ...]
    """Classes of half A, by index or by name: `[0, 1, cat]`."""

    B: tuple[Any, ...]
    """Classes of half B: all classes that are not in A."""

    def members(self, letter: str) -> tuple[int | str, ...]:
        """The classes of one half. Raises `ConfigError` for other values than int and str."""
        half = self.A if letter == "A" else self.B
        for item in half:
            if isinstance(item, bool) or not isinstance(item, int | str):
                raise ConfigError(letter, f"expected class indices or names, found {item!r}")
        return half


class Splits(StrictModel):
    """Divisions of the classes into halves A and B. A grid uses all that are given."""

    random: tuple[Seed, ...] = ()
    """Seeds of random divisions. `[0, 1]` gives the splits `s0` and `s1`."""

    sizes: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of classes in half A of the random splits, each with every seed: `s0-9` has nine
    classes in A. Default: half of the classes. A half of one class is trained against images of
    the other classes."""

    known: tuple[str, ...] = ()
    """Divisions that come with the classes: `natural_manmade`, for ImageNet."""

    named: dict[str, Halves] = {}
    """Divisions by name, class by class: `{low_high: {A: [0, 1], B: [2, 3]}}`. Each is a population
    of its own: its results are not averaged with those of other splits."""

    drawn: bool = False
    """The `named` splits are draws of one population, such as random halves from elsewhere. They
    are averaged, and their interval covers other draws."""

    whole: bool = False
    """Add one task of all classes: half A of the split `whole`, which has no half B."""

    reserved: Annotated[int, Field(ge=1)] | None = None
    """Training images per class that the larger half leaves out, as negatives for a half of one
    class. Default: enough for all images of the one class at the ratio `negatives`."""

    negatives: Annotated[float, Field(ge=0.01, le=1000)] | None = None
    """Negatives per training image of a half of one class. With 3, ten images of the class have 30
    negatives, spread over the other classes as equally as possible. Default: about 1, and at least
    one negative from each of the other classes."""


def _parse_images(value: Any) -> tuple[Any, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(None if item == "all" else item for item in items)


def _parse_lanes(value: Any) -> Any:
    if value == "auto":
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"expected auto, or x ≥ 1, found {json.dumps(value, default=str)}")
    return value


def _check_gpus(value: float) -> float:
    if value > 1 and not value.is_integer():
        raise ValueError(f"expected a fraction of one GPU or a whole number, found {value:g}")
    return value


def _check_accelerator(value: str, info: ValidationInfo) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError(f"expected a kind of GPU as Ray calls it, such as A100, found {value!r}")
    if not info.data.get("gpu"):
        raise ValueError("needs gpu: it says which kind of GPU")
    return value


def _check_cpus(cpu: float) -> float:
    if not LEAST_CPU <= cpu <= MOST_CPUS:
        raise ValueError(f"expected CPU cores from {LEAST_CPU}, Ray's unit, to {MOST_CPUS}")
    return cpu


class Resources(StrictModel):
    """Resources that a trial requests from the cluster."""

    cpu: Annotated[float, Field(gt=0), AfterValidator(_check_cpus)] = 1.0
    """CPU cores."""

    gpu: Annotated[float, Field(ge=0), AfterValidator(_check_gpus)] = 0.0
    """GPUs: a whole number, or a fraction of one GPU that trials share, such as `0.25`."""

    memory_gb: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Main memory in GB (10⁹ bytes). Default: no request."""

    accelerator: Annotated[str, AfterValidator(_check_accelerator)] | None = None
    """Kind of GPU as Ray names it, such as `A100`, `T4` or `A10G`. Default: any."""

    custom: dict[str, Annotated[float, Field(ge=0)]] = {}
    """Amounts of Ray's custom resources by name: `{fast_disk: 1}`."""

    @property
    def special(self) -> dict[str, float]:
        """Custom resources and the kind of GPU, by Ray's names."""
        if self.accelerator is None:
            return dict(self.custom)
        return {**self.custom, f"accelerator_type:{self.accelerator}": ACCELERATOR_AMOUNT}


USUAL = Resources()


class FineTune(StrictModel):
    """Training of fine-tuned trials (`selffer+`, `transfer+`), where it differs from the others."""

    recipe: Recipe | None = None
    """Keys of `recipe` that differ for fine-tuned trials; the others are inherited. `steps` here
    replaces `epochs` there, and the reverse. Default: the sweep's recipe."""

    search: Search | None = None
    """Search of the learning-rate schedule. Fine-tuned trials use the best schedule that the study
    finds. Default: no search."""


class Grid(StrictModel):
    """A grid of trainings: every treatment on every split, seed, target and layer."""

    splits: Splits = Splits()
    """Divisions of the classes into halves. At least one is required, unless the sweep has
    `tasks`."""

    sources: tuple[str, ...] = ()
    """Names of the tasks and `weights` that layers are copied from. Default: all of them."""

    targets: tuple[str, ...] | None = None
    """Halves (A, B) or names of tasks that networks are trained for. Default: both halves of every
    split, or all tasks."""

    transfers: tuple[tuple[str, str], ...] = ()
    """Pairs of a source and a target: `[[mnist, digits]]`. Default: every source to every target
    but itself."""

    form: TaskForm = TaskForm()
    """Form in which networks see the images of all tasks of a transfer. Default: as they are
    stored."""

    treatments: tuple[TreatmentName, ...] = DEFAULT_TREATMENTS
    """Treatments to train. Default: all but the stitched ones and `pixels`.

    - `base`: trained from scratch.
    - `base_long`: a base with as many steps as a base and a fine-tuning together. It shows how much
      of the gain of fine-tuning is longer training.
    - `selffer` (BnB): the first n layers come from the base of the same half and are frozen.
    - `selffer+` (BnB+): the same, fine-tuned.
    - `transfer` (AnB): the first n layers come from the base of the other half and are frozen.
    - `transfer+` (AnB+): the same, fine-tuned.
    - `random`: the first n layers keep their initial random weights.
    - `stitched` (An|B): the first n layers come from the base of the other half, and the upper
      layers from the target's own base. All are frozen. One linear map between them learns. The
      last layer has none above it, so n is below the number of layers.
    - `stitched_self` (Bn|B): the same with both parts from the target's own base.
    - `pixels`: `recipe.classifier` is fitted to the pixels, without a network: the floor for what
      features are worth.
    """

    layers: Annotated[tuple[int, ...], BeforeValidator(parse_layers)] = ()
    """Numbers n of first layers that are copied: `3`, `[1, 3, 5]`, `1..7` or `all`. `all` means
    every layer but the last, and is the default."""

    images_per_class: Annotated[
        tuple[Annotated[int, Field(ge=1)] | None, ...], BeforeValidator(_parse_images)
    ] = (None,)
    """Training images per class of the target: a number, `all`, or a list such as `[10, all]`. The
    first images of each class are used, or those of the target's `draws`. Sources train on all, or
    on the images of their task. Default: `all`, or those of the task."""

    seeds: tuple[Seed, ...] = (0,)
    """Seeds of initial weights and data order. Each repeats the whole grid."""

    recipe: Recipe
    """Training of every network: optimiser, schedule, length, data augmentation."""

    fine_tune: FineTune = FineTune()
    """Training of fine-tuned trials, where it differs from `recipe`."""

    axes: dict[str, tuple[Any, ...]] = {}
    """Lists of values of recipe keys: `{recipe.rate: [0.01, 0.1], recipe.batch: [32, 128]}`. The
    grid is trained once for each combination. The values are the `condition` of a network; networks
    of two conditions are never averaged. An axis replaces the key in the recipe."""

    @property
    def keyed_recipes(self) -> dict[Path, Recipe]:
        """The recipe, and that of fine-tuned trials if there is one, by their keys."""
        recipes: dict[Path, Recipe] = {("recipe",): self.recipe}
        if self.fine_tune.recipe is not None:
            recipes["fine_tune", "recipe"] = self.fine_tune.recipe
        return recipes

    @property
    def recipes(self) -> list[Recipe]:
        """The recipe, and that of fine-tuned trials if there is one."""
        return list(self.keyed_recipes.values())


class Sweep(Grid):
    """A sweep file: one grid, or several `grids` that inherit the sweep's keys."""

    name: Annotated[str, Field(pattern=f"^{NAME}$")]
    """Name of the sweep in the tables: up to 64 letters, digits, `_` and `-`."""

    dataset: DataField | None = None
    """Dataset whose classes are divided: a name, or a mapping of a name and options. Required,
    unless the sweep has `tasks`."""

    tasks: dict[str, NamedTask] = {}
    """Tasks by name, for transfers between datasets. A grid without `splits` transfers between
    them."""

    weights: dict[str, WeightsField] = {}
    """Files of weights by name, which are sources without training: a path, or a mapping."""

    network: NetworkField = Component(name=DEFAULT_NETWORK)
    """Network that is trained: a name, or a mapping of a name and options. Options without a name
    belong to the default, `conv8`."""

    target_network: TargetField = None
    """Network of the targets, if it differs from the network of the sources. Default: the same."""

    grids: dict[str, Grid] = {}
    """Grids by name. A grid inherits every key of a grid that it does not give itself; of `recipe`
    and `fine_tune`, single keys. Default: the sweep itself is the only grid."""

    reference: Literal["paper"] | None = None
    """Published results that the report shows beside the sweep's own. Default: none.

    - `paper`: the results of Yosinski et al. (2014).
    """

    resources: dict[Literal["default", TreatmentName], Resources] = {}
    """Request of a trial, by treatment. `default` holds for treatments that are not listed.
    Default: one CPU core."""

    keep: Literal["bases", "all", "none"] = "bases"
    """Checkpoints that stay in the store.

    - `bases`: those of bases, from which layers can be copied again.
    - `all`: those of every trial.
    - `none`: no checkpoint. Those of bases are removed when the run is over.
    """

    measure: tuple[Measure, ...] = ()
    """Comparisons of the trained networks with their bases. They are no part of an id, and can be
    added to a sweep that has been run. With any, the checkpoints of the measured networks are kept
    as those of bases are. Default: none.

    - `weights`: distance of every layer's weights from where they started.
    - `interpolation`: loss on the straight line between a network and the base of its target.
    - `similarity`: centred kernel alignment of every layer with the bases of target and source.
    - `predictors`: scores that predict the accuracy of a transfer from the features of its source.
    """

    features: dict[str, Features] = {}
    """Outputs of layers to write as Parquet files, by a name of your choice. They are no part of an
    id, and can be added to a sweep that has been run. The checkpoints of the networks are kept as
    those of bases are. Default: none."""

    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Seconds between snapshots. A trial that was stopped resumes from its last snapshot."""

    lanes: Annotated[int | None, BeforeValidator(_parse_lanes)] = None
    """Largest number of trials that are trained together in one process. They must have networks
    and images of one shape, and equal numbers of steps and of images per step. The numbers are
    those of the trials alone up to rounding. `auto` is 16 for small networks, up to 0.2 billion
    multiply-adds per step, forward, and 1 for others. Default: `auto`."""

    @property
    def datasets(self) -> dict[tuple[str, ...], Data]:
        """The datasets of the sweep by the key that names them."""
        of_halves = {} if self.dataset is None else {("dataset",): self.dataset}
        return of_halves | {
            ("tasks", name, "dataset"): task.dataset for name, task in self.tasks.items()
        }

    def has_directions(self, grid: Grid) -> bool:
        """Return whether a grid transfers between named tasks, and not between halves."""
        return bool(self.tasks) and grid.splits == Splits()

    @property
    def parts(self) -> dict[str, Grid]:
        """The grids by name. The only grid of a sweep without `grids` has an empty name."""
        return dict(self.grids) or {"": self}

    def keeps(self, treatment: Treatment, name: str) -> bool:
        """Return whether the checkpoint of a trial is written to the store.

        What is measured, or has its features written, is kept for it; with `keep: none`, to the end
        of the run.
        """
        extracted = {network for asked in self.features.values() for network in asked.of}
        needed = bool(self.measure) and treatment.kind in MEASURED
        needed |= not extracted.isdisjoint((treatment.name, name))
        return self.keep == "all" or treatment.kind == "base" or needed

    def request(self, treatment: Treatment) -> Resources:
        """Resources for a trial of this treatment."""
        default = self.resources.get("default", USUAL)
        return self.resources.get(treatment.name, default)  # type: ignore[call-overload,no-any-return]
