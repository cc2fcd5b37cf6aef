"""Axes of a sweep file: a grid for each combination of values of recipe keys. Plain data.

`axes: {recipe.rate: [0.01, 0.1]}` makes two grids of one, `/recipe_rate=0_01` and
`/recipe_rate=0_1`. The part of the name before the slash is that of the grid as it was written;
it is empty for a sweep without `grids`.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from orchestrator.errors import SweepError
from orchestrator.sweep.fields import A_NAME
from orchestrator.sweep.source import Path, Source, dotted, shown

KEY = "axes"
OF_AXES = (("recipe",), ("fine_tune", "recipe"))  # mappings whose keys can be axes
LENGTHS = {"steps", "epochs"}  # one replaces the other
MOST_GRIDS = 1000
SEPARATOR = "/"


def expand(data: Mapping[str, Any], source: Source) -> dict[str, Any]:
    """Return the data of a sweep whose `axes` are replaced by `grids`.

    A grid's own `axes` replace those of the sweep. Raises `SweepError` for a wrong axis, and for a
    change of the command line that an axis would override.
    """
    grids = data.get("grids")
    has_grids = isinstance(grids, dict) and bool(grids)
    inner = grids if isinstance(grids, dict) and grids else {"": {}}
    expanded: dict[str, Any] = {}
    for name, grid in inner.items():
        if SEPARATOR in name:
            raise SweepError([source.mistake(("grids", name), A_NAME)])
        has_axes = isinstance(grid, dict) and KEY in grid
        axes = grid[KEY] if has_axes else data.get(KEY)
        if not isinstance(grid, dict) or not axes:
            expanded[name] = grid
            continue
        place: Path = ("grids", name, KEY) if has_axes else (KEY,)
        _check(axes, place, data, source)
        for changes in _combinations(axes):
            label = ",".join(f"{key}={_text(value)}" for key, value in changes.items())
            expanded[f"{name}{SEPARATOR}{label}".replace(".", "_")] = _changed(data, grid, changes)
    if not has_grids and "" in expanded:
        return dict(data)
    return {**data, "grids": expanded}


def written_at(path: Path, source: Source) -> Path:
    """Return the path in the file for a path in a grid that `expand` made."""
    if path[:1] != ("grids",) or len(path) < 2 or SEPARATOR not in str(path[1]):
        return path
    name, rest = str(path[1]).partition(SEPARATOR)[0], path[2:]
    grid: Path = ("grids", name) if name else ()
    for axis in (*([(*grid, KEY)] if name else []), (KEY,)):
        for place in (*source.lines, *source.overrides):
            if len(place) == len(axis) + 1 and place[:-1] == axis:
                keys = tuple(str(place[-1]).split("."))
                if rest[: len(keys)] == keys:
                    return place
    return (*grid, *rest)


def _combinations(axes: Mapping[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _changed(
    data: Mapping[str, Any], grid: Mapping[str, Any], changes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the grid, which inherits from `data`, with a value for each axis."""
    result: dict[str, Any] = copy.deepcopy({k: v for k, v in grid.items() if k != KEY})
    for key, value in changes.items():
        *above, last = key.split(".")
        target, inherited = result, data
        for part in above:
            inherited = inherited.get(part) or {} if isinstance(inherited, Mapping) else {}
            # `recipe` and `fine_tune` inherit key by key; a mapping below them is one value.
            is_one_value = part not in ("recipe", "fine_tune")
            start = copy.deepcopy(inherited) if is_one_value else {}
            if not isinstance(target.get(part), dict):
                target[part] = start if isinstance(start, dict) else {}
            target = target[part]
        if last in LENGTHS:
            for length in LENGTHS:
                target.pop(length, None)
        target[last] = value
    return result


def _check(axes: Any, place: Path, data: Mapping[str, Any], source: Source) -> None:
    """Raise `SweepError` unless `axes` are lists of distinct values of recipe keys."""
    if not isinstance(axes, dict):
        expected = f"expected keys with lists, {{recipe.rate: [0.01, 0.1]}}, found {shown(axes)}"
        raise SweepError([source.mistake(place, expected)])
    mistakes = []
    for key, values in axes.items():
        texts = list(map(json.dumps, values)) if isinstance(values, list) else []
        message = ""
        if not any(tuple(key.split("."))[: len(x)] == x != (key,) for x in OF_AXES):
            message = "expected a key of recipe or fine_tune.recipe, such as recipe.rate"
        elif not texts:
            message = f"expected a list of values, found {shown(values)}"
        elif repeated := [x for x in dict.fromkeys(texts) if texts.count(x) > 1]:
            message = f"{repeated[0]} is given twice"
        elif change := _lost(tuple(key.split(".")), data, source):
            line = f"--set {dotted(change)}: {key} is an axis, of which each value is trained"
            raise SweepError([f"{line}; change the axis: --set '{dotted((*place, key))}=[…]'"])
        if message:
            mistakes.append(source.mistake((*place, key), message))
    if mistakes:
        raise SweepError(mistakes)
    count = len(list(itertools.islice(_combinations(axes), MOST_GRIDS + 1)))
    if count > MOST_GRIDS:
        message = f"expected at most {MOST_GRIDS} combinations of values"
        raise SweepError([source.mistake(place, message)])


def _lost(key: Path, data: Mapping[str, Any], source: Source) -> Path | None:
    """Return the path of a change that sets the key of an axis, and would have no effect."""
    same = [(*key[:-1], length) for length in LENGTHS] if key[-1] in LENGTHS else [key]
    for change in source.overrides:
        place = change[2:] if change[:1] == ("grids",) else change
        for path in same:
            if place[: len(path)] == path or (
                path[: len(place)] == place and _holds(data, (*change, *path[len(place) :]))
            ):
                return change
    return None


def _holds(data: Any, path: Path) -> bool:
    for part in path:
        if not isinstance(data, Mapping) or part not in data:
            return False
        data = data[part]
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
