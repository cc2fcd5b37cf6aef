"""The figure of accuracy against the time of one network."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from orchestrator.report import by_cost, charts
from orchestrator.report.by_cost import accuracy_by_cost
from orchestrator.report.charts import Panel
from orchestrator.stats.measurements import Network
from tests.synthetic import NETWORK

PLAIN, STAGED, FITTED = (
    json.dumps({"fine_tune.recipe.fresh_first": first, "recipe.classifier": "none"})
    if first is not None
    else json.dumps({"recipe.classifier": "knn (none)"})
    for first in (0.0, 0.5, None)
)


def network(
    id: str, arm: str, condition: str | None, n: int, value: float, images: int | None = None
) -> Network:
    own = {"arm": arm, "n": n, "value": value, "val_top1": value, "images_per_class": images}
    return replace(NETWORK, id=id, name=id, condition=condition, target="A", **own)


NETWORKS = [
    *(network("base", "base", condition, 0, 0.5) for condition in (PLAIN, STAGED, FITTED)),
    *(network("new", "AnB", condition, 1, 0.25) for condition in (PLAIN, STAGED)),
    network("tuned", "AnB+", PLAIN, 1, 0.75),
    network("staged", "AnB+", STAGED, 1, 0.625),
    network("pixels", "pixels", FITTED, 0, 0.375),
    network("knn 1", "AnB", FITTED, 1, 0.125),
    network("knn 3a", "AnB", FITTED, 3, 0.25),
    network("knn 3b", "AnB", FITTED, 3, 0.5),
]
SECONDS = dict.fromkeys((x.id for x in NETWORKS), 2.0) | {"knn 3a": 1.0, "knn 1": 0.5}


def marks(panel: Panel) -> list[tuple[Any, ...]]:
    drawn = charts.drawn(panel.chart)
    data = drawn["layer"][2]["data"]
    rows = data.get("values") or drawn["datasets"][data["name"]]
    return [(x["label"], x["n"], x["y"], x["seconds"], x["networks"]) for x in rows]


def test_a_line_per_way_to_use_layers() -> None:
    """What conditions share is one line; settings that are off are not named."""
    (panel,) = accuracy_by_cost(NETWORKS, SECONDS)
    assert panel.title == "Accuracy, %, by seconds of one network, all images"
    assert sorted(marks(panel)) == [
        ("AnB", 1, 25.0, 2.0, 1),
        ("AnB+", 1, 75.0, 2.0, 1),
        ("AnB+, fresh_first=0.5", 1, 62.5, 2.0, 1),
        ("AnB, knn (none)", 1, 12.5, 0.5, 1),
        ("AnB, knn (none)", 3, 37.5, 1.5, 2),
        ("base", 0, 50.0, 2.0, 1),
        ("pixels, knn (none)", 0, 37.5, 2.0, 1),
    ]
    across = charts.drawn(panel.chart)["layer"][2]["encoding"]["x"]
    assert across["scale"]["type"] == "log"
    assert across["axis"]["values"] == [0.5, 1.0, 2.0]


def test_a_panel_per_number_of_images() -> None:
    few = [network(f"few {x.id}", x.arm, x.condition, x.n, x.value, 10) for x in NETWORKS]
    panels = accuracy_by_cost(NETWORKS + few, dict.fromkeys((x.id for x in NETWORKS + few), 1.0))
    assert [panel.title.rpartition(", ")[2] for panel in panels] == [
        "10 images of each class",
        "all images",
    ]


def test_settings_that_are_all_off_are_named_where_they_differ() -> None:
    rates = [json.dumps({"recipe.rate": rate}) for rate in (0.0, 0.5)]
    plain = [network(rate, "AnB", rate, 1, 0.5) for rate in rates]
    other = network("off", "AnB", json.dumps({"recipe.momentum": 0.0}), 1, 0.5)
    (panel,) = accuracy_by_cost([*plain, other], dict.fromkeys((*rates, "off"), 1.0))
    assert {mark[0] for mark in marks(panel)} == {
        "AnB, rate=0.0",
        "AnB, rate=0.5",
        "AnB, momentum=0.0",
    }


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_way_has_no_figure(count: int) -> None:
    ways = [network("new", "AnB", None, n, 0.5) for n in range(1, 3)] * count
    assert accuracy_by_cost([network("base", "base", None, 0, 0.5), *ways], {"base": 1.0}) == []


def test_arms_have_the_colours_of_other_figures() -> None:
    assert by_cost._inks(["base", "AnB"]) == {"base": "#222222", "AnB": "#b2400b"}
    several = by_cost._inks(["AnB", "AnB, logistic"])
    assert several == {"AnB": charts.SERIES[0], "AnB, logistic": charts.SERIES[1]}
