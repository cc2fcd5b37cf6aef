"""Load a sweep file as a `Sweep`. Every mistake is one line with file, line and key."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.resources
import json
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.errors import SweepError
from orchestrator.sweep import axes, inheritance
from orchestrator.sweep import source as yaml_source
from orchestrator.sweep.consistency import check_consistency
from orchestrator.sweep.features import Features
from orchestrator.sweep.fields import A_NAME
from orchestrator.sweep.schema import FineTune, Grid, Halves, Resources, Splits, Sweep
from orchestrator.sweep.search import Search, Space
from orchestrator.sweep.settings import changed_name, settings
from orchestrator.sweep.source import CHANGED, Source, shown
from orchestrator.sweep.source import Path as KeyPath
from orchestrator.sweep.tasks import NamedTask, Weights
from trainers.canonical import ConfigError
from trainers.config import TaskForm
from trainers.recipe import Recipe, Schedule, Stage, Stop
from trainers.spelling import hint, suggestion


def load_sweep(
    argument: str, changes: Sequence[str] = (), known: Sequence[str] = ()
) -> tuple[Sweep, Source]:
    """Return the sweep called `argument` with changes `key.path=value`. Raises `SweepError`.

    `argument` is the name of a bundled sweep or a path. `paper:tiny` is the form `tiny` of the
    sweep `paper`. A change that decides what is trained is part of the sweep's name. `known` are
    other names that a misspelt argument may have meant.
    """
    name, forms = _split_forms(argument)
    text, label = read_sweep(name, known)
    options = [part for change in changes for part in ("--set", change)]
    return _changed_sweep(text, label, forms, changes, shlex.join([argument, *options]))


def load_recorded(name: str, text: str, forms: Sequence[str] = ()) -> tuple[Sweep, Source]:
    """Return the sweep that a store recorded under `name`. Raises `SweepError`.

    `text` is the result of `Source.record`.
    """
    lines = text.splitlines()
    start = len(lines)
    while start and lines[start - 1].startswith(CHANGED):
        start -= 1
    changes = [line.removeprefix(CHANGED) for line in lines[start:]]
    loaded = _changed_sweep("\n".join(lines[:start]) + "\n", name, forms, changes, name)
    _import_from(Path.cwd())
    return loaded


def _changed_sweep(
    text: str, label: str, forms: Sequence[str], changes: Sequence[str], command: str
) -> tuple[Sweep, Source]:
    """Return a sweep with these forms and changes, under a name that says them.

    `text` is the content of its file, and `command` names the sweep in other commands.
    """
    sweep, source = _sweep_of(text, label, forms, changes, command)
    last = {inheritance.parse_change(change)[0]: change for change in changes}
    if not last or ("name",) in last:
        return sweep, source
    new, others = settings(sweep), list(last.values())
    with contextlib.suppress(SweepError):
        if settings(_sweep_of(text, label, forms, ())[0]) == new:
            return sweep, source
    effective = [
        one
        for one in others
        if _settings_without(text, label, forms, [x for x in others if x != one]) != new
    ]
    named = [inheritance.parse_change(change) for change in effective or others]
    return sweep.model_copy(update={"name": changed_name(sweep.name, named)}), source


def _settings_without(
    text: str, label: str, forms: Sequence[str], others: Sequence[str]
) -> dict[str, Any] | None:
    """Return the settings of a sweep with the other changes only; None if it needs all."""
    try:
        return settings(_sweep_of(text, label, forms, others)[0])
    except SweepError:
        return None


def _sweep_of(
    text: str, label: str, forms: Sequence[str], changes: Sequence[str], command: str = ""
) -> tuple[Sweep, Source]:
    data, source = yaml_source.parse(text, label, command, forms, changes)
    if not isinstance(data, dict):
        raise SweepError([source.mistake((), "expected a mapping with keys such as name, dataset")])
    for form in forms:
        inheritance.apply_form(data, form, source)
    for change in changes:
        inheritance.override(data, change, source)
    return validate(data, source), source


def _split_forms(argument: str) -> tuple[str, list[str]]:
    """Split `paper:tiny` into the sweep's name and the names of forms."""
    match = re.fullmatch(r"(.+?)((?::[\w-]+)+)", argument)
    return (match[1], match[2][1:].split(":")) if match else (argument, [])


