"""The figures of measurements, and what is said of predictors."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.report import charts, rendering
from orchestrator.report.charts import Panel
from orchestrator.report.measured import (
    measured_figures,
    predictor_figure,
    predictor_table,
    signed,
)
from orchestrator.report.page import write_report
from orchestrator.store.store import Store
from tests.synthetic import blank, digits


def compared(quantity: str, value: float, n: int, **columns: Any) -> dict[str, Any]:
    """Return a row of `comparisons`, of AnB against the base of the target."""
    bounds = {"low": value - 0.5, "high": value + 0.5}
    place = {"arm": "AnB", "n": n, "against": "base of the target", "quantity": quantity}
    return place | {"layer": None, "position": None, "value": value} | bounds | columns


def marks_of(panel: Panel) -> list[dict[str, Any]]:
    """Return the rows that the markers of a panel stand for."""
    drawn = charts.drawn(panel.chart)
    layer = next(x for x in drawn["layer"] if x["mark"]["type"] == "point")
    marks: list[dict[str, Any]] = (
        layer["data"].get("values") or drawn["datasets"][layer["data"]["name"]]
    )
    return marks


def lines(panel: Panel) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each line, by its label."""
    drawn = charts.drawn(panel.chart)
    data = drawn["layer"][0]["data"]
    found: dict[str, list[tuple[float, float]]] = {}
    for mark in data.get("values") or drawn["datasets"][data["name"]]:
        found.setdefault(mark["label"], []).append((mark["x"], mark["y"]))
    return found


