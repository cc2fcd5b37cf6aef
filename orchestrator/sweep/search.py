"""`Search`: the content of `fine_tune.search`, a search of the learning-rate schedule."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from orchestrator.sweep.fields import Letter, Seed, StrictModel
from orchestrator.sweep.source import shown
from trainers.canonical import ConfigError
from trainers.recipe import Family

Bounds = tuple[float, float]
FAMILIES: tuple[Family, ...] = get_args(Family)

# Lowest and highest value that a range may contain.
LIMITS: dict[str, Bounds] = {
    "rate": (1e-12, 1e6),
    "weight_decay": (0.0, 1e6),
    "copied_rate": (1e-6, 1e3),
    "layer_decay": (1e-3, 1.0),
    "fresh_first": (0.0, 0.99),
    "warmup": (0.0, 0.99),
    "gamma": (1e-6, 1.0),
    "every": (1e-3, 0.99),
    "drops": (1, 3),
    "floor": (0.0, 1.0),
    "restarts": (0, 20),
    "growth": (1.0, 10.0),
}
INTEGERS = ("drops", "restarts")


def _parse_range(value: Any) -> Bounds:
    """Return the range `[low, high]`; a single number is both."""
    pair = value if isinstance(value, list | tuple) else (value, value)
    numbers = [x for x in pair if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(pair) != 2 or len(numbers) != 2 or pair[0] > pair[1]:
        raise ValueError(f"expected a range such as [0.01, 1], or a number, found {shown(value)}")
    return float(pair[0]), float(pair[1])


Range = Annotated[Bounds, BeforeValidator(_parse_range)]


def _check_families(value: tuple[Family, ...]) -> tuple[Family, ...]:
    if not value or len(set(value)) < len(value):
        raise ValueError("expected at least one family, none of them twice")
    return value


class Space(StrictModel):
    """Schedules that a search chooses from. A number instead of a range fixes a parameter."""

    family: Annotated[tuple[Family, ...], AfterValidator(_check_families)] = FAMILIES
    """Shapes of the learning rate over a training. Default: all.

    - `constant`: the rate stays as it is.
    - `step`: multiplied by `gamma` after each `every`.
    - `multi_step`: multiplied by `gamma` at each of one to three milestones.
    - `cosine`: falls to `floor` along half a cosine, and may restart.
    - `linear`: falls to `floor` along a line.
    - `one_cycle`: rises, then falls, over the whole training.
    """

    rate: Range | None = None
    """Learning rate, on a log scale. Default: the recipe's own times 1/30 to 10."""

    weight_decay: Range | None = None
    """Weight decay, on a log scale. Default: the recipe's own times 1/30 to 30."""

    copied_rate: Range = (0.03, 3.0)
    """Rate of the highest copied layer relative to fresh layers, on a log scale."""

    layer_decay: Range = (0.5, 1.0)
    """Rate of a copied layer as a multiple of the rate of the layer above it."""

    fresh_first: Range = (0.05, 0.5)
    """Fraction of the training in which only fresh layers learn. Schedules without this phase are
    searched, too, unless the key is a number."""

    warmup: Range = (0.01, 0.3)
    """Warm-up as a fraction of the training. Schedules without a warm-up are searched, too, unless
    the key is a number. `one_cycle` has a warm-up of its own."""

    gamma: Range = (0.05, 0.7)
    """Factor of the rate at each drop of `step` and `multi_step`, on a log scale."""

    every: Range = (0.1, 0.6)
    """Distance between drops of `step`, as a fraction of the training."""

    drops: Range = (1.0, 3.0)
    """Number of drops of `multi_step`."""

    floor: Range = (0.0, 0.3)
    """Smallest factor of the rate in `cosine` and `linear`."""

    restarts: Range = (0.0, 3.0)
    """Number of restarts of `cosine`."""

    growth: Range = (1.0, 2.0)
    """Length of a cycle of `cosine` as a multiple of the cycle before."""

    @model_validator(mode="after")
    def _within_limits(self) -> Self:
        for name, (lowest, highest) in LIMITS.items():
            bounds = getattr(self, name)
            if bounds is None:
                continue
            low, high = bounds
            if not lowest <= low <= high <= highest:
                expected = f"{lowest:g} ≤ x ≤ {highest:g}"
                raise ConfigError(name, f"expected {expected}, found {shown([low, high])}")
            if name in INTEGERS and not (low.is_integer() and high.is_integer()):
                raise ConfigError(name, f"expected whole numbers, found {shown([low, high])}")
            if name == "weight_decay" and low == 0 < high:
                raise ConfigError(name, "expected a range above 0, which is drawn on a log scale")
        return self


class Search(StrictModel):
    """A study of the schedule of fine-tuned trials, on splits and seeds that are not reported."""

    trials: Annotated[int, Field(ge=1, le=10_000)] = 30
    """Trials of the study. Each trains one schedule on all targets, layers and treatments of the
    search."""

    splits: tuple[Seed, ...] = ()
    """Seeds of random splits that the sweep does not report. Default: one such split."""

    seeds: tuple[Seed, ...] = ()
    """Seeds of trainings that the sweep does not report. Default: one such seed."""

    targets: tuple[Letter, ...] = ()
    """Halves that the search trains for. Default: those of the grid."""

    layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """Numbers of copied layers that the search trains. Default: the first, the middle and the last
    of the grid."""

    objective: Literal["val_top1"] = "val_top1"
    """Quantity that the search maximises.

    - `val_top1`: top-1 accuracy on validation images, averaged over the networks of a trial.
    """

    sampler: Literal["tpe", "random", "qmc"] = "tpe"
    """Method that suggests the next schedule.

    - `tpe`: tree-structured Parzen estimator, which learns from the trials before.
    - `random`: independent draws.
    - `qmc`: a quasi-random sequence that fills the space evenly. Every parameter must be present in
      every schedule.
    """

    pruner: Literal["median", "hyperband", "none"] = "median"
    """Method that stops a poor trial before all of its networks are trained.

    - `median`: stops a trial that is worse than the median of the trials before at the same point.
      It needs two networks per trial.
    - `hyperband`: successive halving with several budgets. It needs three networks per trial.
    - `none`: trains every trial to its end.
    """

    startup: Annotated[int, Field(ge=1)] = 10
    """Trials that are drawn at random first. None is pruned before this many are complete."""

    at_once: Annotated[int, Field(ge=1, le=1000)] = 4
    """Trials that run at the same time. The suggestions depend on it."""

    seed: Seed = 0
    """Seed of the sampler."""

    space: Space = Space()
    """Schedules that the search chooses from."""

    enqueue: tuple[dict[str, Any], ...] | None = None
    """Changes of the sweep's own schedule that are tried right after it, such as
    `[{copied_rate: 0.5}]`. Default: `[{copied_rate: 0.1}]`."""

    base_long: bool = True
    """Give `base_long`, the control for longer training, a search of its own."""

    compare: bool = True
    """Also train the reported networks with the sweep's own schedule, to compare."""
