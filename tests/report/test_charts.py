"""The placement of labels, the look of series, and charts of little or nothing."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.report import charts, rendering
from orchestrator.report.charts import COLOURS, Panel, layer_frame, span, spread, stack, style
from orchestrator.report.figures import AGAINST_BASE, images_figure, lines
from orchestrator.report.learning_figures import _ticks
from orchestrator.stats.measurements import ARMS

WIDE = (-1e9, 1e9)


def test_spread_moves_as_little_as_possible() -> None:
    assert spread([0.0, 10.0], 3.0, WIDE) == [0.0, 10.0]
    assert spread([1.0, 1.0], 2.0, WIDE) == [0.0, 2.0]
    assert spread([5.0, 0.0, 4.0], 2.0, WIDE) == [5.5, 0.0, 3.5]
    assert spread([9.0, 9.5], 2.0, (0.0, 10.0)) == [8.0, 10.0]
    assert spread([], 1.0, WIDE) == []


@given(st.lists(st.floats(-100, 100), max_size=9), st.floats(0.1, 20))
def test_spread_keeps_order_and_distance(heights: list[float], gap: float) -> None:
    moved = spread(heights, gap, (-50.0, 50.0))
    order = sorted(range(len(heights)), key=lambda index: heights[index])
    ranked = [moved[index] for index in order]
    assert all(b - a >= gap * (1 - 1e-9) for a, b in pairwise(ranked))
    if gap * len(heights) <= 100:
        assert all(-50 - 1e-6 <= height <= 50 + 1e-6 for height in moved)


@pytest.mark.parametrize("most", [1, 3, 5, 9, 49, 500, 550, 450_000])
def test_ticks_are_round_and_few(most: int) -> None:
    ticks = _ticks(most)
    assert ticks[0] == 0
    assert ticks[-1] <= most
    assert 2 <= len(ticks) <= 6


def test_every_arm_has_a_look() -> None:
    assert set(ARMS) <= set(COLOURS)
    looks = {(style(arm)["colour"], style(arm)["shape"], str(style(arm)["dash"])) for arm in ARMS}
    assert len(looks) == len(ARMS)


def test_a_chart_of_nothing_is_a_chart() -> None:
    frame = layer_frame([], span([]))
    marks = [charts.points([], frame, {}), charts.curves([], frame), charts.labels([], frame)]
    assert (
        rendering.spec(Panel("", stack(*marks, *charts.bands([], frame))))["width"] == "container"
    )


def test_published_sizes_beyond_ours_lie_within_the_frame() -> None:
    def base(images: int, value: float) -> dict[str, object]:
        none = dict.fromkeys(("low", "high"))
        row = {"arm": "base", "n": 0, "images_per_class": images, "value": value}
        return row | none | {"metric": "top1"}

    (panel,) = images_figure([base(1, 0.1), base(10, 0.2)], [base(1, 0.1), base(1300, 0.5)])
    assert '"domain": [0.6666666666666666, 1950.0]' in json.dumps(charts.drawn(panel.chart))


@pytest.mark.parametrize(("df", "drawn"), [(1, False), (2, False), (3, True), (None, True)])
def test_intervals_of_few_degrees_of_freedom_do_not_flatten_the_lines(
    df: int | None, drawn: bool
) -> None:
    row = {"effect": "transfer", "estimate": -0.1, "low": -2.2, "high": 2.0, "df": df}
    chart = lines([row | {"n": n, "n_splits": 2} for n in (1, 2)], AGAINST_BASE).to_dict()
    low, high = chart["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert (low < -220) is (high > 200) is drawn