def drawn(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the lines of every panel, by figure and title."""
    return {
        name: {panel.title: lines(panel) for panel in panels}
        for name, panels in measured_figures(rows).items()
    }


def test_without_measurements_there_is_no_figure() -> None:
    assert measured_figures([]) == {}
    assert predictor_table([]) is None
    assert predictor_figure([]) == []


def test_a_line_per_n_goes_from_place_to_place() -> None:
    rows = [
        compared("loss", 2.0, 1, position=1.0),
        compared("loss", 1.0, 1, position=0.0),
        compared("loss", 3.0, 2, position=0.5, low=None, high=None),
        compared("barrier", 9.0, 1),
    ]
    title = "AnB: validation loss on the way from the base of the target"
    assert drawn(rows) == {
        "interpolation": {title: {"n = 1": [(0.0, 1.0), (1.0, 2.0)], "n = 2": [(0.5, 3.0)]}}
    }


def test_similarity_tells_the_bases_of_source_and_target_apart() -> None:
    rows = [
        compared("debiased_cka", 0.25, 1, layer=1),
        compared("debiased_cka", 0.75, 1, layer=1, against="base of the source"),
        compared("debiased_cka", 0.5, 0, layer=2, arm="base", against="base of the source"),
        compared("cka", 0.9, 1, layer=1),
    ]
    end = "similarity of their outputs (CKA)"
    assert drawn(rows) == {
        "similarity": {
            f"base and base of the source: {end}": {"bases": [(2, 0.5)]},
            f"AnB and base of the source: {end}": {"n = 1": [(1, 0.75)]},
            f"AnB and base of the target: {end}": {"n = 1": [(1, 0.25)]},
        }
    }


def test_the_change_of_weights_by_layer() -> None:
    rows = [compared("change", value, 2, layer=layer) for layer, value in ((3, 0.5), (1, 0.0))]
    rows.append(compared("distance", 4.0, 2, layer=1))
    title = "AnB: distance of the weights from their start, share of their norm"
    assert drawn(rows) == {"weights": {title: {"n = 2": [(1, 0.0), (3, 0.5)]}}}


def correlation(predictor: str, comparison: str, tau: float, half: float) -> dict[str, Any]:
    bounds = {"low": tau - half / 2, "high": tau + half / 2}
    bounds |= {"low_simultaneous": tau - half, "high_simultaneous": tau + half}
    place = {"arm": "AnB", "predictor": predictor, "comparison": comparison, "division": "random"}
    return place | bounds | {"tau": tau, "n_splits": 4}


STATIC = correlation("smaller n", "over_n", 0.9, 0.1)


def test_a_predictor_that_does_not_beat_the_static_list_is_said_not_to() -> None:
    rows = [
        STATIC,
        correlation("logme", "over_n", 0.95, 0.1),
        correlation("logme", "over_n_less_static", 0.05, 0.1),
        correlation("probe", "over_n", 0.5, 0.1),
        correlation("probe", "over_n_less_static", -0.4, 0.1),
        correlation("probe", "within_n", 0.2, 0.3),
    ]
    table = predictor_table(rows)
    assert table is not None
    assert table["sentences"] == [
        "AnB: no predictor is shown to order the n of a source and target better than the list "
        "“smaller n is better” (τ = +0.90); the best is LogME (+0.95).",
        "AnB: at one n, no predictor is shown to order the sources and targets.",
    ]
    assert table["headings"] == ["AnB, over n", "AnB, less smaller n", "AnB, at one n"]
    assert table["rows"] == [
        ["LogME", ("+0.95", "±0.05"), ("+0.05", "±0.05"), ("–", "")],
        ["probe", ("+0.50", "±0.05"), ("−0.40", "±0.05"), ("+0.20", "±0.15")],
        ["smaller n", ("+0.90", "±0.05"), ("–", ""), ("–", "")],
    ]


def test_every_predictor_is_a_mark_with_its_interval_beside_the_list() -> None:
    rows = [
        correlation("smaller n", "over_n", 0.9, 0.1),
        correlation("logme", "over_n", 0.25, 0.25),
        correlation("logme", "over_n_less_static", -0.65, 0.125),
        correlation("logme", "within_n", 0.5, 0.25),
    ]
    panels = predictor_figure(rows)
    assert [panel.title for panel in panels] == [
        "AnB: τ with the measured accuracy, over n",
        "AnB: τ with the measured accuracy, at one n",
    ]
    marks = [
        (mark["label"], mark["n"], mark["y"], mark["low"], mark["high"], mark["half"])
        for mark in marks_of(panels[0])
    ]
    assert marks == [
        ("smaller n", 1, 0.9, pytest.approx(0.85), pytest.approx(0.95), "0.05"),
        ("LogME", 0, 0.25, 0.125, 0.375, "0.12"),
    ]


def test_a_predictor_that_beats_it_is_named() -> None:
    rows = [
        STATIC,
        correlation("logme", "over_n", 1.0, 0.0),
        correlation("logme", "over_n_less_static", 0.1, 0.05),
        correlation("parc", "over_n", 0.0, 0.0),
        correlation("parc", "over_n_less_static", -0.9, 0.05),
        correlation("parc", "within_n", 0.6, 0.5),
    ]
    table = predictor_table(rows)
    assert table is not None
    assert table["sentences"] == [
        "AnB: LogME (+1.00) ordered the n of a source and target better than the list “smaller n "
        "is better” (τ = +0.90); no other is shown to.",
        "AnB: at one n, PARC (+0.60) ordered the sources and targets.",
    ]
    named = predictor_table([row | {"division": "mnist to digits"} for row in rows])
    assert named is not None
    assert named["sentences"][1:] == [
        "AnB: at one n, PARC (+0.60) ordered the sources of the target."
    ]


def test_predictors_that_are_all_worse_are_said_to_be() -> None:
    rows = [STATIC]
    for name, tau in (("logme", 0.5), ("probe", -0.25)):
        rows.append(correlation(name, "over_n", tau, 0.1))
        rows.append(correlation(name, "over_n_less_static", tau - 0.9, 0.1))
    table = predictor_table(rows)
    assert table is not None
    assert table["sentences"] == [
        "AnB: every predictor ordered the n of a source and target worse than the list “smaller n "
        "is better” (τ = +0.90); the best is LogME (+0.50)."
    ]


def test_without_an_interval_nothing_is_claimed() -> None:
    none = dict.fromkeys(("low", "high", "low_simultaneous", "high_simultaneous"))
    rows = [
        STATIC | none,
        correlation("logme", "over_n", 1.0, 0.0) | none,
        correlation("logme", "over_n_less_static", 0.1, 0.0) | none,
    ]
    table = predictor_table(rows)
    assert table is not None
    assert table["sentences"][0].startswith("AnB: no predictor is shown to order the n")
    assert table["rows"][0] == ["LogME", ("+1.00", ""), ("+0.10", ""), ("–", "")]


def test_numbers_have_a_sign() -> None:
    assert [signed(x) for x in (0.125, -0.5, -0.001)] == ["+0.12", "−0.50", "+0.00"]


def test_the_page_has_the_section(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(
        rendering, "pictures", lambda _, formats, **_options: dict.fromkeys(formats, b"png")
    )
    store = Store(tmp_path / "store")
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    sweep.write(store)
    text = write_report(store, "demo", tmp_path / "report").read_text(encoding="utf-8")
    assert "Comparisons of trained networks" not in text
    trial = next(x for x in sweep.trials if x["treatment"] == "transfer")
    own = {"id": "00000000000000aa", "measure": "weights", "trial": trial["id"], "layer": 1}
    own |= {"outcome": "complete", "checkpoint": trial["checkpoint"], "value": 1.0}
    quantities = [{"quantity": name} for name in ("distance", "norm", "cosine")]
    store.write_derived("measurements", [blank("measurements") | own | x for x in quantities])
    text = write_report(store, "demo", tmp_path / "report").read_text(encoding="utf-8")
    assert "Comparisons of trained networks" in text
    assert (tmp_path / "report" / "weights.png").exists()
    assert not (tmp_path / "report" / "similarity.png").exists()
    own |= {"checkpoint": "of earlier weights", "ended": datetime(2026, 1, 2, tzinfo=UTC)}
    store.write_derived("measurements", [blank("measurements") | own | x for x in quantities])
    text = write_report(store, "demo", tmp_path / "report").read_text(encoding="utf-8")
    assert "Comparisons of trained networks" not in text
