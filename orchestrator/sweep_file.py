"""From a sweep file to a `Sweep`; every mistake is one line with file, line and key."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator import yaml_source
from orchestrator.errors import SweepError
from orchestrator.spec import A_NAME, NAME, FineTune, Halves, Resources, Splits, Sweep
from orchestrator.yaml_source import Source, hint, shown
from trainers.config import ConfigError, Recipe, Schedule


def bundled() -> list[str]:
    """Names of the sweeps that come with the project."""
    folder = importlib.resources.files("sweeps")
    names = (entry.name for entry in folder.iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def read(name: str) -> tuple[str, str]:
    """Text and display name of a sweep: the name of a bundled one, or a file's path."""
    if name in bundled():
        resource = importlib.resources.files("sweeps") / f"{name}.yaml"
        return resource.read_text(encoding="utf-8"), f"{name}.yaml"
    path = Path(name)
    try:
        if path.suffix not in (".yaml", ".yml") and not path.exists():
            near = hint(name, bundled()) or f"; bundled sweeps: {', '.join(bundled())}"
            expected = "expected a YAML file or a bundled sweep"
            raise SweepError([f"no sweep {name!r}: {expected}{near}"])
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SweepError([f"{path}:1: this is not a text file (UTF-8)"]) from error
    except OSError as error:
        raise SweepError([f"{path}: cannot read the sweep file: {error.strerror}"]) from error
    for folder in (Path.cwd(), path.resolve().parent):  # a user's own dataset and network
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    return text, str(path)


def load(name: str, overrides: Sequence[str] = ()) -> tuple[Sweep, Source]:
    """The sweep called `name`, with `key.path=value` overrides. Raises `SweepError`."""
    text, shown = read(name)
    data, source = yaml_source.parse(text, shown)
    source.argument, source.changes = name, list(overrides)
    if not isinstance(data, dict):
        raise SweepError([source.mistake((), "expected a mapping with keys such as name, dataset")])
    for override in overrides:
        _override(data, override, source)
    return validate(data, source), source


def validate(data: dict[str, Any], source: Source) -> Sweep:
    """Check the data of a sweep file. Raises `SweepError` with a line for each mistake."""
    data = _with_fine_tune_recipe(data)
    try:
        sweep = Sweep.model_validate_json(json.dumps(data))
    except ValidationError as error:
        mistakes = [_explain(item, data, source) for item in error.errors()]
        raise SweepError(list(dict.fromkeys(m for m in mistakes if m))) from error
    if found := _contradictions(sweep):
        raise SweepError([source.mistake(path, message) for path, message in found])
    return sweep


def _contradictions(sweep: Sweep) -> list[tuple[yaml_source.Path, str]]:
    """What each key alone cannot show."""
    found: list[tuple[yaml_source.Path, str]] = []
    names = [f"s{seed}" for seed in sweep.splits.random] + list(sweep.splits.named)
    if not names:
        found.append(
            (("splits",), "the grid is empty: expected seeds under random, or named splits")
        )
    for name in sweep.splits.named:
        if not re.fullmatch(NAME, name):
            found.append((("splits", "named", name), A_NAME))
    for name in _repeated(names):
        found.append((("splits",), f"two splits are called {name}"))
    for field in ("treatments", "seeds"):
        values = getattr(sweep, field)
        if not values:
            found.append(((field,), "the grid is empty: expected at least one"))
    for field in ("treatments", "layers", "seeds"):
        for value in _repeated(getattr(sweep, field)):
            found.append(((field,), f"{value} is given twice"))
    for index, treatment in enumerate(sweep.treatments):
        if treatment.startswith(("selffer", "transfer")) and "base" not in sweep.treatments:
            found.append((("treatments", index), f"{treatment} copies layers of base: add base"))
    for path, recipe in (
        (("recipe",), sweep.recipe),
        (("fine_tune", "recipe"), sweep.fine_tune.recipe),
    ):
        if recipe is not None and (recipe.steps is None) == (recipe.epochs is None):
            count = "neither" if recipe.steps is None else "both"
            found.append((path, f"expected steps or epochs, found {count}"))
            break  # what fine-tuned trials inherit is said once
    return found