def bundled_sweeps() -> list[str]:
    """Return the names of the sweeps that come with the project."""
    folder = importlib.resources.files("sweeps")
    names = (entry.name for entry in folder.iterdir())
    return sorted(n.removesuffix(".yaml") for n in names if n.endswith(".yaml"))


def is_file_or_bundled(argument: str) -> bool:
    """Return whether an argument names a bundled sweep or a file, rather than one of a store."""
    name = _split_forms(argument)[0]
    path = Path(name)
    return name in bundled_sweeps() or path.suffix in (".yaml", ".yml") or path.exists()


def read_sweep(name: str, known: Sequence[str] = ()) -> tuple[str, str]:
    """Return the content of a sweep file and a name for messages. Raises `SweepError`.

    `name` is a bundled sweep or a path. The folders from which a user's own dataset or network may
    be imported are added to `sys.path`.
    """
    if name in bundled_sweeps():
        resource = importlib.resources.files("sweeps") / f"{name}.yaml"
        return resource.read_text(encoding="utf-8"), f"{name}.yaml"
    path = Path(name)
    try:
        if path.suffix not in (".yaml", ".yml") and not path.exists():
            near = (
                hint(name, [*known, *bundled_sweeps()])
                or f"; bundled sweeps: {', '.join(bundled_sweeps())}"
            ) + (f"; in the store: {', '.join(known)}" if known else "")
            expected = "expected a YAML file or a bundled sweep"
            raise SweepError([f"no sweep {name!r}: {expected}{near}"])
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SweepError([f"{path}:1: the file is not UTF-8"]) from error
    except OSError as error:
        raise SweepError([f"{path}: cannot read the sweep file: {error.strerror}"]) from error
    _import_from(path.resolve().parent, Path.cwd())
    return text, str(path)


def _import_from(*folders: Path) -> None:
    """Search a user's folders after all else.

    A file `torch.py` of theirs must not take the place of what is installed.
    """
    sys.path += [str(folder) for folder in folders if str(folder) not in sys.path]


def validate(data: dict[str, Any], source: Source) -> Sweep:
    """Return the sweep of a file's data. Raises `SweepError` with a line for each mistake."""
    inheritance.check_forms(data, source)
    data = {key: value for key, value in data.items() if key != "forms"}
    data = inheritance.complete(data, tuple(Grid.model_fields), source)
    try:
        sweep = Sweep.model_validate_json(json.dumps(data))
    except ValidationError as error:
        lines = [_explain(item, source) for item in error.errors()]
        first = error.errors()[0]  # where all are inherited, nothing else would be said
        said = [line for line in lines if line]
        said = said or [source.mistake(first["loc"], _message(first, first["loc"]))]
        raise SweepError(list(dict.fromkeys(said))) from error
    check_consistency(sweep, source)
    return sweep


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


def _explain(error: Mapping[str, Any], source: Source) -> str | None:
    """Return the line for one of pydantic's errors; None for a value inherited from elsewhere.

    The mistake in an inherited value is reported where the value was written.
    """
    parts: KeyPath = tuple(part for part in error["loc"] if not BY_PYDANTIC.match(str(part)))
    path = axes.written_at(parts, source)
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, ConfigError) and cause.field:
        parts = (*parts, cause.field)
        path = axes.written_at(parts, source)
    if inheritance.is_inherited(path, source):
        return None
    return source.mistake(path, _message(error, parts))


def _message(error: Mapping[str, Any], path: KeyPath) -> str:
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
    paths: list[KeyPath] = [("recipe",), ("recipe", "schedule"), ("splits",), ("fine_tune",)]
    paths += [("fine_tune", "search"), ()]
    places = [yaml_source.dotted((*path, key)) for path in paths if key in _known_keys(path)]
    return suggestion(places[0]) if places else ""


def _known_keys(path: KeyPath) -> list[str]:
    """Return the keys of the mapping at a path."""
    if path[:1] == ("grids",):
        return list(Grid.model_fields) if len(path) == 2 else _known_keys(path[2:])
    settings = {"schedule": Schedule, "recipe": Recipe, "stop": Stop, "form": TaskForm}
    last = "stages" if path[-2:-1] == ("stages",) else path[-1] if path else ""
    if kind := (settings | {"stages": Stage}).get(str(last)):
        return [field.name for field in dataclasses.fields(kind)]
    models: dict[KeyPath, type[BaseModel]] = {
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
