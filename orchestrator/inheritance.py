"""What a sweep file leaves unsaid, filled in before it is validated: plain data in, plain data out.

Forms change the sweep as a whole, `--set` one key, grids inherit from the sweep, and the recipe of
fine-tuned trials from the recipe. `Source` learns where every value now stands.
"""

from __future__ import annotations

from typing import Any

from orchestrator import yaml_source
from orchestrator.errors import SweepError
from orchestrator.yaml_source import Path, Source, hint, shown

LENGTHS = {"steps", "epochs"}
COMPONENTS = ("dataset", "network")


def check_forms(data: dict[str, Any], source: Source) -> None:
    """Raise `SweepError` unless `forms` are mappings by name, each of keys of the sweep."""
    forms = data.get("forms", {})
    if not isinstance(forms, dict):
        message = f"expected a name and a mapping for each form, found {shown(forms)}"
        raise SweepError([source.mistake(("forms",), message)])
    wrong = [
        source.mistake(("forms", name), f"expected a mapping, found {shown(form)}")
        for name, form in forms.items()
        if not isinstance(form, dict)
    ]
    if wrong:
        raise SweepError(wrong)


def apply_form(data: dict[str, Any], form: str, source: Source) -> None:
    """Lay `forms.<form>` over the sweep. Mappings merge, except one that gives another `name`."""
    forms = data.get("forms")
    if not isinstance(forms, dict) or not isinstance(forms.get(form), dict):
        known = list(forms) if isinstance(forms, dict) else []
        near = hint(form, known) or f"; known: {', '.join(known) or 'none'}"
        raise SweepError([source.mistake(("forms",), f"unknown form {form!r}{near}")])
    _lay_over(data, forms[form], (), ("forms", form), source)


def _lay_over(
    under: dict[str, Any], over: dict[str, Any], path: Path, origin: Path, source: Source
) -> None:
    for key, value in over.items():
        here, there = (*path, key), (*origin, key)
        if isinstance(value, dict) and key in COMPONENTS and isinstance(under.get(key), str):
            under[key] = {"name": under[key]}
        mapping = isinstance(value, dict) and isinstance(under.get(key), dict)
        if mapping and "name" not in value:
            source.lines[here] = source.lines.get(there, 1)
            _lay_over(under[key], value, here, there, source)
        else:
            under[key] = value
            source.move(there, here)


def override(data: dict[str, Any], change: str, source: Source) -> None:
    """Apply one `key.path=value` to the data of a sweep file; the value is YAML."""
    dotted, equals, text = change.partition("=")
    path = tuple(dotted.strip().split("."))
    if not equals or not all(path):
        raise SweepError([f"--set {change}: expected key=value, such as recipe.steps=100"])
    value = yaml_source.parse(text, f"--set {dotted}")[0] if text.strip() else None
    parent = data
    for part in path[:-1]:
        if isinstance(parent.get(part), str) and part in COMPONENTS:
            parent[part] = {"name": parent[part]}
        parent = parent.setdefault(part, {})
        if not isinstance(parent, dict):
            raise SweepError([f"--set {change}: {part} is not a mapping"])
    parent[path[-1]] = value
    source.override(path)


def complete(data: dict[str, Any], inherited: tuple[str, ...]) -> dict[str, Any]:
    """The data with every grid completed by the sweep's `inherited` keys, and every recipe.

    In a grid, `recipe` and `fine_tune` replace single keys of the sweep's own, the others whole.
    """
    grids = data.get("grids")
    if isinstance(grids, dict):
        shared = {key: data[key] for key in inherited if key in data}
        whole = {
            name: _with_fine_tune_recipe(_with_recipes(shared, grid))
            if isinstance(grid, dict)
            else grid
            for name, grid in grids.items()
        }
        data = {**data, "grids": whole}
    return _with_fine_tune_recipe(data)


def _with_recipes(shared: dict[str, Any], grid: dict[str, Any]) -> dict[str, Any]:
    found = {**shared, **grid}
    if isinstance(grid.get("recipe"), dict):
        found["recipe"] = _completed(grid["recipe"], shared.get("recipe"))
    above, own = shared.get("fine_tune"), grid.get("fine_tune")
    if isinstance(above, dict) and isinstance(own, dict):
        found["fine_tune"] = {**above, **own}
        if isinstance(own.get("recipe"), dict):
            found["fine_tune"]["recipe"] = _completed(own["recipe"], above.get("recipe"))
    return found


def _with_fine_tune_recipe(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `fine_tune.recipe` completed by `recipe`."""
    fine_tune = data.get("fine_tune")
    if not isinstance(fine_tune, dict) or not isinstance(fine_tune.get("recipe"), dict):
        return data
    recipe = _completed(fine_tune["recipe"], data.get("recipe"))
    return {**data, "fine_tune": {**fine_tune, "recipe": recipe}}


def _completed(own: dict[str, Any], above: Any) -> dict[str, Any]:
    """A recipe completed by the one above it; steps here replace epochs there."""
    if not isinstance(above, dict):
        return own
    if LENGTHS & set(own):
        above = {key: value for key, value in above.items() if key not in LENGTHS}
    return {**above, **own}


def in_grid(grid: str, path: Path, source: Source) -> Path:
    """Where a key of a grid was written: there, or in the sweep that the grid inherits from."""
    own = ("grids", grid, *path)
    return own if grid and not inherited(own, source) else path


def inherited(path: Path, source: Source) -> bool:
    """Whether what is at `path` was not written there, but where that place inherits from."""
    return any(
        source.known(taken) != taken
        and (source.known(origin) == origin or inherited(origin, source))
        for taken, origin in _origins(path)
    )


def _origins(path: Path) -> list[tuple[Path, Path]]:
    """The part of `path` that is inherited whole, and from where."""
    if path[:2] == ("fine_tune", "recipe"):
        return [(path[:3], path[1:3])]
    if path[:1] != ("grids",):
        return []
    grid, own = path[:2], path[2:]
    if own[:2] == ("fine_tune", "recipe"):
        return [((*grid, *own[:3]), own[:3]), ((*grid, *own[:3]), (*grid, *own[1:3]))]
    whole = own[: 2 if own[:1] in (("recipe",), ("fine_tune",)) else 1]
    return [((*grid, *whole), whole)]
