"""Trainings, recipes and references read back from the records of earlier runs.

Tables and assignments hold trainings and recipes as JSON; `Source.record` returns a sweep as a
string.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pydantic import TypeAdapter

from orchestrator.errors import SweepError
from orchestrator.sweep import source
from trainers.canonical import freeze_options
from trainers.config import DatasetRef, NetworkRef, Training
from trainers.recipe import Recipe

TRAINING, RECIPE = TypeAdapter(Training), TypeAdapter(Recipe)
CHANGED_REFERENCE = f"{source.CHANGED}reference="

Ref = TypeVar("Ref", DatasetRef, NetworkRef)


@functools.lru_cache(maxsize=1024)
def training_from(text: str) -> Training:
    """Return the training whose `canonical` JSON is `text`. Raises `ValueError`."""
    training = TRAINING.validate_json(text)
    tasks = {
        name: replace(task, dataset=_with_tuples(task.dataset))
        for name in ("target", "source")
        if (task := getattr(training, name)) is not None
    }
    below = training.source_network and _with_tuples(training.source_network)
    return replace(training, network=_with_tuples(training.network), source_network=below, **tasks)


def recipe_from(value: Mapping[str, Any]) -> Recipe:
    """Return the recipe whose `to_json` is `value`. Raises `ValueError` for other values."""
    return RECIPE.validate_python(dict(value), strict=False)


def reference_of(text: str) -> str | None:
    """Return the reference of a sweep that an old version recorded in its file only.

    `text` is the result of `Source.record`. A `--set` change counts before the key, and the last
    change before the others. Return None for a text without a reference, or that is not YAML.
    """
    for line in reversed(text.splitlines()):
        if line.startswith(CHANGED_REFERENCE):
            return line.removeprefix(CHANGED_REFERENCE)
    try:
        data, _ = source.parse(text, "sweep")
    except SweepError:
        return None
    return data.get("reference") if isinstance(data, Mapping) else None


def _with_tuples(ref: Ref) -> Ref:
    """Return a reference whose options have tuples, in place of JSON's lists."""
    return replace(ref, options=freeze_options(dict(ref.options)))
