"""Effects, levels and speed, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from orchestrator.stats.effects import EFFECTS, LEVELS
from orchestrator.stats.learning_speed import SPEED, SPEEDS
from orchestrator.stats.measurements import DIFFERENCES
from tests.synthetic import Label, Synthetic, curve_rows, digits, grid


def label(split: str, target: str, treatment: str = "base", n: int = 0, **options: Any) -> Label:
    return Label(split=split, target=target, treatment=treatment, n=n, **options)


def rows(table: pa.Table, **wanted: Any) -> list[dict[str, Any]]:
    return [
        row for row in table.to_pylist() if all(row[key] == value for key, value in wanted.items())
    ]


def one(table: pa.Table, **wanted: Any) -> dict[str, Any]:
    (row,) = rows(table, **wanted)
    return row


def frozen_transfer(
    drops: dict[tuple[str, str], float], *, base: float = 0.75, n: int = 3
) -> Synthetic:
    """A base and one frozen transfer for each (split, target), lower by the given fraction."""
    sweep = Synthetic()
    for (split, target), drop in drops.items():
        sweep.add(label(split, target), base)
        sweep.add(label(split, target, "transfer", n, frozen=True), base - drop)
    return sweep


def test_the_split_is_the_unit() -> None:
    # split means 1/8 and 3/8: mean 1/4, standard deviation 0.25/√2, se 1/8, one degree of freedom
    sweep = frozen_transfer(
        {("s0", "A"): 0.0, ("s0", "B"): 0.25, ("s1", "A"): 0.25, ("s1", "B"): 0.5}
    )
    row = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    assert row["estimate"] == -0.25
    assert row["se"] == pytest.approx(0.125, rel=1e-12)
    assert (row["df"], row["n_splits"], row["n_networks"], row["unit"]) == (1, 2, 8, "split")
    assert row["high"] - row["estimate"] == pytest.approx(12.706204736 * 0.125, rel=1e-9)
    assert row["low"] + row["high"] == pytest.approx(-0.5, rel=1e-12)
    assert row["low_simultaneous"] == row["low"]  # one n is one comparison
    assert (row["sweep"], row["n"], row["confidence"]) == ("demo", 3, 0.95)


def test_seeds_are_averaged_before_directions() -> None:
    sweep = Synthetic()
    for target, seed, drop in (("A", 0, 0.5), ("A", 1, 0.25), ("A", 2, 0.0), ("B", 0, 0.0)):
        sweep.add(label("s0", target, seed=seed), 0.75)
        sweep.add(label("s0", target, "transfer", 1, frozen=True, seed=seed), 0.75 - drop)
    row = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    assert row["estimate"] == -0.125  # A −0.25, B 0: not the mean of four networks
    assert row["n_networks"] == 8


def test_a_pair_needs_the_same_seed() -> None:
    sweep = Synthetic()
    sweep.add(label("s0", "A", seed=0), 0.75)
    sweep.add(label("s0", "A", "transfer", 1, frozen=True, seed=1), 0.5)
    assert sweep.statistics().effects.num_rows == 0


def test_one_split_has_no_interval() -> None:
    row = one(
        frozen_transfer({("s0", "A"): 0.25, ("s0", "B"): 0.5}).statistics().effects,
        effect="transfer",
        at_chance="included",
    )
    assert row["estimate"] == -0.375
    assert (row["df"], row["n_splits"], row["n_networks"]) == (0, 1, 4)
    bounds = ("se", "low", "high", "low_simultaneous", "high_simultaneous")
    assert [row[key] for key in bounds] == [None] * 5


def test_every_effect_is_the_difference_that_it_says() -> None:
    sweep = Synthetic()
    reached = {"base": 0.5, "base_long": 0.625, "BnB": 0.4375, "BnB+": 0.75, "AnB": 0.25}
    reached |= {"AnB+": 0.875, "random": 0.125, "pixels": 0.1875}
    reached |= {"Bn|B": 0.46875, "An|B": 0.375}
    for name, treatment in (("BnB", "selffer"), ("AnB", "transfer")):
        sweep.add(label("s0", "A", treatment, 2, frozen=True), reached[name])
        sweep.add(label("s0", "A", treatment, 2), reached[f"{name}+"])
    sweep.add(label("s0", "A"), reached["base"])
    sweep.add(label("s0", "A", "base_long"), reached["base_long"])
    sweep.add(label("s0", "A", "pixels"), reached["pixels"])
    for name, treatment in (("random", "random"), ("Bn|B", "stitched_self"), ("An|B", "stitched")):
        sweep.add(label("s0", "A", treatment, 2, frozen=True), reached[name])
    by_effect = {
        row["effect"]: row for row in rows(sweep.statistics().effects, at_chance="included")
    }
    assert {name: row["estimate"] for name, row in by_effect.items()} == {
        "selffer": -0.0625,
        "selffer_gain": 0.25,
        "transfer": -0.25,
        "gain": 0.375,
        "random": -0.375,
        "longer_training": 0.125,
        "pixels": -0.3125,
        "co_adaptation": 0.0625,
        "specificity": 0.1875,
        "recovery": 0.625,
        "transfer_gain": 0.125,
        "gain_over_longer": 0.25,
        "selffer_gain_over_longer": 0.125,
        "stitched_self": -0.03125,
        "stitched": -0.125,
        "stitching_self": 0.03125,
        "stitching_penalty": 0.125,
        "stitching_specificity": 0.09375,
        "stitching_self_gain": 0.03125,
        "stitching_gain": 0.125,
    }
    assert {name: row["n"] for name, row in by_effect.items() if row["n"] != 2} == {
        "longer_training": 0,
        "pixels": 0,
    }
    assert set(by_effect) == set(DIFFERENCES)


def test_the_gap_of_training_over_test_is_a_metric() -> None:
    sweep = Synthetic()
    for split, gap in (("s0", 0.25), ("s1", 0.125)):
        sweep.add(label(split, "A"), 0.5, train_top1=1.0)
        sweep.add(label(split, "A", "transfer", 2), 0.625, train_top1=0.625 + gap)
    sweep.add(label("s2", "A"), 0.5)  # an old row without training accuracy
    gaps = sweep.statistics().by("train_gap")
    (row,) = rows(gaps.effects, effect="gain", at_chance="included")
    assert (row["metric"], row["estimate"], row["n_splits"]) == ("train_gap", -0.3125, 2)
    half = 12.706204736432095 * 0.0625  # t(1) · se
    assert (row["low"], row["high"]) == pytest.approx((-0.3125 - half, -0.3125 + half))
    values = {(row["arm"], row["value"]) for row in gaps.levels.to_pylist()}
    assert values == {("base", 0.5), ("AnB+", 0.1875)}


def test_simultaneous_bounds_are_bonferroni_over_n() -> None:
    table = digits().statistics().effects
    for row in rows(table, effect="gain", at_chance="included"):
        half = student.ppf(1 - 0.05 / 2 / 7, 3) * row["se"]
        assert row["high_simultaneous"] - row["estimate"] == pytest.approx(half, rel=1e-9)
        assert row["high"] - row["estimate"] == pytest.approx(student.ppf(0.975, 3) * row["se"])


def test_conditions_are_never_pooled() -> None:
    """Two rates: each has rows and a goal of its own, and no row has their mean."""
    sweep = Synthetic()
    reached = {None: (0.75, 0.5, 0.875), '{"recipe.rate": 0.05}': (0.5, 0.75, 0.625)}
    for condition, (base, frozen, tuned) in reached.items():
        for split in ("s0", "s1"):
            for target in "AB":
                place: dict[str, Any] = {"split": split, "target": target, "condition": condition}
                labels = {Label(treatment="base", **place): base}
                labels[Label(treatment="transfer", n=1, frozen=True, **place)] = frozen
                labels[Label(treatment="transfer", n=1, **place)] = tuned
                for of_network, top1 in labels.items():
                    id = sweep.add(of_network, top1)
                    sweep.curves += curve_rows(id, [(100, 0.6), (200, top1)])
    stats = sweep.statistics()
    for condition, (base, frozen, tuned) in reached.items():
        mine: dict[str, Any] = {"condition": condition}
        row = one(stats.effects, effect="transfer", at_chance="included", **mine)
        assert (row["estimate"], row["n_splits"], row["n_networks"]) == (frozen - base, 2, 8)
        assert one(stats.levels, arm="base", **mine)["value"] == base
        assert {row["goal"] for row in rows(stats.speed, **mine)} == {base}
        assert len(rows(stats.speed, **mine)) == 12
        gain = one(stats.speeds, arm="AnB", **mine)
        assert (gain["n_networks"], gain["n_never"]) == (4, 4 if frozen < base else 0)
        (row,) = rows(stats.table1, versus="base", **mine)
        assert (row["own_base"], row["n_networks"]) == (100 * (tuned - base), 4)
    assert stats.effects.num_rows == 2 * 2 * 3  # transfer, gain and recovery


def test_missing_cells_are_only_fewer_networks() -> None:
    full = {("s0", "A"): 0.25, ("s0", "B"): 0.5, ("s1", "A"): 0.25}
    sweep = frozen_transfer(full)
    sweep.add(label("s1", "B"), 0.75)
    sweep.add(label("s1", "B", "transfer", 3, frozen=True), None)  # has not run
    sweep.add(label("s2", "A"), None, outcome="failed", error_message="loss is nan")
    sweep.add(label("s2", "A", "transfer", 3, frozen=True), 0.5)  # its base failed
    row = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    assert row["estimate"] == (-0.375 - 0.25) / 2
    assert (row["n_splits"], row["n_networks"]) == (2, 6)
    # s1 has one direction left; so would s2 have, but its plan has no other
    assert (row["n_half"], row["n_missing"]) == (1, 2)
    level = one(sweep.statistics().levels, arm="AnB")
    assert (level["n_splits"], level["n_half"], level["n_missing"]) == (3, 1, 1)
    base = one(sweep.statistics().levels, arm="base")
    assert (base["n_splits"], base["n_half"], base["n_missing"]) == (2, 0, 1)


def test_a_plan_of_one_direction_has_no_half_splits() -> None:
    sweep = frozen_transfer({("s0", "A"): 0.25, ("s1", "A"): 0.5})
    row = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    assert (row["n_splits"], row["n_half"], row["n_missing"]) == (2, 0, 0)


def test_halves_of_different_metrics_are_not_half_splits() -> None:
    """Half B is one class against the rest: it has a group of its own."""
    sweep = Synthetic()
    training = '{"target": {"classes": [1], "rest": [2]}}'
    scores = {"auroc": 0.75, "balanced_accuracy": 0.5, "training": training}
    for split in ("s0-9", "s1-9"):
        for target in "AB":
            options = scores if target == "B" else {}
            place = {"division": "random-9"}
            sweep.add(label(split, target, **place), 0.75, **options)
            sweep.add(label(split, target, "transfer", 1, frozen=True, **place), 0.5, **options)
    stats = sweep.statistics()
    assert {row["metric"] for row in stats.levels.to_pylist()} == {
        *("top1", "auroc", "balanced_accuracy")
    }
    for row in [*stats.levels.to_pylist(), *stats.effects.to_pylist()]:
        assert (row["n_splits"], row["n_half"], row["n_missing"]) == (2, 0, 0)


def test_networks_at_chance_are_missing_where_they_are_excluded() -> None:
    sweep = frozen_transfer({("s0", "A"): 0.25, ("s1", "A"): 0.5, ("s1", "B"): 0.5})
    sweep.trials = [row | {"at_chance": row["split"] == "s0"} for row in sweep.trials]
    for at_chance, missing in (("included", 0), ("excluded", 1)):
        row = one(sweep.statistics().effects, effect="transfer", at_chance=at_chance)
        assert (row["n_half"], row["n_missing"]) == (0, missing)


def test_no_trials_give_empty_tables_of_the_right_schema() -> None:
    sweep = Synthetic()
    sweep.add(label("s0", "A"), None)
    stats = sweep.statistics()
    tables = (stats.effects, stats.levels, stats.speed, stats.speeds)
    assert [table.num_rows for table in tables] == [0, 0, 0, 0]
    assert [table.schema for table in tables] == [EFFECTS, LEVELS, SPEED, SPEEDS]


def test_effects_with_and_without_networks_at_chance() -> None:
    sweep = frozen_transfer({("s0", "A"): 0.25, ("s1", "A"): 0.25})
    sweep.add(label("s2", "A"), 0.75)
    sweep.add(label("s2", "A", "transfer", 3, frozen=True), 0.125, at_chance=True)
    sweep.add(label("s3", "A"), 0.25, at_chance=True)  # a base at chance takes its pairs along
    sweep.add(label("s3", "A", "transfer", 3, frozen=True), 0.25)
    table = sweep.statistics().effects
    included = one(table, effect="transfer", at_chance="included")
    excluded = one(table, effect="transfer", at_chance="excluded")
    assert (included["estimate"], included["n_splits"]) == ((-0.25 - 0.25 - 0.625 + 0) / 4, 4)
    assert (excluded["estimate"], excluded["n_splits"], excluded["n_networks"]) == (-0.25, 2, 4)


def test_labels_come_from_the_sweep_and_equal_trials_count_in_both() -> None:
    first = frozen_transfer({("s0", "A"): 0.25})
    second = Synthetic("other")
    renamed = [row | {"sweep": "other", "split": "natural"} for row in first.members]
    second.members = first.members + renamed
    second.trials = first.trials
    networks = second.statistics().networks
    assert [(x.sweep, x.split) for x in networks] == [("demo", "s0")] * 2 + [
        ("other", "natural")
    ] * 2
    assert [row["sweep"] for row in rows(second.statistics().effects, at_chance="included")] == [
        "demo",
        "other",
    ]


def test_levels() -> None:
    row = one(frozen_transfer({("s0", "A"): 0.25, ("s0", "B"): 0.5}).statistics().levels, arm="AnB")
    assert (row["top1"], row["n"], row["n_splits"], row["n_networks"]) == (0.375, 3, 1, 2)
    assert row["low"] is None


def with_curves() -> Synthetic:
    """A base that ends at 0.75, and three networks of one n that reach it early, late and never."""
    sweep = Synthetic()
    for target, seed, middle, end in (("A", 0, 0.75, 1.0), ("A", 1, 0.5, 0.75), ("B", 0, 0.5, 0.5)):
        base = sweep.add(label("s0", target, seed=seed), 0.75)
        copy = sweep.add(label("s0", target, "transfer", 2, seed=seed), end)
        sweep.curves += curve_rows(base, [(50, 0.5), (100, 0.75)])
        sweep.curves += curve_rows(copy, [(100, end), (50, middle)])  # any order
    return sweep


def test_speed_is_the_first_evaluation_at_the_base_final_accuracy() -> None:
    stats = with_curves().statistics()
    table = stats.speed
    assert [row["steps"] for row in rows(table, arm="AnB+")] == [50, 100, None]
    assert [row["goal"] for row in table.to_pylist()] == [0.75] * 6
    # from chance (1/5) at step 0, by trapezoids: (0.2 + 0.5)/2 · 1/2 + (0.5 + 0.75)/2 · 1/2
    assert rows(table, arm="base")[0]["area"] == pytest.approx(0.4875, rel=1e-12)
    row = one(stats.speeds, arm="AnB+")
    assert (row["steps"], row["n_never"], row["n_networks"]) == (100.0, 1, 3)
    # areas: base .4875; A .675 (seed 0) and .4875 (seed 1), B .425
    assert row["area_gain"] == pytest.approx(((0.1875 + 0) / 2 - 0.0625) / 2, abs=1e-12)
    assert one(stats.speeds, arm="base")["area_gain"] == 0


def test_a_median_that_is_never_is_null() -> None:
    sweep = with_curves()
    sweep.members = [row for row in sweep.members if row["seed"] == 0]  # one reached it, one never
    row = one(sweep.statistics().speeds, arm="AnB+")
    assert (row["steps"], row["n_never"], row["n_networks"]) == (None, 1, 2)


def test_area_ends_with_the_base_and_holds_the_last_height() -> None:
    sweep = Synthetic()
    base = sweep.add(label("s0", "A"), 0.5)
    long = sweep.add(label("s0", "A", "base_long"), 1.0)
    short = sweep.add(label("s0", "A", "transfer", 1), 0.6)
    sweep.curves += curve_rows(base, [(100, 0.2)])
    sweep.curves += curve_rows(long, [(200, 1.0)])  # at step 100 halfway between 0.2 and 1.0
    sweep.curves += curve_rows(short, [(50, 0.6)])
    areas = {row["arm"]: row["area"] for row in sweep.statistics().speed.to_pylist()}
    assert areas["base"] == pytest.approx(0.2)
    assert areas["base_long"] == pytest.approx((0.2 + 0.6) / 2)
    assert areas["AnB+"] == pytest.approx((0.2 + 0.6) / 2 / 2 + 0.6 / 2)


shifts = st.floats(-0.1, 0.1).map(lambda x: round(x * 1024) / 1024)  # exact in binary


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.sampled_from([("s0", "A"), ("s0", "B"), ("s1", "A")]), shifts))
def test_a_constant_added_to_one_target_changes_no_effect(
    added: dict[tuple[str, str], float],
) -> None:
    def top1(label: Label) -> float:
        return 0.5 + 0.03125 * label.n * (1 if label.treatment == "selffer" else -1)

    def shifted(label: Label) -> float:
        return top1(label) + added.get((label.split, label.target), 0.0)

    grids = [grid(f, splits=("s0", "s1"), layers=(1, 2)) for f in (top1, shifted)]
    plain, moved = (sweep.statistics().effects.to_pylist() for sweep in grids)
    assert plain == moved


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ABCD"), st.integers(0, 1000)), min_size=1, max_size=12))
def test_intervals_hold_their_estimate(values: list[tuple[str, int]]) -> None:
    sweep = Synthetic()
    for seed, (split, right) in enumerate(values):
        sweep.add(label(split, "A", seed=seed), 0.5)
        sweep.add(label(split, "A", "transfer", 1, frozen=True, seed=seed), right / 1000)
    row = one(sweep.statistics().effects, effect="transfer", at_chance="included")
    splits = {split for split, _ in values}
    assert (row["n_splits"], row["n_networks"]) == (len(splits), 2 * len(values))
    if len(splits) < 2:
        assert row["low"] is None
    else:
        assert row["low_simultaneous"] <= row["low"] <= row["estimate"] <= row["high"]
        assert math.isfinite(row["se"])
