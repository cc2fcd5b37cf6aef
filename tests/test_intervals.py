"""Intervals over the classes and seeds of one split, and when they are used."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from synthetic import Label, Synthetic

from orchestrator.comparisons import measurements
from orchestrator.intervals import DRAWS, redraw_classes, single_splits
from orchestrator.stats import effects, levels, needs_classes, table1
from orchestrator.tables import to_table
from trainers.config import key

CLASSES, IMAGES = 40, 50


def known(
    *,
    division: str | None = "natural_manmade",
    splits: tuple[str, ...] = ("natural_manmade",),
    seeds: tuple[int, ...] = (0, 1),
) -> tuple[Synthetic, pa.Table]:
    """Bases and frozen transfers of both directions, and their counts of each class."""
    sweep = Synthetic()
    counts: list[dict[str, Any]] = []
    random = np.random.default_rng(0)
    for split in splits:
        for target in "AB":
            easy = random.integers(20, 45, CLASSES)  # a class is as hard for all networks
            for seed in seeds:
                for treatment, n, drop in (("base", 0, 0), ("transfer", 3, 6)):
                    hits = easy - drop + random.integers(-2, 3, CLASSES)
                    label = Label(
                        split=split,
                        target=target,
                        treatment=treatment,
                        n=n,
                        frozen=n > 0,
                        seed=seed,
                        division=division,
                    )
                    id = sweep.add(label, float(hits.sum()) / (CLASSES * IMAGES))
                    counts += [
                        {"id": id, "attempt": "a0", "subset": subset, "class_index": index}
                        | {"correct": int(hit), "total": IMAGES}
                        for subset in ("validation", "test")
                        for index, hit in enumerate(hits)
                    ]
    return sweep, to_table("classes", counts)


def one(table: pa.Table, **wanted: Any) -> dict[str, Any]:
    (row,) = [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]
    found: dict[str, Any] = row
    return found


def test_a_known_division_has_an_interval_over_classes_and_seeds() -> None:
    sweep, classes = known()
    row = one(effects(*sweep.tables, classes), effect="transfer", at_chance="included")
    plain = one(effects(*sweep.tables), effect="transfer", at_chance="included")
    assert row["estimate"] == plain["estimate"]
    assert (row["unit"], row["n_splits"], row["n_seeds"], row["df"]) == (
        "class and seed",
        1,
        2,
        None,
    )
    assert row["low_simultaneous"] == row["low"] < row["estimate"] < row["high"]
    assert (plain["unit"], plain["low"], plain["n_seeds"]) == ("split", None, 2)
    assert row == one(effects(*sweep.tables, classes), effect="transfer", at_chance="included")


def test_a_difference_is_redrawn_with_the_same_classes() -> None:
    """Classes differ much, networks on one class little: so the level is far less certain."""
    sweep, classes = known(seeds=(0,))
    difference = one(effects(*sweep.tables, classes), effect="transfer", at_chance="included")
    level = one(levels(*sweep.tables, classes), arm="AnB")
    assert difference["se"] < level["se"] / 2


def test_redraws_are_those_of_the_keyed_generator() -> None:
    sweep, classes = known(seeds=(0,))
    members, trials = sweep.tables
    network = measurements(members, trials)[0]
    found = redraw_classes([network], single_splits(members), classes)[network.sweep, network.id]
    assert found.shape == (1 + DRAWS,)
    assert found[0] == network.value
    place = ("natural_manmade", "natural_manmade", network.target)
    random = np.random.default_rng(key("classes", *place))
    draw = random.multinomial(CLASSES, np.full(CLASSES, 1 / CLASSES), DRAWS)[-1]
    hits = [
        row["correct"]
        for row in classes.to_pylist()
        if row["id"] == network.id and row["subset"] == "test"
    ]
    assert found[-1] == pytest.approx(draw @ hits / (CLASSES * IMAGES), rel=1e-12)


def test_the_standard_error_is_that_of_classes() -> None:
    """With one seed and one target it is the deviation of class means over √classes."""
    sweep, classes = known(seeds=(0,))
    sweep.members = [row for row in sweep.members if row["target"] == "A"]
    row = one(levels(*sweep.tables, classes), arm="base")
    base = next(x["id"] for x in sweep.members if x["treatment"] == "base")
    shares = [
        x["correct"] / x["total"]
        for x in classes.to_pylist()
        if x["id"] == base and x["subset"] == "test"
    ]
    assert row["se"] == pytest.approx(np.std(shares) / np.sqrt(CLASSES), rel=0.05)


@pytest.mark.parametrize(
    ("division", "splits", "unit"),
    [
        ("random", ("s0",), "split"),
        ("random-999", ("s0-999",), "split"),
        ("named", ("a", "b"), "split"),
        ("named", ("a",), "class and seed"),
        ("whole", ("whole",), "class and seed"),
    ],
)
def test_only_one_split_by_nature_is_redrawn(
    division: str, splits: tuple[str, ...], unit: str
) -> None:
    sweep, classes = known(division=division, splits=splits)
    row = one(effects(*sweep.tables, classes), effect="transfer", at_chance="included")
    assert (row["unit"], row["n_splits"]) == (unit, len(splits))
    assert (row["low"] is None) == (unit == "split" and len(splits) == 1)
    assert needs_classes(sweep.tables[0]) == (unit == "class and seed")


def test_networks_without_counts_leave_no_interval() -> None:
    sweep, classes = known()
    missing = sweep.trials[0]["id"]
    some = pa.Table.from_pylist(
        [row for row in classes.to_pylist() if row["id"] != missing], schema=classes.schema
    )
    row = one(effects(*sweep.tables, some), effect="transfer", at_chance="included")
    assert (row["unit"], row["low"]) == ("split", None)


def test_divisions_and_images_a_class_are_never_pooled() -> None:
    sweep, _ = known(division="random", splits=("s0", "s1"))
    for limit in (10, 20):
        label = Label(
            split="whole", target="A", treatment="base", division="whole", images_per_class=limit
        )
        sweep.add(label, 0.5)
    found = [
        (row["division"], row["images_per_class"], row["arm"], row["n_splits"])
        for row in levels(*sweep.tables).to_pylist()
    ]
    assert found == [
        ("random", None, "base", 2),
        ("random", None, "AnB", 2),
        ("whole", 10, "base", 1),
        ("whole", 20, "base", 1),
    ]


def test_old_rows_without_a_division_are_random_or_named() -> None:
    sweep, _ = known(division=None, splits=("s0", "s1"))
    assert single_splits(sweep.tables[0]) == set()
    assert {x.division for x in measurements(*sweep.tables)} == {"random"}
    sweep, _ = known(division=None, splits=("animals",))
    assert single_splits(sweep.tables[0]) == {("demo", "named")}


def test_one_class_against_the_rest_is_scored_by_its_own_metrics() -> None:
    sweep = Synthetic()
    training = json.dumps({"target": {"classes": [3], "rest": [4, 5]}})
    score = {"classes": 2, "training": training}
    for split, gain in (("s0-999", 0.125), ("s1-999", 0.25)):
        place = {"split": split, "target": "B", "division": "random-999"}
        base = Label(treatment="base", **place)
        sweep.add(base, 0.99, balanced_accuracy=0.5, auroc=0.625, **score)
        copy = Label(
            split=split, target="B", treatment="transfer", n=1, frozen=True, division="random-999"
        )
        sweep.add(copy, 0.98, balanced_accuracy=0.5 + gain, auroc=0.75, **score)
    rows = [
        (row["metric"], row["estimate"], row["n_splits"])
        for row in effects(*sweep.tables).to_pylist()
        if (row["effect"], row["at_chance"]) == ("transfer", "included")
    ]
    assert rows == [("auroc", 0.125, 2), ("balanced_accuracy", 0.1875, 2)]
    assert {row["top1"] for row in levels(*sweep.tables).to_pylist()} == {None}


def test_two_ordinary_classes_keep_top1() -> None:
    sweep = Synthetic()
    training = json.dumps({"target": {"classes": [3, 4]}})
    label = Label(split="s0", target="A", treatment="base")
    sweep.add(label, 0.75, auroc=0.875, balanced_accuracy=0.75, training=training)
    assert [x.metric for x in measurements(*sweep.tables)] == ["top1"]


def fine_tuned(scores: dict[tuple[str, str, str], tuple[float, ...]]) -> Synthetic:
    """Networks of n = 1, 2, … by (arm, split, target); bases have one."""
    sweep = Synthetic()
    for (arm, split, target), values in scores.items():
        for n, value in enumerate(values, 1):
            kind = {"base": "base", "BnB+": "selffer", "AnB+": "transfer"}[arm]
            label = Label(split=split, target=target, treatment=kind, n=n if arm != "base" else 0)
            sweep.add(label, value)
    return sweep


def test_table_1_by_hand() -> None:
    """AnB+ on an easy target, BnB+ on a hard one: pooling sees a gain that no target has."""
    sweep = fine_tuned(
        {
            ("base", "s0", "A"): (0.5,),
            ("base", "s0", "B"): (0.75,),
            ("AnB+", "s0", "B"): (0.78, 0.80),
            ("BnB+", "s0", "A"): (0.53, 0.55),
        }
    )
    rows = {row["versus"]: row for row in table1(*sweep.tables).to_pylist()}
    versus_base, versus_own = rows["base"], rows["BnB+"]
    assert [row["layers"] for row in rows.values()] == ["1-2", "1-2"]
    assert versus_base["pooled"] == pytest.approx(79 - 62.5)
    assert versus_base["own_base"] == pytest.approx(4)
    assert (versus_base["n_networks"], versus_base["n_targets"], versus_base["n_both"]) == (2, 1, 1)
    assert versus_base["se"] == pytest.approx(1)  # deviation √2 over √2
    assert versus_own["pooled"] == pytest.approx(25)
    assert versus_own["own_base"] == pytest.approx(0, abs=1e-12)
    assert versus_own["se"] == pytest.approx(2**0.5)
    assert (versus_own["n_networks"], versus_own["n_targets"], versus_own["n_both"]) == (4, 2, 0)
    assert versus_own["paired"] is None


def test_table_1_pairs_where_a_target_has_both() -> None:
    scores = {}
    for split, gain in (("s0", 0.02), ("s1", 0.04)):
        for target in "AB":
            scores["base", split, target] = (0.5,)
            scores["BnB+", split, target] = (0.6, 0.6)
            scores["AnB+", split, target] = (0.6 + gain, 0.6 + gain)
    row = one(table1(*fine_tuned(scores).tables), versus="BnB+")
    assert row["paired"] == pytest.approx(3)
    assert row["paired_high"] - row["paired"] == pytest.approx(12.706204736, rel=1e-6)  # se 1, df 1
    assert (row["n_splits"], row["n_both"], row["own_base"]) == (2, 4, pytest.approx(3))


def test_table_1_leaves_out_what_has_no_networks() -> None:
    sweep = fine_tuned({("base", "s0", "A"): (0.5,), ("AnB+", "s0", "A"): (0.6,) * 5})
    rows = [(row["layers"], row["versus"]) for row in table1(*sweep.tables).to_pylist()]
    assert rows == [("1-5", "base"), ("3-5", "base"), ("5-5", "base")]
    assert one(table1(*sweep.tables), layers="5-5")["se"] is None
    assert table1(*Synthetic().tables).num_rows == 0
