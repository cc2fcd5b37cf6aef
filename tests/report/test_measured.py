"""The figures of measurements, and what is said of predictors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.report import charts
from orchestrator.report.charts import Panel
from orchestrator.report.measured import measured_figures, predictor_table, signed
from orchestrator.report.page import write_report
from orchestrator.stats.measurements import Network
from orchestrator.store.store import Store
from tests.synthetic import blank, digits

PARENTS = {"A": None, "B": None, "B1": "B", "A1": "A", "A2": "A", "other A1": "A"}
PLACES = {"A": ("base", 0), "B": ("base", 0), "B1": ("BnB", 1), "A1": ("AnB", 1), "A2": ("AnB", 2)}


def network(id: str, arm: str, n: int) -> Network:
    return Network(
        sweep="x",
        id=id,
        name=id,
        condition=None,
        division="random",
        images_per_class=None,
        split="s0",
        target="B",
        seed=0,
        arm=arm,
        n=n,
        classes=5,
        metric="top1",
        value=0.5,
        val_top1=0.5,
        at_chance=False,
    )


NETWORKS = [network(id, *place) for id, place in PLACES.items()]
NETWORKS.append(network("other A1", "AnB", 1))


def row(measure: str, trial: str, quantity: str, value: float, **columns: Any) -> dict[str, Any]:
    own = {"measure": measure, "trial": trial, "quantity": quantity, "value": value}
    return blank("measurements") | own | columns


def lines(panel: Panel) -> dict[str, list[tuple[float, float]]]:
    """Return the points of each line, by its label."""
    drawn = panel.chart.to_dict()
    data = drawn["layer"][0]["data"]
    found: dict[str, list[tuple[float, float]]] = {}
    for mark in data.get("values") or drawn["datasets"][data["name"]]:
        found.setdefault(mark["label"], []).append((mark["x"], mark["y"]))
    return found


def test_without_measurements_there_is_no_figure() -> None:
    assert measured_figures(NETWORKS, [], PARENTS) == {}
    assert predictor_table([]) is None


def test_the_change_of_weights_is_a_share_of_their_norm() -> None:
    rows = [
        row("weights", trial, quantity, value, layer=layer)
        for trial, layer, distance, norm in (
            ("A1", 1, 0.0, 2.0),
            ("A1", 2, 1.0, 2.0),
            ("other A1", 2, 3.0, 2.0),
            ("A2", 2, 0.0, 0.0),  # zero at the start: there is no share
            ("B1", 2, 1.0, 4.0),
        )
        for quantity, value in (("distance", distance), ("norm", norm))
    ]
    panels = measured_figures(NETWORKS, rows, PARENTS)["weights"]
    assert [panel.title.partition(":")[0] for panel in panels] == ["BnB", "AnB"]
    assert lines(panels[0]) == {"n = 1": [(2, 0.25)]}
    assert lines(panels[1]) == {"n = 1": [(1, 0.0), (2, 1.0)]}


def test_the_loss_on_the_way() -> None:
    rows = [
        row("interpolation", trial, "loss", value, position=position)
        for trial, position, value in (
            ("A2", 0.5, 2.0),
            ("A2", 0.0, 1.0),
            ("A1", 0.0, 1.0),
            ("other A1", 0.0, 3.0),
        )
    ]
    rows.append(row("interpolation", "A1", "top1", 0.5, position=0.0))
    [panel] = measured_figures(NETWORKS, rows, PARENTS)["interpolation"]
    assert lines(panel) == {"n = 1": [(0.0, 2.0)], "n = 2": [(0.0, 1.0), (0.5, 2.0)]}


def test_similarity_tells_the_bases_of_source_and_target_apart() -> None:
    rows = [
        row("similarity", trial, "debiased_cka", value, other=other, layer=1)
        for trial, other, value in (
            ("B", "A", 0.5),
            ("A1", "A", 1.0),
            ("A1", "B", 0.25),
            ("B1", "B", 0.75),
            ("A1", "a base of another sweep", 0.0),
        )
    ]
    rows.append(row("similarity", "A1", "cka", 0.9, other="A", layer=1))
    panels = measured_figures(NETWORKS, rows, PARENTS)["similarity"]
    drawn = {panel.title.partition(":")[0]: lines(panel) for panel in panels}
    assert drawn == {
        "Both bases": {"bases": [(1, 0.5)]},
        "BnB and base of the target": {"n = 1": [(1, 0.75)]},
        "AnB and base of the source": {"n = 1": [(1, 1.0)]},
        "AnB and base of the target": {"n = 1": [(1, 0.25)]},
    }


def correlation(predictor: str, comparison: str, tau: float, half: float) -> dict[str, Any]:
    bounds = {"low": tau - half / 2, "high": tau + half / 2, "low_simultaneous": tau - half}
    place = {"arm": "AnB", "predictor": predictor, "comparison": comparison}
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
        "“smaller n is better” (τ = +0.90); the best, LogME, has τ = +0.95.",
        "AnB: at one n, no predictor is shown to order the sources and targets.",
    ]
    assert table["headings"] == ["AnB, over n", "AnB, less smaller n", "AnB, at one n"]
    assert table["rows"] == [
        ["LogME", ("+0.95", "±0.05"), ("+0.05", "±0.05"), ("–", "")],
        ["probe", ("+0.50", "±0.05"), ("−0.40", "±0.05"), ("+0.20", "±0.15")],
        ["smaller n", ("+0.90", "±0.05"), ("–", ""), ("–", "")],
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
        "AnB: LogME (+0.10) ordered the n of a source and target better than the list “smaller n "
        "is better” (τ = +0.90); the other predictors are not shown to.",
        "AnB: at one n, PARC (+0.60) ordered the sources and targets.",
    ]


def test_without_an_interval_nothing_is_claimed() -> None:
    none = dict.fromkeys(("low", "high", "low_simultaneous"))
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
    monkeypatch.setattr(charts, "javascript", lambda: "/* bundle */")
    monkeypatch.setattr(charts, "png", lambda *_args, **_options: b"png")
    store = Store(tmp_path / "store")
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    sweep.write(store)
    text = write_report(store, "demo", tmp_path / "report").read_text(encoding="utf-8")
    assert "What the grid already knows" not in text
    trial = next(x for x in sweep.trials if x["treatment"] == "transfer")
    rows = [row("weights", trial["id"], x, 1.0, layer=1) for x in ("distance", "norm")]
    number = {"id": "00000000000000aa", "outcome": "complete", "checkpoint": trial["checkpoint"]}
    store.write_measurement([x | number for x in rows])
    text = write_report(store, "demo", tmp_path / "report").read_text(encoding="utf-8")
    assert "What the grid already knows" in text
    assert (tmp_path / "report" / "weights.png").exists()
    assert not (tmp_path / "report" / "similarity.png").exists()
    stale = [x | number | {"checkpoint": "of earlier weights"} for x in rows]
    store.write_measurement(stale)
    text = write_report(store, "demo", tmp_path / "report").read_text(encoding="utf-8")
    assert "What the grid already knows" not in text
