"""Two sweeps cell by cell: pairs, means, and the false-discovery rate."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from orchestrator.reference import recomputed
from orchestrator.stats.contrasts import CONTRASTS, contrasts
from orchestrator.stats.statistics import Statistics
from tests.synthetic import Label, grid

SPLITS = ("s0", "s1", "s2", "s3")
MOVED = {"s0": 0.010, "s1": 0.012, "s2": 0.008, "s3": 0.014}  # of frozen transfers with n = 2


def moved(label: Label) -> float:
    is_moved = label.treatment == "transfer" and label.frozen and label.n == 2
    noise = (hash_of(label) % 7 - 3) / 1000
    return 0.8 + (MOVED[label.split] if is_moved else noise)


def hash_of(label: Label) -> int:
    return sum(map(ord, f"{label.split}{label.target}{label.treatment}{label.n}{label.frozen}"))


def statistics(top1: Any, splits: tuple[str, ...] = SPLITS, name: str = "demo") -> Statistics:
    """A grid in which every split has a hash of its own."""
    sweep = grid(top1, name=name, splits=splits, layers=(1, 2))
    sweep.members = [{**x, "split_hash": f"hash {x['split']}"} for x in sweep.members]
    return sweep.statistics()


def test_pairs_are_compared_within_split_target_and_seed() -> None:
    rows = contrasts(statistics(lambda _: 0.8), statistics(moved)).to_pylist()
    assert len(rows) == 2 + 5 * 2
    cell = next(row for row in rows if (row["arm"], row["n"]) == ("AnB", 2))
    test = stats.ttest_1samp(list(MOVED.values()), 0)
    assert cell["difference"] == pytest.approx(0.011)
    assert cell["p"] == pytest.approx(test.pvalue)
    assert (cell["low"], cell["high"]) == pytest.approx(tuple(test.confidence_interval()))
    assert (cell["n_pairs"], cell["n_same"], cell["n_splits"], cell["paired"]) == (8, 8, 4, True)


def test_the_false_discovery_rate_is_of_all_cells() -> None:
    rows = contrasts(statistics(lambda _: 0.8), statistics(moved)).to_pylist()
    rates = stats.false_discovery_control([row["p"] for row in rows])
    assert [row["q"] for row in rows] == pytest.approx(list(rates))
    assert [(row["arm"], row["n"]) for row in rows if row["differs"]] == [("AnB", 2)]


def test_without_pairs_the_means_of_splits_are_compared() -> None:
    first = statistics(lambda x: 0.8 + 0.001 * int(x.split[1]), SPLITS)
    second = statistics(lambda x: 0.81 + 0.002 * int(x.split[1]), ("s5", "s6", "s7"))
    row = contrasts(first, second).to_pylist()[0]
    test = stats.ttest_ind([0.82, 0.822, 0.824], [0.8, 0.801, 0.802, 0.803], equal_var=False)
    assert row["difference"] == pytest.approx(0.0205)
    assert row["p"] == pytest.approx(test.pvalue)
    bounds = tuple(test.confidence_interval())
    assert (row["low"], row["high"]) == pytest.approx(bounds)
    assert (row["paired"], row["n_pairs"], row["n_splits"]) == (False, 0, 3)


def test_one_split_tests_nothing_and_equal_numbers_differ_in_nothing() -> None:
    one = statistics(lambda _: 0.8, ("s0",))
    (row, *_) = contrasts(one, one).to_pylist()
    assert [row[name] for name in ("se", "low", "p", "q", "differs")] == [None] * 5
    rows = contrasts(*[statistics(lambda _: 0.8)] * 2).to_pylist()
    assert {(row["p"], row["differs"], row["n_same"]) for row in rows} == {(1.0, False, 8)}
    higher = contrasts(statistics(lambda _: 0.8), statistics(lambda _: 0.9)).to_pylist()
    assert all(row["differs"] for row in higher)


def test_relative_differences_leave_the_base_out() -> None:
    def better(label: Label) -> float:
        return 0.9 if label.treatment == "base" else 0.8

    rows = contrasts(statistics(lambda _: 0.7), statistics(better), relative=True).to_pylist()
    assert "base" not in {row["arm"] for row in rows}
    assert {round(row["difference"], 6) for row in rows} == {-0.1}


def test_a_sweep_and_the_paper_share_cells() -> None:
    paper = recomputed.statistics("top1")
    rows = contrasts(statistics(lambda _: 0.5), paper, relative=True).to_pylist()
    assert {(row["arm"], row["n"]) for row in rows} >= {("AnB", 1), ("AnB", 2)}
    assert not any(row["paired"] for row in rows)


def test_nothing_in_common_is_no_row() -> None:
    only = grid(lambda x: 0.8 if x.n == 1 else None, layers=(1,)).statistics()
    other = grid(lambda x: 0.8 if x.n == 2 else None, layers=(2,)).statistics()
    assert contrasts(only, other).schema == CONTRASTS
    assert contrasts(only, other).num_rows == 0
