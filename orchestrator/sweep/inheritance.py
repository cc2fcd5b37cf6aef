"""Keys that a sweep file leaves out, filled in before validation. Plain data in, plain data out.

A form is laid over the sweep, `--set` changes one key, grids inherit from the sweep, and the recipe
of fine-tuned trials inherits from the recipe. `Source` records where each value was written.
"""

from __future__ import annotations

from typing import Any

from orchestrator.errors import SweepError
from orchestrator.sweep import axes
from orchestrator.sweep import source as yaml_source
from orchestrator.sweep.source import Path, Source, shown
from trainers.config import is_own
from trainers.spelling import hint

LENGTHS = {"steps", "epochs"}
COMPONENTS = ("dataset", "network")


def check_forms(data: dict[str, Any], source: Source) -> None:
    """Raise `SweepError` unless `forms` is a mapping of names to mappings."""
    forms = data.get("forms", {})
    if not isinstance(forms, dict):
        message = f"expected a name and a mapping for each form, found {shown(forms)}"
        raise SweepError([source.mistake(("forms",), message)])
    mistakes = [
        source.mistake(("forms", name), f"expected a mapping, found {shown(form)}")
        for name, form in forms.items()
        if not isinstance(form, dict)
    ]
    if mistakes:
        raise SweepError(mistakes)


def apply_form(data: dict[str, Any], form: str, source: Source) -> None:
    """Lay `forms.<form>` over the sweep. Raises `SweepError` for an unknown form.

    Mappings are merged, except that a mapping with a `name` replaces the old one.
    """
    forms = data.get("forms")
    if not isinstance(forms, dict) or not isinstance(forms.get(form), dict):
        known = list(forms) if isinstance(forms, dict) else []
        near = hint(form, known) or f"; known: {', '.join(known) or 'none'}"
        raise SweepError([source.mistake(("forms",), f"unknown form {form!r}{near}")])
    _lay_over(data, forms[form], (), ("forms", form), source)


def _lay_over(
    under: dict[str, Any], over: dict[str, Any], path: Path, origin: Path, source: Source
) -> None:
    """Merge `over`, written at `origin`, into `under`, which stands at `path`."""
    for key, value in over.items():
        here, there = (*path, key), (*origin, key)
        if isinstance(value, dict) and key in COMPONENTS and isinstance(under.get(key), str):
            under[key] = {"name": under[key]}
        both_are_mappings = isinstance(value, dict) and isinstance(under.get(key), dict)
        if both_are_mappings and "name" not in value:
            source.lines[here] = source.lines.get(there, 1)
            _lay_over(under[key], value, here, there, source)
        else:
            under[key] = value
            source.move(there, here)


def parse_change(change: str) -> tuple[tuple[str, ...], Any]:
    """Return path and value of a change `key.path=value`. Raises `SweepError`."""
    dotted, equals, text = change.partition("=")
    path = tuple(dotted.strip().split("."))
    if not equals or not all(path):
        raise SweepError([f"--set {change}: expected key=value, such as recipe.steps=100"])
    return path, yaml_source.parse(text, f"--set {dotted}")[0] if text.strip() else None


def override(data: dict[str, Any], change: str, source: Source) -> None:
    """Apply a change `key.path=value` of the command line, whose value is YAML.

    Raises `SweepError` if the change has another form, or if the path leads through a value that is
    not a mapping.
    """
    path, value = parse_change(change)
    path = _axis_as_one_key(path)
    parent = data
    for part in path[:-1]:
        if isinstance(parent.get(part), str) and part in COMPONENTS:
            parent[part] = {"name": parent[part]}
        parent = parent.setdefault(part, {})
        if not isinstance(parent, dict):
            raise SweepError([f"--set {change}: {part} is not a mapping"])
    parent[path[-1]] = value
    source.override(path)


def _axis_as_one_key(path: tuple[str, ...]) -> tuple[str, ...]:
    """Return `(axes, recipe.rate)` for `axes.recipe.rate`: the key of an axis has dots."""
    at = path.index(axes.KEY) if axes.KEY in path else len(path)
    return (*path[: at + 1], ".".join(path[at + 1 :])) if path[at + 1 :] else path


