"""Intervals over the classes and seeds of one split, and the splits that get them; Table 1."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import chdtri, ndtr

from orchestrator.stats.intervals import (
    _half_width,
    _Parts,
    class_parts,
    interval,
    needs_classes,
    single_splits,
)
from orchestrator.stats.measurements import Cell, Value
from orchestrator.store.schemas import to_table
from tests.synthetic import Label, Synthetic, blank

CLASSES, IMAGES = 40, 50


def known(
    *,
    division: str | None = "natural_manmade",
    splits: tuple[str, ...] = ("natural_manmade",),
    seeds: tuple[int, ...] = (0, 1),
) -> tuple[Synthetic, pa.Table]:
    """Return bases and frozen transfers of both directions, and their counts per class."""
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
                        blank("classes")
                        | {"id": id, "attempt": "a0a0a0a0", "subset": subset, "class_index": index}
                        | {"correct": int(hit), "total": IMAGES}
                        for subset in ("validation", "test")
                        for index, hit in enumerate(hits)
                    ]
    return sweep, to_table("classes", counts)


def one(table: pa.Table, **wanted: Any) -> dict[str, Any]:
    row: dict[str, Any]
    (row,) = [r for r in table.to_pylist() if all(r[k] == v for k, v in wanted.items())]
    return row


def test_a_known_division_has_an_interval_over_classes_and_seeds() -> None:
    sweep, classes = known()
    row = one(sweep.statistics(classes).effects, effect="transfer", at_chance="included")
    plain = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    assert row["estimate"] == plain["estimate"]
    assert (row["unit"], row["n_splits"], row["n_seeds"], row["df"]) == (
        "class and seed",
        1,
        2,
        None,
    )
    assert row["low_simultaneous"] == row["low"] < row["estimate"] < row["high"]
    assert (plain["unit"], plain["low"], plain["n_seeds"]) == ("split", None, 2)
    assert row == one(sweep.statistics(classes).effects, effect="transfer", at_chance="included")


def test_a_difference_is_of_the_same_classes() -> None:
    """Classes differ much, networks on one class little: so a level is far less certain."""
    sweep, classes = known()
    difference = one(sweep.statistics(classes).effects, effect="transfer", at_chance="included")
    level = one(sweep.statistics(classes).levels, arm="AnB")
    assert difference["se"] < level["se"] / 2


def cell(target: str, seed: int) -> Cell:
    """Return a cell of a known division."""
    place = {"sweep": "demo", "division": "whole", "images_per_class": None, "metric": "top1"}
    place |= {"split": "whole", "target": target, "seed": seed}
    return Cell(**{name: place.get(name) for name in Cell._fields})


@pytest.mark.parametrize(("seed_sd", "class_sd"), [(0.29, 7.0), (0.6, 5.0)])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_cover_classes_and_seeds(seeds: int, seed_sd: float, class_sd: float) -> None:
    """95 % intervals of 500 classes cover the truth, 0, in 93 to 97 % of simulated sweeps.

    The classes are those of all seeds. Each seed adds noise of its own to each class.
    """
    size, sweeps, covered = 500, 1500, 0
    random = np.random.default_rng(12)
    cells = [cell(target, seed) for target in "AB" for seed in range(seeds)]
    for _ in range(sweeps):
        values = []
        for k, place in enumerate(cells):
            if k % seeds == 0:
                classes = random.normal(0, class_sd, size)
            scores = classes + random.normal(0, seed_sd) + random.normal(0, 1, size)
            parts = (scores - scores.mean()) / size
            values.append(Value(place, np.append(scores.mean(), parts), frozenset([str(k)])))
        _, row = interval(values, 7)
        assert row["low_simultaneous"] <= row["low"]
        covered += row["low"] < 0 < row["high"]
    assert 0.93 < covered / sweeps < 0.97


def test_noise_of_a_class_in_one_seed_is_counted_once() -> None:
    """By hand, two seeds that are √2 apart: the variance of their mean is ½."""
    shared, own = np.array([1.0, -1.0] * 2), np.array([1.0, 1.0, -1.0, -1.0])
    numbers = [np.append(mean, (shared + sign * own) / 4) for mean, sign in ((0, 1), (2**0.5, -1))]
    values = [Value(cell("A", k), x, frozenset([str(k)])) for k, x in enumerate(numbers)]
    assert interval(values, 1)[1]["se"] == pytest.approx(0.5**0.5)  # they share nothing on balance
    numbers = [np.append(mean, shared / 4) for mean in (0, 2**0.5)]
    values = [Value(cell("A", k), x, frozenset([str(k)])) for k, x in enumerate(numbers)]
    assert interval(values, 1)[1]["se"] == pytest.approx((0.5 + 4 / 16 * 4 / 3) ** 0.5)


def test_directions_with_other_seeds_are_independent() -> None:
    """By hand, √2 apart in each direction: a quarter of the sum of both variances of a mean, ½."""
    numbers = [np.append(mean, np.zeros(4)) for mean in (0, 2**0.5)] * 2
    cells = [cell(target, seed) for target, seed in (("A", 0), ("A", 1), ("B", 2), ("B", 3))]
    values = [Value(x, n, frozenset([str(x)])) for x, n in zip(cells, numbers, strict=True)]
    assert interval(values, 1)[1]["se"] == pytest.approx(0.5)


def test_one_seed_has_no_interval() -> None:
    sweep, classes = known(seeds=(0,))
    row = one(sweep.statistics(classes).effects, effect="transfer", at_chance="included")
    empty = {name: row[name] for name in ("se", "low", "high", "low_simultaneous")}
    assert set(empty.values()) == {None}
    assert (row["unit"], row["n_seeds"]) == ("class and seed", 1)


def test_the_parts_of_classes_are_their_deviations() -> None:
    sweep, classes = known(seeds=(0,))
    stats = sweep.statistics()
    network = stats.networks[0]
    parts = class_parts([network], single_splits(stats.members), classes)
    value, *deviations = parts[network.sweep, network.id]
    hits = [
        row["correct"]
        for row in classes.to_pylist()
        if row["id"] == network.id and row["subset"] == "test"
    ]
    assert value == network.value
    assert deviations == pytest.approx([(x / IMAGES - value) / CLASSES for x in hits])
    assert np.linalg.norm(deviations) == pytest.approx(
        np.std([x / IMAGES for x in hits]) / np.sqrt(CLASSES)
    )


@pytest.mark.parametrize(
    ("division", "splits", "unit"),
    [
        ("random", ("s0",), "split"),
        ("random-999", ("s0-999",), "split"),
        ("drawn", ("a", "b"), "split"),
        ("drawn", ("a",), "split"),
        ("animals", ("animals",), "class and seed"),
        ("random-animals", ("random-animals",), "class and seed"),
        ("whole", ("whole",), "class and seed"),
    ],
)
def test_only_one_split_by_nature_is_over_classes(
    division: str, splits: tuple[str, ...], unit: str
) -> None:
    sweep, classes = known(division=division, splits=splits)
    row = one(sweep.statistics(classes).effects, effect="transfer", at_chance="included")
    assert (row["unit"], row["n_splits"]) == (unit, len(splits))
    assert (row["low"] is None) == (unit == "split" and len(splits) == 1)
    assert needs_classes(sweep.tables[0]) == (unit == "class and seed")


def test_networks_without_counts_leave_no_interval() -> None:
    sweep, classes = known()
    missing = sweep.trials[0]["id"]
    some = pa.Table.from_pylist(
        [row for row in classes.to_pylist() if row["id"] != missing], schema=classes.schema
    )
    row = one(sweep.statistics(some).effects, effect="transfer", at_chance="included")
    assert (row["unit"], row["low"]) == ("split", None)


def test_divisions_and_images_per_class_are_never_pooled() -> None:
    sweep, _ = known(division="random", splits=("s0", "s1"))
    for limit in (10, 20):
        label = Label(
            split="whole", target="A", treatment="base", division="whole", images_per_class=limit
        )
        sweep.add(label, 0.5)
    pooled = [
        (row["division"], row["images_per_class"], row["arm"], row["n_splits"])
        for row in sweep.statistics().levels.to_pylist()
    ]
    assert pooled == [
        ("random", None, "base", 2),
        ("random", None, "AnB", 2),
        ("whole", 10, "base", 1),
        ("whole", 20, "base", 1),
    ]


def test_each_named_split_is_a_population_of_its_own() -> None:
    """Also in old stores, which called all of them `named`."""
    splits = ("animals", "colours")
    for division in ("named", None):
        sweep, classes = known(division=division, splits=splits)
        table = sweep.statistics(classes).effects
        rows = [one(table, division=x, effect="transfer", at_chance="included") for x in splits]
        assert [(row["n_splits"], row["n_networks"]) for row in rows] == [(1, 8)] * 2
        assert {row["unit"] for row in rows} == {"class and seed"}
        assert rows[0]["estimate"] != rows[1]["estimate"]
        assert set(table["division"].to_pylist()) == set(splits)
    sweep, _ = known(division="drawn", splits=splits)
    row = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    assert (row["division"], row["n_splits"], row["df"]) == ("drawn", 2, 1)


def test_old_rows_without_a_division_are_random_or_named_splits() -> None:
    sweep, _ = known(division=None, splits=("s0", "s1"))
    assert single_splits(sweep.tables[0]) == set()
    assert {x.division for x in sweep.statistics().networks} == {"random"}
    sweep, _ = known(division=None, splits=("animals",))
    assert single_splits(sweep.tables[0]) == {("demo", "animals", None)}


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
        for row in sweep.statistics().effects.to_pylist()
        if (row["effect"], row["at_chance"]) == ("transfer", "included")
    ]
    assert rows == [("auroc", 0.125, 2), ("balanced_accuracy", 0.1875, 2)]
    assert {row["top1"] for row in sweep.statistics().levels.to_pylist()} == {None}


def test_two_ordinary_classes_keep_top1() -> None:
    sweep = Synthetic()
    training = json.dumps({"target": {"classes": [3, 4]}})
    label = Label(split="s0", target="A", treatment="base")
    sweep.add(label, 0.75, auroc=0.875, balanced_accuracy=0.75, training=training)
    assert [x.metric for x in sweep.statistics().networks] == ["top1"]


def fine_tuned(scores: dict[tuple[str, str, str], tuple[float, ...]]) -> Synthetic:
    """Return networks of n = 1, 2, … with these scores per (arm, split, target)."""
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
    rows = {row["versus"]: row for row in sweep.statistics().table1.to_pylist()}
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
    row = one(fine_tuned(scores).statistics().table1, versus="BnB+")
    assert row["paired"] == pytest.approx(3)
    assert row["paired_high"] - row["paired"] == pytest.approx(12.706204736, rel=1e-6)  # se 1, df 1
    assert (row["n_splits"], row["n_both"], row["own_base"]) == (2, 4, pytest.approx(3))


def test_table_1_leaves_out_what_has_no_networks() -> None:
    sweep = fine_tuned({("base", "s0", "A"): (0.5,), ("AnB+", "s0", "A"): (0.6,) * 5})
    rows = [(row["layers"], row["versus"]) for row in sweep.statistics().table1.to_pylist()]
    assert rows == [("1-5", "base"), ("3-5", "base"), ("5-5", "base")]
    assert one(sweep.statistics().table1, layers="5-5")["se"] is None
    assert Synthetic().statistics().table1.num_rows == 0


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.97])
def test_simultaneous_bounds_cover_at_least_their_level(seeds: int, share: float) -> None:
    """Each of 7 comparisons covers at 1 − 0.05/7, by integration over the deviation of seeds."""
    df, family = seeds - 1, 7
    between = share * chdtri(df, (np.arange(4000) + 0.5) / 4000) / df
    halves = np.array([_half_width(_Parts(float(x), df, 1 - share, 998), family) for x in between])
    assert (2 * ndtr(halves) - 1).mean() >= 1 - 0.05 / family - 1e-4


def test_a_target_of_all_images_is_one_draw_beside_several_of_few() -> None:
    sweep = Synthetic()
    for split, limit in (("d0", 5), ("d1", 5), ("all", None)):
        options = {"division": "wide to few", "images_per_class": limit}
        sweep.add(Label(split=split, target="B", treatment="base", **options), 0.5)  # type: ignore[arg-type]
    assert single_splits(sweep.tables[0]) == {("demo", "wide to few", None)}
