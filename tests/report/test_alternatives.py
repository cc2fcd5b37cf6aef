"""Figures in words."""

from __future__ import annotations

from orchestrator.report import charts
from orchestrator.report.alternatives import MOST_SERIES, panel_text, text_of
from orchestrator.report.charts import Panel, layer_frame, stack, style


def test_lines_are_told_by_their_ends_and_rules_by_their_height() -> None:
    frame = layer_frame([1, 2, 3], (0.0, 10.0))
    rows = [style("AnB") | {"n": n, "y": y} for n, y in ((1, 2.0), (2, 9.0), (3, -4.25))]
    rule = style("base") | {"n": 0, "y": 5.0}
    chart = stack(charts.rules([rule], frame), charts.curves(rows, frame))
    panel = Panel("Points", chart)
    assert panel_text(panel) == "Points. base 5.0; AnB from 2.0 at n = 1 to −4.2 at n = 3."
    assert text_of([panel, panel]).count("AnB") == 2


def test_marks_without_lines_are_counted() -> None:
    frame = layer_frame([1], (0.0, 10.0))
    rows = [style("AnB") | {"n": 1, "y": float(y)} for y in range(3)]
    assert panel_text(Panel("Networks", stack(charts.points(rows, frame, {})))) == (
        "Networks. 3 marks."
    )


def test_many_lines_are_counted_after_the_first() -> None:
    frame = layer_frame([1, 2], (0.0, 10.0))
    rows = [
        style("AnB", f"line {k}") | {"n": n, "y": 1.0}
        for k in range(MOST_SERIES + 2)
        for n in (1, 2)
    ]
    text = panel_text(Panel("Many", stack(charts.curves(rows, frame))))
    assert text.endswith("line 11 from 1.0 at n = 1 to 1.0 at n = 2; and 2 more lines.")
