"""Tests of canonical JSON, its digest and keys."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import pytest

from tests.trainings import DIGITS, training
from trainers.canonical import ConfigError, canonical, freeze_options, key
from trainers.config import Task, Treatment
from trainers.recipe import Recipe, Schedule


def test_an_id_does_not_depend_on_what_was_hashed_before() -> None:
    """Equal objects may differ in their JSON: 0 == 0.0 == False."""

    def text(noise: Any) -> str:
        dataset = dataclasses.replace(DIGITS, options=freeze_options({"noise": noise}))
        return canonical(
            dataclasses.replace(training(), target=Task(dataset=dataset, classes=(1,)))
        )

    texts = [text(noise) for noise in (0, 0.0, False, 0)]
    assert [
        f'["noise",{value}]' in t
        for t, value in zip(texts, ("0", "0.0", "false", "0"), strict=True)
    ]
    assert texts[0] == texts[3]
    assert len(set(texts)) == 3


def test_options_are_sorted_and_hashable() -> None:
    options = freeze_options({"conv": [8, [16]], "bias": True})
    assert options == (("bias", True), ("conv", (8, (16,))))
    assert hash(options) == hash(freeze_options({"bias": True, "conv": (8, (16,))}))
    with pytest.raises(ConfigError, match="expected numbers, strings") as error:
        freeze_options({"conv": [{"width": 8}]})
    assert error.value.field == "conv"


def test_keys_are_equal_for_equal_names_only() -> None:
    seeds = [key("masks", 0, "a", step) for step in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert key("masks", 0, "a", 3) == seeds[3] != key("batches", 0, "a", 3)
    expected = hashlib.sha256(b'["masks",0,"a",3]').hexdigest()[:16]
    assert key("masks", 0, "a", 3) == int(expected, 16) >> 1


def test_canonical_json_has_sorted_keys_and_no_defaults() -> None:
    assert canonical(Recipe()) == "{}"
    assert canonical(Recipe(rate=0.5, schedule=Schedule(family="linear"))) == (
        '{"rate":0.5,"schedule":{"family":"linear"}}'
    )
    assert canonical(Treatment(kind="transfer", n=3)) == '{"kind":"transfer","n":3}'
    assert canonical({"b": (1, 2.5), "a": None}) == '{"a":null,"b":[1,2.5]}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical([float("nan")])
