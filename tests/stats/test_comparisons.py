"""Means of what was measured of networks, by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.stats.comparisons import comparisons
from orchestrator.store.schemas import to_table
from tests.synthetic import NETWORK, blank

PARENTS = {"A": None, "B": None, "B1": "B", "A1": "A", "A1 s1": "A"}
PLACES = {"A": ("base", 0), "B": ("base", 0), "B1": ("BnB", 1), "A1": ("AnB", 1)}


NETWORKS = [replace(NETWORK, id=id, name=id, arm=arm, n=n) for id, (arm, n) in PLACES.items()]
NETWORKS.append(replace(NETWORK, id="A1 s1", name="A1 s1", split="s1"))


def row(measure: str, trial: str, quantity: str, value: float, **columns: Any) -> dict[str, Any]:
    own = {"id": f"{measure} {trial}", "measure": measure, "trial": trial}
    return blank("measurements") | own | {"quantity": quantity, "value": value} | columns


def means(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], float]:
    names = ("arm", "n", "against", "quantity", "layer", "position")
    table = comparisons(NETWORKS, PARENTS, to_table("measurements", rows)).to_pylist()
    return {tuple(x[name] for name in names): x["value"] for x in table}


def test_the_change_is_a_share_of_the_norm() -> None:
    rows = [
        row("weights", trial, quantity, value, layer=layer)
        for trial, layer, distance, norm in (
            ("A1", 1, 0.0, 2.0),
            ("A1", 2, 1.0, 2.0),
            ("A1 s1", 2, 3.0, 2.0),
            ("B1", 2, 1.0, 0.0),  # zero at the start: there is no share
        )
        for quantity, value in (("distance", distance), ("norm", norm), ("cosine", 1.0))
    ]
    found = means(rows)
    changes = {place: value for place, value in found.items() if place[3] == "change"}
    assert changes == {
        ("AnB", 1, "start", "change", 1, None): 0.0,
        ("AnB", 1, "start", "change", 2, None): 1.0,
    }
    assert found["AnB", 1, "start", "distance", 2, None] == 2.0
    assert found["BnB", 1, "start", "distance", 2, None] == 1.0


def test_intervals_are_over_splits() -> None:
    rows = [row("interpolation", x, "barrier", v, other="B") for x, v in (("A1", 1), ("A1 s1", 3))]
    table = comparisons(NETWORKS, PARENTS, to_table("measurements", rows)).to_pylist()
    [found] = table
    assert (found["against"], found["value"], found["n_splits"]) == ("base of the target", 2, 2)
    assert found["high"] == pytest.approx(2 + 12.706, abs=1e-3)  # t of one degree of freedom


def test_bases_of_source_and_target_are_told_apart() -> None:
    rows = [
        row("similarity", trial, "cka", value, other=other, layer=1)
        for trial, other, value in (
            ("B", "A", 0.5),
            ("A1", "A", 1.0),
            ("A1", "B", 0.25),
            ("B1", "B", 0.75),
            ("A1", "a base of another sweep", 0.0),
            ("a trial of another sweep", "A", 0.0),
        )
    ]
    assert means(rows) == {
        ("base", 0, "base of the source", "cka", 1, None): 0.5,
        ("AnB", 1, "base of the source", "cka", 1, None): 1.0,
        ("AnB", 1, "base of the target", "cka", 1, None): 0.25,
        ("BnB", 1, "base of the target", "cka", 1, None): 0.75,
    }


def test_predictors_and_values_that_are_not_finite_are_left_out() -> None:
    rows = [
        row("predictors", "A", "logme", 1.0, layer=1),
        row("interpolation", "A1", "loss", math.inf, other="B", position=0.5),
        row("interpolation", "A1", "loss", 1.0, other="B", position=1.0),
    ]
    assert list(means(rows)) == [("AnB", 1, "base of the target", "loss", None, 1.0)]
