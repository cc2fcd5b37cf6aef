"""From a sweep file to a `Sweep`; every mistake is one line with file, line and key."""

from __future__ import annotations

import dataclasses
import importlib.resources
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator import inheritance, yaml_source
from orchestrator.contradictions import contradictions
from orchestrator.errors import SweepError
from orchestrator.search.declaration import Search, Space
from orchestrator.spec import A_NAME, FineTune, Grid, Halves, Resources, Splits, Sweep
from orchestrator.yaml_source import Path as KeyPath
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


def load(argument: str, changes: Sequence[str] = ()) -> tuple[Sweep, Source]:
    """The sweep called `argument`, with `key.path=value` changes. Raises `SweepError`.

    `paper:tiny` is the form `tiny` of the sweep `paper`.
    """
    name, forms = _forms(argument)
    text, shown = read(name)
    data, source = yaml_source.parse(text, shown)
    source.argument, source.changes = argument, list(changes)
    if not isinstance(data, dict):
        raise SweepError([source.mistake((), "expected a mapping with keys such as name, dataset")])
    for form in forms:
        inheritance.apply_form(data, form, source)
    for change in changes:
        inheritance.override(data, change, source)
    return validate(data, source), source


def _forms(argument: str) -> tuple[str, list[str]]:
    """A sweep's name or path, and the forms of it that are asked for."""
    match = re.fullmatch(r"(.+?)((?::[\w-]+)+)", argument)
    return (match[1], match[2][1:].split(":")) if match else (argument, [])


def validate(data: dict[str, Any], source: Source) -> Sweep:
    """Check the data of a sweep file. Raises `SweepError` with a line for each mistake."""
    inheritance.check_forms(data, source)
    data = {key: value for key, value in data.items() if key != "forms"}
    data = inheritance.complete(data, tuple(Grid.model_fields))
    try:
        sweep = Sweep.model_validate_json(json.dumps(data))
    except ValidationError as error:
        mistakes = [_explain(item, source) for item in error.errors()]
        raise SweepError(list(dict.fromkeys(m for m in mistakes if m))) from error
    if found := contradictions(sweep, source):
        raise SweepError([source.mistake(path, message) for path, message in found])
    return sweep


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


def _explain(item: Any, source: Source) -> str | None:
    """pydantic's account of a mistake in our words; none for one that is told elsewhere."""
    path: KeyPath = tuple(part for part in item["loc"] if part != "[key]")
    if isinstance(error := item.get("ctx", {}).get("error"), ConfigError) and error.field:
        path = (*path, error.field)
    if inheritance.inherited(path, source):
        return None  # said of what it is inherited from
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


def _known_keys(path: KeyPath) -> list[str]:
    """The keys that a mapping at this path may have."""
    if path[:1] == ("grids",):
        return list(Grid.model_fields) if len(path) == 2 else _known_keys(path[2:])
    if path and path[-1] == "schedule":
        return [field.name for field in dataclasses.fields(Schedule)]
    if path and path[-1] == "recipe":
        return [field.name for field in dataclasses.fields(Recipe)]
    models: dict[KeyPath, type[BaseModel]] = {
        (): Sweep,
        ("splits",): Splits,
        ("fine_tune",): FineTune,
        ("fine_tune", "search"): Search,
        ("fine_tune", "search", "space"): Space,
    }
    inner: dict[str, type[BaseModel]] = {"resources": Resources, "splits": Halves}
    model = models.get(path) or inner[str(path[0])]
    return list(model.model_fields)
