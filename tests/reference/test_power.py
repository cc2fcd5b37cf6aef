"""The difference that a design can detect, against noncentral t and the published rows."""

from __future__ import annotations

import math
from typing import Any

import pytest
from scipy.stats import nct
from scipy.stats import t as student

from orchestrator.reference.power import (
    Design,
    design_of,
    detectable,
    few_splits,
    one_seed,
    power_summary,
    spread,
)
from orchestrator.reference.recomputed import statistics
from tests.synthetic import Label, Synthetic


def members(*arms: tuple[str, str, str, int], division: str = "random") -> list[dict[str, Any]]:
    """Return labels of fine-tuned networks of n = 1 and 2 per (treatment, split, target, seed)."""
    labels: list[dict[str, Any]] = []
    for treatment, split, target, seed in arms:
        for n in (1, 2):
            label = Label(split=split, target=target, treatment=treatment, n=n, seed=seed)
            labels.append(vars(label) | {"division": division})
    return labels


def balanced(splits: int, seeds: int = 1) -> list[dict[str, Any]]:
    return members(
        *(
            (treatment, f"s{split}", target, seed)
            for split in range(splits)
            for target in "AB"
            for seed in range(seeds)
            for treatment in ("selffer", "transfer")
        )
    )


def test_the_spread_is_the_pooled_deviation_about_the_mean_of_an_n() -> None:
    sweep = Synthetic()
    drops = {"selffer": (0.0, 0.25), "transfer": (0.25, 0.5)}
    for index, split in enumerate(("s0", "s1")):
        sweep.add(Label(split=split, target="A", treatment="base"), 0.75)
        for treatment, values in drops.items():
            label = Label(split=split, target="A", treatment=treatment, n=1, frozen=True)
            sweep.add(label, 0.75 - values[index])
    # squares about each arm's mean: 2 · 0.125² each, one degree of freedom each
    assert spread(sweep.statistics().networks) == pytest.approx(math.sqrt(0.0625 / 2))


def test_the_spread_of_the_published_networks() -> None:
    sd = spread(statistics().networks)
    assert round(100 * sd, 3) == 0.291  # points; 0.05 to 0.37 at single n


@pytest.mark.parametrize("splits", [2, 4, 10])
def test_the_power_at_the_smallest_difference(splits: int) -> None:
    design = Design(splits=splits, directions=2, seeds=3)
    smallest = detectable(0.01, design)
    assert smallest is not None
    shift = smallest / (0.01 / math.sqrt(splits * 6))
    critical = student.ppf(0.975, splits - 1)
    assert 1 - nct.cdf(critical, splits - 1, shift) == pytest.approx(0.8, abs=1e-5)


def test_one_split_detects_nothing() -> None:
    assert detectable(0.01, Design(splits=1, directions=2, seeds=9)) is None


def test_the_design_of_a_plan() -> None:
    assert design_of(balanced(4)) == Design(splits=4, directions=2, seeds=1)
    assert design_of(balanced(3, seeds=2)) == Design(splits=3, directions=2, seeds=2)
    assert design_of(members(("transfer", "s0", "A", 0))) is None
    apart = members(("transfer", "s0", "B", 0), ("selffer", "s0", "A", 0))
    assert design_of(apart) is None  # as the authors did: no target has both
    assert design_of(balanced(4)[:0]) is None
    one_way = members(
        *((kind, f"s{i}", "A", 0) for i in (0, 1) for kind in ("selffer", "transfer"))
    )
    assert design_of(one_way) == Design(splits=2, directions=1, seeds=1)
    known = [row | {"division": "natural_manmade"} for row in balanced(1)]
    assert design_of(known) is None


def test_the_summary_of_the_balanced_design() -> None:
    summary = power_summary(balanced(4))
    assert summary is not None
    assert round(summary["points"], 2) == 0.44
    assert (summary["power"], summary["level"]) == (0.8, 0.05)
    assert (summary["splits"], summary["directions"], summary["seeds"]) == (4, 2, 1)
    assert "paper's results" in summary["assumption"]
    assert "though they share both bases" in summary["assumption"]
    assert power_summary([]) is None
    alone = power_summary(balanced(1))
    assert alone is not None
    assert alone["points"] is None


@pytest.mark.parametrize(
    ("splits", "expected"),
    [(1, {1: None}), (2, {2: 11.55}), (3, {3: 3.26}), (4, {})],
)
def test_few_splits_detect_large_differences_only(
    splits: int, expected: dict[int, float | None]
) -> None:
    """In standard deviations between splits, by scipy's own noncentral t."""
    few = {n: multiple for (_, n), multiple in few_splits(balanced(splits)).items()}
    assert few == {n: pytest.approx(x, abs=0.01) if x else None for n, x in expected.items()}
    for n, multiple in few.items():
        if multiple is not None:
            critical = student.ppf(0.975, n - 1)
            assert nct.sf(critical, n - 1, multiple * math.sqrt(n)) == pytest.approx(0.8, abs=1e-6)


def test_what_few_splits_and_one_seed_are_told_of() -> None:
    def row(split: str, seed: int, treatment: str, division: str) -> dict[str, Any]:
        return vars(Label(split=split, target="A", treatment=treatment, seed=seed)) | {
            "division": division
        }

    longer = [row("s0", 0, "base_long", "random-4"), row("x", 0, "transfer", "drawn")]
    assert few_splits(longer) == {("random", 1): None, ("drawn", 1): None}
    assert one_seed(longer) == []
    known = [row("low", seed, "transfer", "low") for seed in (0, 1)]
    known += [row("high", 0, "transfer", "high"), row("whole", 0, "base", "whole")]
    assert few_splits(known) == {}
    assert one_seed(known) == ["high"]  # bases alone are compared with nothing
