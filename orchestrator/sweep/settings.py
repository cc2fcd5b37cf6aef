"""Settings of a sweep: all that decides which networks are trained, as plain data to compare.

Resources, snapshots, kept checkpoints and places of data are left out: they change no result.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import shown

WITHOUT_EFFECT = ("name", "keep", "resources", "checkpoint_seconds", "reference", "lanes")
PLACE_OF_DATA = ("root", "download")
LONGEST_NAME = 120
Change = tuple[tuple[str, ...], Any]  # path and value of `--set`


def settings(sweep: Sweep) -> dict[str, Any]:
    """Return the settings of a sweep by dotted key: `{"recipe.steps": 100, …}`."""
    data = sweep.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
    tasks = data["tasks"].values()
    for dataset in filter(None, (data["dataset"], *(task["dataset"] for task in tasks))):
        for key in PLACE_OF_DATA:
            dataset.pop(key)
    if data["grids"]:  # each grid holds the keys that it inherits
        data = {key: value for key, value in data.items() if key not in Grid.model_fields}
    return _flat(data)


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that differ, by key: `was 400 and is 100`."""
    absent = object()
    texts = {}
    for key in dict.fromkeys([*old, *new]):
        was, now = old.get(key, absent), new.get(key, absent)
        if was != now:
            first, second = ("not given" if x is absent else shown(x) for x in (was, now))
            texts[key] = f"was {first} and is {second}"
    return texts


def changed_name(name: str, changes: Sequence[Change]) -> str:
    """Return the name of a changed sweep: `digits+recipe.steps=100`, in the order of the keys.

    Characters that a file, a URL or an SQL string cannot hold are replaced. A hash follows if this,
    or a cut after `LONGEST_NAME` characters, loses something.
    """
    ordered = sorted(changes, key=lambda change: change[0])
    exact = [(".".join(path), json.dumps(value, sort_keys=True)) for path, value in ordered]
    text = "".join(f"+{'.'.join(path)}={_plain(value)}" for path, value in ordered)
    safe = re.sub(r"[^A-Za-z0-9_.,+=-]+", "_", text)
    is_exact = safe == text and not any(_is_nested(value) for _, value in ordered)
    if is_exact and len(name + safe) <= LONGEST_NAME:
        return name + safe
    digest = hashlib.sha256(json.dumps(exact).encode()).hexdigest()[:8]
    return f"{(name + safe)[: LONGEST_NAME - 9]}-{digest}"


def _plain(value: Any) -> str:
    """Return a value as a name holds it: `0,1` for a list of numbers."""
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    if isinstance(value, dict):
        return ",".join(f"{key}={_plain(item)}" for key, item in sorted(value.items()))
    return value if isinstance(value, str) else json.dumps(value)


def _is_nested(value: Any) -> bool:
    """Return whether `_plain` could be the text of another value, too."""
    if isinstance(value, list):
        return not value or any(isinstance(x, list | dict) or "," in _plain(x) for x in value)
    return isinstance(value, dict) or (isinstance(value, str) and bool(re.search("[+,=]", value)))


def _flat(data: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in data.items():
        here = above if key == "options" else f"{above}.{key}" if above else key
        if isinstance(value, dict):
            flat |= _flat(value, here)
        elif value is not None:
            flat[here] = value
    return flat
