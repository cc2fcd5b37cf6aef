"""Sweeps that are written in Python: their keys as YAML, which is then read like any sweep file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Required, TypedDict

import yaml

from orchestrator.sweep import inheritance
from orchestrator.sweep.source import Source, parse
from trainers.canonical import to_json
from trainers.config import TaskForm
from trainers.recipe import Recipe

Keys = Mapping[str, Any]


class SweepKeys(TypedDict, total=False):
    """The keys of a sweep file, as keyword arguments; see the reference of sweep files."""

    name: Required[str]
    dataset: str | Keys
    tasks: Mapping[str, Keys]
    weights: Mapping[str, str | Keys]
    network: str | Keys
    target_network: str | Keys
    splits: Keys
    sources: Sequence[str]
    targets: Sequence[str]
    transfers: Sequence[Sequence[str]]
    form: Keys | TaskForm
    treatments: Sequence[str]
    layers: int | str | Sequence[int]
    images_per_class: int | str | Sequence[int | str]
    seeds: Sequence[int]
    recipe: Keys | Recipe
    fine_tune: Keys
    axes: Mapping[str, Sequence[Any]]
    grids: Mapping[str, Keys]
    reference: str
    resources: Mapping[str, Keys]
    keep: str
    measure: Sequence[str]
    features: Mapping[str, Keys]
    checkpoint_seconds: float
    forms: Mapping[str, Keys]


def to_yaml(keys: Mapping[str, Any]) -> str:
    """Return keys as the text of a sweep file, in their order. Raises `TypeError`.

    A value is plain data, a tuple, or an object of the configuration such as a `Recipe`.
    """
    return yaml.safe_dump(_plain(keys, ""), sort_keys=False, allow_unicode=True, width=100)


def text_of(source: Source) -> str:
    """Return the text of a sweep file that says all of a source, forms and changes included."""
    if not source.forms:
        return source.record()
    data, laid = parse(source.text, source.name)
    for form in source.forms:
        inheritance.apply_form(data, form, laid)
    data.pop("forms", None)
    return Source(source.name, to_yaml(data), changes=source.changes).record()


def _plain(value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = to_json(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v, f"{where}.{k}" if where else str(k)) for k, v in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if value is None or type(value) in (bool, int, float, str):
        return value
    if hasattr(value, "item"):  # a number of numpy
        return _plain(value.item(), where)
    kind = type(value).__name__
    raise TypeError(f"{where}: expected numbers, strings, lists and mappings, found a {kind}")
