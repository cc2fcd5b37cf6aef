"""Load a sweep file as a `Sweep`. Every mistake is one line with file, line and key."""

from __future__ import annotations

import contextlib
import importlib.resources
import json
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import SweepError
from orchestrator.sweep import inheritance
from orchestrator.sweep import source as yaml_source
from orchestrator.sweep.consistency import check_consistency
from orchestrator.sweep.messages import explanation, message
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.settings import changed_name, settings
from orchestrator.sweep.source import CHANGED, Source
from trainers.spelling import hint


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
        lines = [explanation(item, source) for item in error.errors()]
        first = error.errors()[0]  # where all are inherited, nothing else would be said
        said = [line for line in lines if line]
        said = said or [source.mistake(first["loc"], message(first, first["loc"]))]
        raise SweepError(list(dict.fromkeys(said))) from error
    check_consistency(sweep, source)
    return sweep
