"""The figure of effects over images per class."""

from __future__ import annotations

from typing import Any

from orchestrator.report import charts
from orchestrator.report.by_images import effects_by_images

BAND = {"df": 4, "n_splits": 5}


def row(effect: str, n: int, images: int | None, estimate: float) -> dict[str, Any]:
    bounds = {"low": estimate - 0.125, "high": estimate + 0.125}
    place = {"effect": effect, "n": n, "images_per_class": images, "estimate": estimate}
    return place | bounds | BAND


ROWS = [
    row("transfer", n, images, estimate)
    for n, at in {1: (0.5, 0.25, 0.125), 7: (0.25, 0.125, -0.25)}.items()
    for images, estimate in zip((None, 100, 10), at, strict=True)
]


def test_a_panel_per_effect_and_a_line_per_n() -> None:
    longer = [row("longer_training", 0, images, 0.0) for images in (10, 100)]
    transfer, alone = effects_by_images(ROWS + longer)
    assert transfer.title == "AnB − base by images of each class, points"
    assert alone.title == "base_long − base by images of each class, points"
    drawn = charts.drawn(transfer.chart)
    points = drawn["layer"][4]
    data = points["data"].get("values") or drawn["datasets"][points["data"]["name"]]
    assert [(x["label"], x["n"], x["images"], x["y"]) for x in data] == [
        ("n = 1", 10, "10", 12.5),
        ("n = 7", 10, "10", -25.0),
        ("n = 1", 100, "100", 25.0),
        ("n = 7", 100, "100", 12.5),
        ("n = 1", 200, "all", 50.0),
        ("n = 7", 200, "all", 25.0),
    ]
    assert (data[0]["low"], data[0]["high"]) == (0.0, 25.0)
    assert len({x["colour"] for x in data}) == 2
    across = points["encoding"]["x"]
    assert across["scale"] == {"type": "log", "domain": [10 / 1.5, 300.0], "nice": False}
    assert across["axis"]["values"] == [10, 100, 200]
    of_limits = charts.drawn(alone.chart)["layer"][4]["encoding"]["x"]
    assert of_limits["axis"]["values"] == [10, 100]  # there are no networks of all images
    assert across["axis"]["labelExpr"] == "datum.value == 200 ? 'all' : datum.label"


def test_one_number_of_images_has_no_figure() -> None:
    assert effects_by_images([x for x in ROWS if x["images_per_class"] == 10]) == []
    assert effects_by_images([x for x in ROWS if x["images_per_class"] is None]) == []
    assert effects_by_images([]) == []


def test_intervals_of_few_splits_are_not_drawn() -> None:
    (panel,) = effects_by_images([x | {"df": 1} for x in ROWS])
    drawn = charts.drawn(panel.chart)
    low, high = drawn["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert (low, high) == (-28.75, 53.75)
