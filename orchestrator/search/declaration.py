"""`Search`: what a sweep file says of a search of the learning-rate schedule."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.yaml_source import shown
from trainers.config import ConfigError, Family

Bounds = tuple[float, float]
Number = Annotated[int, Field(ge=0, lt=2**32)]
FAMILIES: tuple[Family, ...] = get_args(Family)

# What each key may be: the smallest and the largest value.
LIMITS: dict[str, tuple[float, float]] = {
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
WHOLE = ("drops", "restarts")


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def _bounds(value: Any) -> Any:
    """A range [low, high], or one number for both."""
    pair = value if isinstance(value, list | tuple) else (value, value)
    numbers = [x for x in pair if isinstance(x, int | float) and not isinstance(x, bool)]
    if len(pair) != 2 or len(numbers) != 2 or pair[0] > pair[1]:
        raise ValueError(f"expected a range such as [0.01, 1], or a number, found {shown(value)}")
    return tuple(float(x) for x in pair)


Range = Annotated[Bounds, BeforeValidator(_bounds)]


def _families(value: tuple[Family, ...]) -> tuple[Family, ...]:
    if not value or len(set(value)) < len(value):
        raise ValueError("expected at least one family, none of them twice")
    return value


class Space(_Model):
    """What is searched. A range is drawn from, a number is held fixed.

    `rate` and `weight_decay` are by default around the recipe's own. `warmup` and `fresh_first` may
    also be absent, where their range is not a single number. `every` is a fraction of the training.
    """

    family: Annotated[tuple[Family, ...], AfterValidator(_families)] = FAMILIES
    rate: Range | None = None
    weight_decay: Range | None = None
    copied_rate: Range = (0.03, 3.0)
    layer_decay: Range = (0.5, 1.0)
    fresh_first: Range = (0.05, 0.5)
    warmup: Range = (0.01, 0.3)
    gamma: Range = (0.05, 0.7)
    every: Range = (0.1, 0.6)
    drops: Range = (1.0, 3.0)
    floor: Range = (0.0, 0.3)
    restarts: Range = (0.0, 3.0)
    growth: Range = (1.0, 2.0)

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
            if name in WHOLE and not (low.is_integer() and high.is_integer()):
                raise ConfigError(name, f"expected whole numbers, found {shown([low, high])}")
            if name == "weight_decay" and low == 0 < high:
                raise ConfigError(name, "expected a range above 0, which is drawn on a log scale")
        return self


class Search(_Model):
    """A study of the schedule of fine-tuned trials, on splits and seeds that are not reported.

    Empty `splits` and `seeds` stand for one that the sweep lacks, empty `targets` for all, empty
    `layers` for the first, the middle and the last. `startup` trials are drawn at random, and none
    is pruned before so many are complete; `at_once` trials run beside each other. `enqueue` lists
    changes of the sweep's own schedule that are tried right after it; by default a tenth of the
    rate for copied layers. `base_long` gets a search of its own. `compare` trains what is reported
    with the sweep's own schedule, too.
    """

    trials: Annotated[int, Field(ge=1, le=10_000)] = 30
    splits: tuple[Number, ...] = ()
    seeds: tuple[Number, ...] = ()
    targets: tuple[Literal["A", "B"], ...] = ()
    layers: tuple[Annotated[int, Field(ge=1)], ...] = ()
    objective: Literal["val_top1"] = "val_top1"
    sampler: Literal["tpe", "random", "qmc"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    startup: Annotated[int, Field(ge=1)] = 10
    at_once: Annotated[int, Field(ge=1, le=1000)] = 4
    seed: Number = 0
    space: Space = Space()
    enqueue: tuple[dict[str, Any], ...] | None = None
    base_long: bool = True
    compare: bool = True