def _repeated(values: Sequence[Any]) -> list[Any]:
    return [value for value, count in Counter(values).items() if count > 1]


def _with_fine_tune_recipe(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `fine_tune.recipe` completed by `recipe`; steps there replace epochs here."""
    recipe, fine_tune = data.get("recipe"), data.get("fine_tune")
    if not isinstance(fine_tune, dict) or not isinstance(recipe, dict):
        return data
    own = fine_tune.get("recipe")
    if not isinstance(own, dict):
        return data
    inherited = dict(recipe)
    if {"steps", "epochs"} & set(own):
        inherited = {k: v for k, v in recipe.items() if k not in ("steps", "epochs")}
    return {**data, "fine_tune": {**fine_tune, "recipe": {**inherited, **own}}}


def _override(data: dict[str, Any], override: str, source: Source) -> None:
    """Apply one `key.path=value` to the data of a sweep file; the value is YAML."""
    dotted, equals, text = override.partition("=")
    path = tuple(dotted.strip().split("."))
    if not equals or not all(path):
        raise SweepError([f"--set {override}: expected key=value, such as recipe.steps=100"])
    value = yaml_source.parse(text, f"--set {dotted}")[0] if text.strip() else None
    parent = data
    for part in path[:-1]:
        if isinstance(parent.get(part), str) and part in ("dataset", "network"):
            parent[part] = {"name": parent[part]}
        parent = parent.setdefault(part, {})
        if not isinstance(parent, dict):
            raise SweepError([f"--set {override}: {part} is not a mapping"])
    parent[path[-1]] = value
    source.override(path)


EXPECTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "dataclass_type": "a mapping",
    "dataclass_exact_type": "a mapping",
}


def _explain(item: Any, data: dict[str, Any], source: Source) -> str | None:
    """pydantic's account of a mistake in our words; none for one that is told elsewhere."""
    path: yaml_source.Path = tuple(part for part in item["loc"] if part != "[key]")
    if isinstance(error := item.get("ctx", {}).get("error"), ConfigError) and error.field:
        path = (*path, error.field)
    if path[:2] == ("fine_tune", "recipe") and len(path) > 2:
        inherited = path not in source.lines and path not in source.overrides
        if inherited and path[2] in data.get("recipe", {}):
            return None  # said of recipe itself
    kind, found, context = item["type"], item["input"], item.get("ctx", {})
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        key, known = str(path[-1]), _known_keys(path[:-1])
        return source.mistake(
            path, f"unknown key {key!r}{hint(key, known) or '; known: ' + ', '.join(known)}"
        )
    if kind in ("missing", "missing_argument"):
        return source.mistake(path, "the key is missing")
    if kind == "literal_error":
        choices = re.findall(r"'([^']+)'", context["expected"])
        near = hint(str(found), choices)
        return source.mistake(
            path, f"expected one of {', '.join(choices)}, found {shown(found)}{near}"
        )
    if kind == "value_error":
        return source.mistake(path, str(context["error"]))
    if kind == "string_pattern_mismatch":
        return source.mistake(path, f"{A_NAME}, found {shown(found)}")
    if kind in EXPECTED:
        return source.mistake(path, f"expected {EXPECTED[kind]}, found {shown(found)}")
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    bounds = [f"x {signs[name]} {shown(value)}" for name, value in context.items() if name in signs]
    message = f"expected {' and '.join(bounds)}" if bounds else item["msg"]
    return source.mistake(path, f"{message}, found {shown(found)}")


def _known_keys(path: yaml_source.Path) -> list[str]:
    """The keys that a mapping at this path may have."""
    if path and path[-1] == "schedule":
        return [field.name for field in dataclasses.fields(Schedule)]
    if path and path[-1] == "recipe":
        return [field.name for field in dataclasses.fields(Recipe)]
    models: dict[yaml_source.Path, type[BaseModel]] = {
        (): Sweep,
        ("splits",): Splits,
        ("fine_tune",): FineTune,
    }
    inner: dict[str, type[BaseModel]] = {"resources": Resources, "splits": Halves}
    model = models.get(path) or inner[str(path[0])]
    return list(model.model_fields)
