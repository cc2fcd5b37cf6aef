"""The space of schedules as a tree of parameters. Pure.

A parameter exists only under certain values of its parent: `step.gamma` under `family: step`.
`recipe_of` turns parameters into a recipe, `parameters_of` a recipe into parameters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.sweep.search import Bounds, Space
from trainers.recipe import Recipe, Schedule

RATES = (1 / 30, 10.0)  # default range of the rate, as multiples of the recipe's own
DECAYS = (1 / 30, 30.0)  # the same for the weight decay
FRACTIONS = (0.2, 0.8)  # place of a milestone, from the milestone before (0) to the end (1)
MILESTONES = ("first", "second", "third")
DIGITS = 6  # of a milestone after rounding

Value = float | int | bool | str
Parameters = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """A number between `low` and `high`, or one of `choices`."""

    name: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """Draw on a log scale."""
    whole: bool = False
    """Allow integers only. The names of these fields are part of the ids of studies."""
    choices: tuple[Value, ...] = ()
    below: tuple[tuple[Value, tuple[Parameter, ...]], ...] = ()
    """Pairs of a value and the parameters that exist under it."""

    @property
    def single(self) -> bool:
        """True if the parameter has only one value."""
        return len(self.choices) == 1 if self.choices else self.low == self.high

    @property
    def only(self) -> Value:
        """The value of a parameter with a single value."""
        return self.choices[0] if self.choices else self._number(self.low)

    def contains(self, value: Any) -> bool:
        """Return whether `value` has the right type and is in range."""
        if self.choices:
            return any(type(value) is type(choice) and value == choice for choice in self.choices)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and value == self._number(value)

    def branch(self, value: Value) -> tuple[Parameter, ...]:
        """Return the parameters that exist under `value`."""
        return next((below for known, below in self.below if known == value), ())

    def _number(self, value: float) -> float | int:
        return int(value) if self.whole else value


Tree = tuple[Parameter, ...]
Suggest = Callable[[Parameter], Value]


def walk(tree: Tree, suggest: Suggest) -> Iterator[tuple[Parameter, Value]]:
    """Yield the parameters with the values that `suggest` gives them, in a fixed order."""
    for parameter in tree:
        value = parameter.only if parameter.single else suggest(parameter)
        yield parameter, value
        yield from walk(parameter.branch(value), suggest)


def conditions(tree: Tree) -> list[str]:
    """Return the names of parameters under which others exist."""
    names = []
    for parameter in tree:
        if parameter.below and not parameter.single:
            names.append(parameter.name)
        for _, below in parameter.below:
            names += conditions(below)
    return list(dict.fromkeys(names))


def tree_of(space: Space, recipe: Recipe, *, copied: bool) -> Tree:
    """Return the tree of a space around a recipe.

    `copied` adds the parameters of copied layers.
    """
    rate = space.rate or _around(recipe.rate, RATES)
    decay = space.weight_decay or _around(recipe.weight_decay, DECAYS)
    for_copied = (
        _number("copied_rate", space.copied_rate, log=True),
        _number("layer_decay", space.layer_decay),
        _switch("two_phases", _number("fresh_first", space.fresh_first)),
    )
    families = tuple((family, _families(space)[family]) for family in space.family)
    warmup = _switch("warms_up", _number("warmup", space.warmup, log=space.warmup[0] > 0))
    return (
        _number("rate", rate, log=True),
        _number("weight_decay", decay, log=decay[0] > 0),
        *(for_copied if copied else ()),
        Parameter(
            name="family",
            choices=space.family,
            below=tuple(  # one_cycle has a warm-up of its own
                (family, below if family == "one_cycle" else (*below, warmup))
                for family, below in families
            ),
        ),
    )


def _families(space: Space) -> dict[str, Tree]:
    """The parameters of each family."""
    low, high = (int(x) for x in space.drops)
    milestones = [_number(f"multi_step.{name}", FRACTIONS) for name in MILESTONES]
    drops = Parameter(
        name="multi_step.drops",
        low=low,
        high=high,
        whole=True,
        below=tuple((count, tuple(milestones[:count])) for count in range(low, high + 1)),
    )
    low, high = (int(x) for x in space.restarts)
    growth = (_number("cosine.growth", space.growth),)
    restarts = Parameter(
        name="cosine.restarts",
        low=low,
        high=high,
        whole=True,
        below=tuple((count, growth) for count in range(max(1, low), high + 1)),
    )
    return {
        "constant": (),
        "step": (
            _number("step.gamma", space.gamma, log=True),
            _number("step.every", space.every),
        ),
        "multi_step": (_number("multi_step.gamma", space.gamma, log=True), drops),
        "cosine": (_number("cosine.floor", space.floor), restarts),
        "linear": (_number("linear.floor", space.floor),),
        "one_cycle": (),
    }


def _around(value: float, factors: Bounds) -> Bounds:
    return value * factors[0], value * factors[1]


def _number(name: str, bounds: Bounds, *, log: bool = False) -> Parameter:
    return Parameter(name=name, low=bounds[0], high=bounds[1], log=log)


def _switch(name: str, parameter: Parameter) -> Parameter:
    """Switch that adds `parameter`. A fixed parameter is always on; a fixed 0 is always off."""
    choices = (parameter.low > 0,) if parameter.single else (False, True)
    return Parameter(name=name, choices=choices, below=((True, (parameter,)),))


def recipe_of(tree: Tree, parameters: Parameters, recipe: Recipe) -> Recipe:
    """Return a recipe, in steps, with the schedule of the parameters."""
    values: dict[str, Any] = {
        p.name: value for p, value in walk(tree, lambda p: parameters[p.name])
    }
    family = values["family"]
    assert recipe.steps is not None
    fields: dict[str, Any] = {"family": family, "warmup": values.get("warmup", 0.0)}
    prefix = f"{family}."
    fields |= {k.removeprefix(prefix): v for k, v in values.items() if k.startswith(prefix)}
    if family == "step":
        fields["every"] = max(1, round(fields["every"] * recipe.steps))
    if family == "multi_step":
        del fields["drops"]
        parts = [fields.pop(name) for name in MILESTONES if name in fields]
        fields["milestones"] = _milestones(parts)
    return dataclasses.replace(
        recipe,
        rate=values["rate"],
        weight_decay=values["weight_decay"],
        copied_rate=values.get("copied_rate", recipe.copied_rate),
        layer_decay=values.get("layer_decay", recipe.layer_decay),
        fresh_first=values.get("fresh_first", 0.0),
        stages=(),
        schedule=Schedule(**fields),
    )


def _milestones(parts: list[float]) -> tuple[float, ...]:
    """Return fractions of the training; each part is a fraction of the rest that is left."""
    milestones, at = [], 0.0
    for part in parts:
        at += (1 - at) * part
        milestones.append(round(at, DIGITS))
    return tuple(milestones)


def parameters_of(tree: Tree, recipe: Recipe) -> dict[str, Value] | None:
    """Return the parameters of a recipe's schedule, or None if it is outside of the space."""
    schedule, steps = recipe.schedule, recipe.steps
    assert steps is not None
    known: dict[str, Any] = {
        "rate": recipe.rate,
        "weight_decay": recipe.weight_decay,
        "copied_rate": recipe.copied_rate,
        "layer_decay": recipe.layer_decay,
        "two_phases": recipe.fresh_first > 0,
        "fresh_first": recipe.fresh_first,
        "family": schedule.family,
        "warms_up": schedule.warmup > 0,
        "warmup": schedule.warmup,
        "step.gamma": schedule.gamma,
        "step.every": (schedule.every or steps) / steps,
        "multi_step.gamma": schedule.gamma,
        "multi_step.drops": len(schedule.milestones),
        "cosine.floor": schedule.floor,
        "cosine.restarts": schedule.restarts,
        "cosine.growth": schedule.growth,
        "linear.floor": schedule.floor,
    }
    before = (0.0, *schedule.milestones)
    for name, at, last in zip(MILESTONES, schedule.milestones, before, strict=False):
        known[f"multi_step.{name}"] = (at - last) / (1 - last)
    if recipe.stages or (schedule.family == "one_cycle" and schedule.warmup):
        return None
    parameters = {}
    for parameter, value in walk(tree, lambda p: known[p.name]):
        setting = known[parameter.name]
        if parameter.single and not _equal(setting, value):
            return None
        if not parameter.single:
            if not parameter.contains(value):
                return None
            parameters[parameter.name] = value
    return parameters


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-9)
    return type(one) is type(other) and bool(one == other)


def changed(tree: Tree, parameters: Parameters, changes: Parameters) -> dict[str, Value] | None:
    """Return the parameters with `changes`, or None if the result is outside of the space.

    A change of the family must come with the parameters of that family.
    """
    merged = {**parameters, **changes}
    result = {}
    for parameter, value in walk(tree, lambda p: merged.get(p.name)):  # type: ignore[arg-type, return-value]
        if not parameter.single:
            if not parameter.contains(value):
                return None
            result[parameter.name] = value
    return result if set(changes) <= set(result) else None
