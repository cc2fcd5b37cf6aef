"""Errors of pydantic as lines for the user, in the words of a sweep file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from orchestrator.sweep import axes, inheritance
from orchestrator.sweep.features import Features
from orchestrator.sweep.fields import A_NAME
from orchestrator.sweep.schema import FineTune, Grid, Halves, Resources, Splits, Sweep
from orchestrator.sweep.search import Search, Space
from orchestrator.sweep.source import Path, Source, dotted, shown
from orchestrator.sweep.tasks import NamedTask, Weights
from trainers.canonical import ConfigError
from trainers.config import TaskForm
from trainers.recipe import Recipe, Schedule, Stage, Stop
from trainers.spelling import hint, suggestion

EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
}
BY_PYDANTIC = re.compile(r"\[key\]|(literal|tuple)\[")  # parts of a place that no file has
SIGNS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def explanation(error: Mapping[str, Any], source: Source) -> str | None:
    """Return the line for one of pydantic's errors; None for a value inherited from elsewhere.

    The mistake in an inherited value is reported where the value was written.
    """
    parts: Path = tuple(part for part in error["loc"] if not BY_PYDANTIC.match(str(part)))
    path = axes.written_at(parts, source)
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError) and cause.field:
        parts = (*parts, cause.field)
        path = axes.written_at(parts, source)
    if inheritance.is_inherited(path, source):
        return None
    return source.mistake(path, message(error, parts))


def message(error: Mapping[str, Any], path: Path) -> str:
    """Return one of pydantic's errors in our words."""
    kind, value, context = error["type"], error["input"], error.get("ctx", {})
    match kind:
        case "extra_forbidden" | "unexpected_keyword_argument":
            key, known = str(path[-1]), _known_keys(path[:-1])
            near = _elsewhere(key) or hint(key, known) or f"; known: {', '.join(known)}"
            return f"unknown key {key!r}{near}"
        case "missing" | "missing_argument":
            return "the key is missing"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            choices = re.findall(r"'([^']+)'", context["expected"])
            near = hint(str(value), choices)
            return f"expected one of {', '.join(choices)}, found {shown(value)}{near}"
        case "string_pattern_mismatch":
            return f"{A_NAME}, found {shown(value)}"
    signs = ((sign, context[name]) for name, sign in SIGNS.items() if name in context)
    bounds = [f"x {sign} {_bound(value)}" for sign, value in signs]
    if kind in EXPECTED or bounds:
        return f"expected {EXPECTED.get(kind) or ' and '.join(bounds)}, found {shown(value)}"
    return f"{error['msg']}, found {shown(value)}"


def _bound(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _elsewhere(key: str) -> str:
    """Return `; did you mean 'recipe.steps'?` for the key of another mapping; else nothing."""
    paths: list[Path] = [("recipe",), ("recipe", "schedule"), ("splits",), ("fine_tune",)]
    paths += [("fine_tune", "search"), ()]
    places = [dotted((*path, key)) for path in paths if key in _known_keys(path)]
    return suggestion(places[0]) if places else ""


def _known_keys(path: Path) -> list[str]:
    """Return the keys of the mapping at a path."""
    if path[:1] == ("grids",):
        return list(Grid.model_fields) if len(path) == 2 else _known_keys(path[2:])
    settings = {"schedule": Schedule, "recipe": Recipe, "stop": Stop, "form": TaskForm}
    last = "stages" if path[-2:-1] == ("stages",) else path[-1] if path else ""
    if kind := (settings | {"stages": Stage}).get(str(last)):
        return [field.name for field in dataclasses.fields(kind)]
    models: dict[Path, type[BaseModel]] = {
        (): Sweep,
        ("splits",): Splits,
        ("fine_tune",): FineTune,
        ("fine_tune", "search"): Search,
        ("fine_tune", "search", "space"): Space,
    }
    inner: dict[str, type[BaseModel]] = {
        "features": Features,
        "resources": Resources,
        "splits": Halves,
        "tasks": NamedTask,
        "weights": Weights,
    }
    model = models.get(path) or inner[str(path[0])]
    return list(model.model_fields)