def complete(
    data: dict[str, Any], inherited_keys: tuple[str, ...], source: Source
) -> dict[str, Any]:
    """Return the data with a grid per combination of `axes`, and every grid and recipe completed.

    A grid inherits the sweep's values of `inherited_keys`; of `recipe` and `fine_tune` it inherits
    single keys.
    """
    data = axes.expand(data, source)
    inherited_keys = tuple(key for key in inherited_keys if key != axes.KEY)
    grids = data.get("grids")
    if isinstance(grids, dict):
        shared = {key: data[key] for key in inherited_keys if key in data}
        completed = {
            name: _complete_grid(grid, shared) if isinstance(grid, dict) else grid
            for name, grid in grids.items()
        }
        data = {**data, "grids": completed}
    return _complete_first_weights(_complete_fine_tune(data))


def _complete_grid(grid: dict[str, Any], shared: dict[str, Any]) -> dict[str, Any]:
    completed = {**shared, **grid}
    if isinstance(grid.get("recipe"), dict):
        completed["recipe"] = _complete_recipe(grid["recipe"], shared.get("recipe"))
    above, below = shared.get("fine_tune"), grid.get("fine_tune")
    if isinstance(above, dict) and isinstance(below, dict):
        completed["fine_tune"] = {**above, **below}
        if isinstance(below.get("recipe"), dict):
            recipe = _complete_recipe(below["recipe"], above.get("recipe"))
            completed["fine_tune"]["recipe"] = recipe
    return _complete_fine_tune(completed)


def _complete_fine_tune(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with `fine_tune.recipe` completed by `recipe`."""
    fine_tune = data.get("fine_tune")
    if not isinstance(fine_tune, dict) or not isinstance(fine_tune.get("recipe"), dict):
        return data
    recipe = _complete_recipe(fine_tune["recipe"], data.get("recipe"))
    return {**data, "fine_tune": {**fine_tune, "recipe": recipe}}


def _complete_first_weights(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data with `init: network` in every recipe, if the user wrote all networks.

    Their functions may set weights, which must not be replaced unless the sweep says so.
    """
    networks = [data.get("network"), data.get("target_network") or data.get("network")]
    names = [value.get("name") if isinstance(value, dict) else value for value in networks]
    if all(isinstance(name, str) and is_own(name) for name in names):
        return _with_first_weights(data)
    return data


def _with_first_weights(grid: dict[str, Any]) -> dict[str, Any]:
    """Return a sweep or a grid in which every recipe that names no `init` has `init: network`."""
    changed = dict(grid)
    if isinstance(grid.get("recipe"), dict):
        changed["recipe"] = {"init": "network", **grid["recipe"]}
    fine_tune = grid.get("fine_tune")
    if isinstance(fine_tune, dict) and isinstance(fine_tune.get("recipe"), dict):
        changed["fine_tune"] = fine_tune | {"recipe": {"init": "network", **fine_tune["recipe"]}}
    if isinstance(grids := grid.get("grids"), dict):
        changed["grids"] = {
            name: _with_first_weights(inner) if isinstance(inner, dict) else inner
            for name, inner in grids.items()
        }
    return changed


def _complete_recipe(recipe: dict[str, Any], above: Any) -> dict[str, Any]:
    """Return a recipe with the keys of the one above; `steps` here replaces `epochs` there."""
    if not isinstance(above, dict):
        return recipe
    if LENGTHS & set(recipe):
        above = {key: value for key, value in above.items() if key not in LENGTHS}
    return {**above, **recipe}


def in_grid(grid: str, path: Path, source: Source) -> Path:
    """Return the path at which a key of a grid was written: in the grid, the sweep or an axis."""
    written = axes.written_at(("grids", grid, *path), source)
    if written[:1] != ("grids",):
        return written
    grid = grid.partition(axes.SEPARATOR)[0]
    return written if grid and not is_inherited(written, source) else path


def is_inherited(path: Path, source: Source) -> bool:
    """Return whether the value at `path` was written elsewhere and inherited."""
    return any(
        source.nearest(heir) != heir
        and (source.nearest(origin) == origin or is_inherited(origin, source))
        for heir, origin in _origins(path)
    )


def _origins(path: Path) -> list[tuple[Path, Path]]:
    """Return pairs: the part of `path` that is inherited as one value, and its origin."""
    if path[:2] == ("fine_tune", "recipe"):
        return [(path[:3], path[1:3])]
    if path[:1] != ("grids",):
        return []
    grid, key = path[:2], path[2:]
    if key[:2] == ("fine_tune", "recipe"):
        heir = (*grid, *key[:3])
        return [(heir, key[:3]), (heir, (*grid, *key[1:3]))]
    value = key[: 2 if key[:1] in (("recipe",), ("fine_tune",)) else 1]
    return [((*grid, *value), value)]
