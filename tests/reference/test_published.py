"""The published results, against the numbers that the paper prints and draws."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from statistics import fmean
from typing import Any

import pytest

from orchestrator.reference import published as reference
from orchestrator.reference.published import LABELS, labels_of, paper, published, tables
from orchestrator.reference.recomputed import figure2, figure3, mixes, table1
from orchestrator.store.schemas import CURVES, MEMBERS, TRIALS
from orchestrator.sweep.load import load_sweep
from tests.tables import cells
from trainers.canonical import to_json
from trainers.splits import random_split

Layerwise = Callable[..., tuple[int, str, str]]
Row = dict[str, Any]


def by_directory() -> dict[str, Row]:
    return {row["directory"]: row for row in paper().to_pylist()}


# The rows ---------------------------------------------------------------------------------------


def test_the_networks_are_those_of_the_repository() -> None:
    counts: Counter[tuple[Any, ...]] = Counter()
    for row in paper().to_pylist():
        kind = (row["division"], row["treatment"], row["frozen"], row["images_per_class"] is None)
        counts[kind, row["published"]] += 1
    assert counts == {
        (("random", "base", False, True), True): 8,
        (("random", "transfer", True, True), True): 56,
        (("random", "selffer", True, True), True): 28,
        (("random", "transfer", False, True), True): 10,
        (("random", "transfer", False, True), False): 18,
        (("random", "selffer", False, True), True): 10,
        (("random", "selffer", False, True), False): 4,
        (("natural_manmade", "base", False, True), True): 2,
        (("natural_manmade", "transfer", True, True), True): 14,
        (("whole", "base", False, True), True): 1,
        (("whole", "random", True, True), True): 7,
        (("whole", "base", False, False), True): 12,
    }


def test_the_schemas_are_ours() -> None:
    members, trials, curves = tables()
    assert (members.schema, trials.schema, curves.schema) == (MEMBERS, TRIALS, CURVES)
    assert (trials.num_rows, curves.num_rows) == (170, 62_857)
    assert all(field.metadata[b"description"] for field in paper().schema)
    ids = trials["id"].to_pylist()
    assert len(set(ids)) == 170
    assert {row["parent"] for row in trials.to_pylist()} - {None} <= set(ids)
    assert {row["id"] for row in trials.to_pylist() if row["outcome"] == "complete"} == set(
        curves["id"].to_pylist()
    )


@pytest.mark.parametrize(
    ("directory", "name", "labels"),
    [
        ("half3B", "B s3", ("random", "s3", None, "B", "base", 0, False, None)),
        ("transfer0A0A_1_5", "A5A s0", ("random", "s0", "A", "A", "selffer", 5, True, None)),
        ("transfer-ft1A1B_1_3", "A3B+ s1", ("random", "s1", "A", "B", "transfer", 3, False, None)),
        (
            "transfernatmanBA_1_7",
            "B7A natural_manmade",
            ("natural_manmade", "natural_manmade", "B", "A", "transfer", 7, True, None),
        ),
        ("nolearn_1_2", "R2A whole", ("whole", "whole", None, "A", "random", 2, True, None)),
        ("netbase", "A whole", ("whole", "whole", None, "A", "base", 0, False, None)),
        ("reduced-0250", "A whole k250", ("whole", "whole", None, "A", "base", 0, False, 250)),
    ],
)
def test_directories_have_our_labels(directory: str, name: str, labels: tuple[Any, ...]) -> None:
    columns = labels_of(directory)
    assert (columns["name"], tuple(columns[key] for key in LABELS)) == (name, labels)


def test_recipes_and_classes() -> None:
    rows = by_directory()
    netbase, reduced, copied = rows["netbase"], rows["reduced-1300"], rows["transfer2A2B_1_3"]
    keys = ("optimiser", "rate", "schedule", "momentum", "weight_decay", "batch", "steps")
    assert [netbase[key] for key in keys] == ["caffe_sgd", 0.01, "step", 0.9, 5e-4, 256, 450_000]
    step = {"family": "step", "count_from": 1}
    assert json.loads(netbase["recipe"])["schedule"] == step | {"every": 100_000}
    assert (reduced["rate"], reduced["steps"]) == (0.0125, 200_000)
    assert json.loads(reduced["recipe"])["schedule"] == step | {"every": 64_000}
    assert (netbase["normalise"], copied["normalise"]) == ("target", "source")
    assert copied["split_hash"] == random_split(2, 1000).hash
    classes = {name: rows[name]["classes"] for name in ("half0A", "halfnatmanA", "halfnatmanB")}
    assert classes == {"half0A": 500, "halfnatmanA": 449, "halfnatmanB": 551}
    assert sum(row["images"] or 0 for row in rows.values()) == (136 * 450_000 + 12 * 200_000) * 256


def test_published_recipes_are_those_of_the_sweep() -> None:
    sweep = load_sweep("paper", [])[0]
    full, reduced = sweep.recipe, sweep.grids["reduced"].recipe
    assert full
    assert reduced
    rows = by_directory()
    for directory, recipe in (("transfer2A2B_1_3", full), ("reduced-1300", reduced)):
        known = json.loads(rows[directory]["recipe"]) | {"normalise": "source"}
        assert known == to_json(recipe)


def test_metrics_are_those_of_the_curves() -> None:
    """The last test, the best and the mean of the ten best agree with all 62,857 tests."""
    curves: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for row in tables().curves.to_pylist():
        curves[row["id"]].append((row["step"], row["val_top1"], row["val_loss"]))
    done = [row for row in tables().trials.to_pylist() if row["outcome"] == "complete"]
    assert len(done) == 148
    for row in done:
        tests = sorted(curves[row["id"]])
        last, top1, loss = tests[-1]
        assert (last, top1, loss) == (row["steps"], row["val_top1"], row["val_loss"])
        assert (row["top1"], row["loss"]) == (row["val_top1"], row["val_loss"])
        accuracies = sorted((top1 for _, top1, _ in tests), reverse=True)
        assert accuracies[0] == row["val_best"] == row["top1_at_best"]
        assert next(s for s, top1, _ in tests if top1 == accuracies[0]) == row["val_best_step"]
        assert fmean(accuracies[:10]) == pytest.approx(row["val_mean10"], abs=5e-8)


def test_the_rate_is_that_of_the_schedule() -> None:
    ids = {row["id"]: row["directory"] for row in paper().to_pylist()}
    rates = {
        (ids[row["id"]], row["step"]): row["rate"]
        for row in tables().curves.to_pylist()
        if row["step"] in (99_000, 100_000, 128_000, 450_000)
    }
    assert rates["half0A", 99_000] == 0.01
    assert rates["half0A", 100_000] == pytest.approx(0.001)
    assert rates["half0A", 450_000] == pytest.approx(1e-6)
    assert rates["reduced-0250", 128_000] == pytest.approx(1.25e-4)


def test_networks_at_chance() -> None:
    chance = {name for name, row in by_directory().items() if row["at_chance"]}
    reduced = {f"reduced-{count:04}" for count in (5, 10, 25, 50, 100)}
    assert chance == reduced | {"nolearn_1_3"}


def test_unpublished_networks_say_so() -> None:
    row = by_directory()["transfer-ft0B0A_1_4"]
    assert (row["outcome"], row["published"], row["top1"]) == ("lost", False, None)
    assert row["error_message"] == "the authors' repository has no log of this network"


def test_published() -> None:
    labels = {name: labels_of("transfer-ft0A0B_1_4")[name] for name in LABELS}
    assert published(labels) is True
    assert published(labels | {"source": "B", "target": "A"}) is False
    assert published(labels | {"split": "s2"}) is None  # no fine-tuning was planned there
    assert published(labels | {"images_per_class": 100}) is None
    assert Counter(published(row) for row in paper().to_pylist()) == {True: 148, False: 22}


# Table 1 and figures ----------------------------------------------------------------------------


def test_table_1_as_printed() -> None:
    pooled = {(row["versus"], row["layers"]): row["pooled"] for row in table1()}
    assert {key: round(value, 2) for key, value in pooled.items()} == {
        ("base", "1-7"): 1.60,
        ("base", "3-7"): 1.80,
        ("base", "5-7"): 2.06,
        ("BnB+", "1-7"): 1.38,
        ("BnB+", "3-7"): 1.40,
        ("BnB+", "5-7"): 1.73,
    }
    assert [round(value, 1) for value in pooled.values()] == [1.6, 1.4, 1.8, 1.4, 2.1, 1.7]


def test_table_1_against_the_own_base() -> None:
    rows = {(row["versus"], row["layers"]): row for row in table1()}
    against = {
        layers: tuple(round(rows["BnB+", layers][key], 2) for key in ("gain", "gain_versus"))
        for layers in ("1-7", "3-7", "5-7")
    }
    assert against == {"1-7": (0.97, 0.97), "3-7": (1.17, 1.10), "5-7": (1.16, 1.01)}
    difference = {
        layers: tuple(round(rows["BnB+", layers][key], 2) for key in ("own_base", "se"))
        for layers in ("1-7", "3-7", "5-7")
    }
    assert difference == {"1-7": (-0.0, 0.15), "3-7": (0.06, 0.08), "5-7": (0.15, 0.09)}
    assert {row["se_kind"] for row in rows.values()} == {"naive"}
    gains = [round(rows["base", layers]["own_base"], 2) for layers in ("1-7", "3-7", "5-7")]
    assert gains == [0.97, 1.17, 1.16]
    counts = {
        key: (row["n_networks"], row["n_targets"], row["n_both"]) for key, row in rows.items()
    }
    assert counts == {
        ("base", "1-7"): (10, 2, 2),
        ("base", "3-7"): (7, 2, 2),
        ("base", "5-7"): (3, 1, 1),
        ("BnB+", "1-7"): (20, 4, 0),
        ("BnB+", "3-7"): (15, 4, 0),
        ("BnB+", "5-7"): (8, 3, 0),
    }


def test_table_1_mixes_targets() -> None:
    text = " ".join(mixes())
    assert "targets 0B (base 63.4 %) and 1B (base 62.5 %) only" in text
    assert "BnB+ on 0A (base 61.5 %) and 1A (base 62.3 %): no target has both" in text


FIGURE2 = {
    "BnB": (0.6267, 0.6235, 0.6211, 0.6048, 0.5935, 0.6188, 0.6232),
    "AnB": (0.6282, 0.6239, 0.6189, 0.5998, 0.5780, 0.5806, 0.5425),
    "BnB+": (0.6177, 0.6215, 0.6313, 0.6287, 0.6301, 0.6276, 0.6266),
    "AnB+": (0.6373, 0.6358, 0.6426, 0.6398, 0.6446, 0.6460, 0.6465),
}


def test_figure_2() -> None:
    figure = figure2()
    assert len(figure["markers"]) == 112
    assert Counter(row["arm"] for row in figure["markers"]) == {
        "base": 8,
        "BnB": 28,
        "AnB": 56,
        "BnB+": 10,
        "AnB+": 10,
    }
    bases = {row["name"]: round(row["value"], 4) for row in figure["markers"] if not row["n"]}
    assert bases == {
        "A s0": 0.6151,
        "B s0": 0.6341,
        "A s1": 0.6232,
        "B s1": 0.6250,
        "A s2": 0.6286,
        "B s2": 0.6219,
        "A s3": 0.6260,
        "B s3": 0.6269,
    }
    lines = {(row["arm"], row["n"]): row for row in figure["lines"]}
    assert lines["base", 0]["value"] == pytest.approx(0.625101, abs=1e-6)
    drawn = {arm: [round(lines[arm, n]["value"], 4) for n in range(1, 8)] for arm in FIGURE2}
    assert drawn == {arm: list(values) for arm, values in FIGURE2.items()}
    assert [lines["BnB+", n]["n_networks"] for n in range(1, 8)] == [1, 1, 2, 1, 2, 2, 1]
    assert [lines["AnB+", n]["n_networks"] for n in range(1, 8)] == [1, 2, 2, 2, 1, 1, 1]


FIGURE3 = {
    "natural_to_manmade": (0.5372, 0.5392, 0.5214, 0.5008, 0.4616, 0.4098, 0.3742, 0.2914),
    "manmade_to_natural": (0.6534, 0.6571, 0.6506, 0.6250, 0.5824, 0.5219, 0.4851, 0.3990),
    "random_filters": (0.5763, 0.4917, 0.4026, 0.0011, 0.0191, 0.0499, 0.0145, 0.0146),
    "random_splits": (0.6251, *FIGURE2["AnB"]),
}
REDUCED = {1300: 0.5518, 1000: 0.5409, 750: 0.5147, 500: 0.4757, 250: 0.3843, 2: 0.0044, 1: 0.0038}


def test_figure_3() -> None:
    figure = figure3()
    rows = {(row["curve"], row["n"]): row for row in figure["curves"]}
    for curve, values in FIGURE3.items():
        drawn = [rows[curve, n]["value"] for n in range(8)]
        assert drawn == pytest.approx(list(values), abs=6e-5), curve
    assert rows["natural_manmade", 0]["value"] == pytest.approx(0.5953, abs=5e-5)
    below = [100 * rows["random_splits", n]["minus_base"] for n in range(8)]
    assert [round(x, 2) for x in below] == [0, 0.31, -0.12, -0.62, -2.53, -4.71, -4.45, -8.26]
    for (curve, n), row in rows.items():
        own = rows[curve, 0]["value"]
        assert row["minus_base"] == pytest.approx(row["value"] - own, abs=1e-12), (curve, n)
    assert [n for (_, n), row in rows.items() if row["at_chance"]] == [3]
    fewer = {row["images_per_class"]: row for row in figure["reduced"]}
    assert {key: round(fewer[key]["value"], 4) for key in REDUCED} == REDUCED
    assert [key for key in fewer if fewer[key]["at_chance"]] == [5, 10, 25, 50, 100]


# The command ------------------------------------------------------------------------------------


def test_the_command_lists_and_recomputes(layerwise: Layerwise) -> None:
    code, out, err = layerwise("reference", "--csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert (code, err, len(rows), list(rows[0])) == (0, "", 170, reference.PAPER.names)
    assert json.loads(layerwise("reference", "--json")[1])[0]["directory"] == "half0A"
    for what, expected in (("table1", table1()), ("figure2", figure2()), ("figure3", figure3())):
        assert json.loads(layerwise("reference", what, "--json")[1]) == expected
    lines = layerwise("reference", "figure2", "--csv")[1].splitlines()
    assert (lines[0], len(lines)) == ("name,directory,arm,n,value", 113)
    assert layerwise("reference", "table2")[0] == 2


def test_the_command_for_readers(layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    text = layerwise("reference", "table1")[1]
    last = ["5-7", "BnB+", "+1.73", "+0.15", "0.09", "8", "3", "0"]
    assert cells(text)[-1] == last
    assert "pooled mixes the treatment with the targets" in " ".join(text.split())
    assert "base 62.51 % (8); 112 networks in all" in layerwise("reference", "figure2")[1]
    text = layerwise("reference", "figure3")[1]
    assert "0.11*" in text
    assert "−25.44" in text
    assert "half0A" in layerwise("reference")[1]


@pytest.mark.usefixtures("folder")
def test_the_views_need_no_store(layerwise: Layerwise) -> None:
    sql = "SELECT count(*) AS k FROM paper JOIN paper_curves USING (id)"
    assert layerwise("query", sql, "--csv") == (0, "k\n62857\n", "")
    code, _, err = layerwise("query", "SELECT * FROM paper, trials")
    assert code == 2
    assert "no store at" in err


@pytest.fixture
def folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
