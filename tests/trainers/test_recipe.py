"""Tests of recipes and schedules: which values are refused."""

from __future__ import annotations

from typing import Any

import pytest

from trainers.canonical import ConfigError
from trainers.recipe import Recipe, Schedule, Stage, Stop

WRONG: list[tuple[type, dict[str, Any], str]] = [
    (Recipe, {"rate": 0.0}, "rate"),
    (Recipe, {"rate": -1.0}, "rate"),
    (Recipe, {"rate": float("nan")}, "rate"),
    (Recipe, {"rate": float("inf")}, "rate"),
    (Recipe, {"crop": 0}, "crop"),
    (Recipe, {"crop": -5}, "crop"),
    (Recipe, {"momentum": 1.0}, "momentum"),
    (Recipe, {"momentum": -0.1}, "momentum"),
    (Recipe, {"weight_decay": -1e-9}, "weight_decay"),
    (Recipe, {"batch": 0}, "batch"),
    (Recipe, {"steps": 0}, "steps"),
    (Recipe, {"epochs": 0.0}, "epochs"),
    (Recipe, {"epochs": float("inf")}, "epochs"),
    (Recipe, {"least_steps": 0}, "least_steps"),
    (Recipe, {"evaluate_every": 0}, "evaluate_every"),
    (Recipe, {"dropout": 1.0}, "dropout"),
    (Schedule, {"warmup": 1.0}, "warmup"),
    (Schedule, {"warmup": -0.1}, "warmup"),
    (Schedule, {"gamma": 0.0}, "gamma"),
    (Schedule, {"floor": 1.1}, "floor"),
    (Schedule, {"family": "step"}, "every"),
    (Schedule, {"every": 3}, "every"),
    (Schedule, {"count_from": 1}, "count_from"),
    (Schedule, {"family": "step", "every": 3, "count_from": 2}, "count_from"),
    (Schedule, {"family": "step", "every": 0}, "every"),
    (Schedule, {"family": "multi_step"}, "milestones"),
    (Schedule, {"milestones": (0.5,)}, "milestones"),
    (Schedule, {"family": "multi_step", "milestones": (0.5, 0.5)}, "milestones"),
    (Schedule, {"family": "multi_step", "milestones": (0.7, 0.5)}, "milestones"),
    (Schedule, {"family": "multi_step", "milestones": (0.5, 1.0)}, "milestones"),
    (Schedule, {"family": "linear", "restarts": 1}, "restarts"),
    (Schedule, {"family": "cosine", "restarts": -1}, "restarts"),
    (Schedule, {"family": "cosine", "restarts": 101}, "restarts"),
    (Schedule, {"family": "cosine", "growth": 2.0}, "growth"),
    (Schedule, {"family": "cosine", "restarts": 1, "growth": 0.5}, "growth"),
    (Recipe, {"copied_rate": 0.0}, "copied_rate"),
    (Recipe, {"copied_rate": float("inf")}, "copied_rate"),
    (Recipe, {"layer_decay": 0.0}, "layer_decay"),
    (Recipe, {"layer_decay": 1.1}, "layer_decay"),
    (Recipe, {"fresh_first": 1.0}, "fresh_first"),
    (Recipe, {"label_smoothing": 1.0}, "label_smoothing"),
    (Recipe, {"l2_sp": -1.0}, "l2_sp"),
    (Recipe, {"feature_l2": float("nan")}, "feature_l2"),
    (Recipe, {"freeze": 0}, "freeze"),
    (Recipe, {"learn": ("conv1",)}, "learn"),
    (Recipe, {"stages": (Stage(fraction=0.5),)}, "stages"),
    (Recipe, {"stages": (Stage(fraction=1.0),), "fresh_first": 0.5}, "stages"),
    (Stage, {"fraction": 0.0}, "fraction"),
    (Stage, {"fraction": 1.0, "rate": 0.0}, "rate"),
    (Stage, {"fraction": 1.0, "images_per_class": 0}, "images_per_class"),
    (Stage, {"fraction": 1.0, "learn": (0,)}, "learn"),
    (Stop, {"patience": 0}, "patience"),
]


@pytest.mark.parametrize(("kind", "fields", "field"), WRONG)
def test_a_wrong_field_is_named(kind: type, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigError, match=r"^expected ") as error:
        kind(**fields)
    assert error.value.field == field


def test_layers_by_number_and_by_name_are_equal_settings() -> None:
    assert Recipe(learn=(3, "layer2.conv")) == Recipe(learn=("layer2.conv", "layer3"))
    assert Stage(fraction=0.5, learn=(10, 2)).learn == ("layer10", "layer2")
