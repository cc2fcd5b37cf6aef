"""Differences of many networks at once, against those of each cell on its own."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.stats.intervals import interval
from orchestrator.stats.measurements import (
    DIFFERENCES,
    Cell,
    Measured,
    Number,
    Value,
    by_cell,
    differences,
    estimate,
)
from orchestrator.stats.samples import Sample, Samples
from tests.synthetic import NETWORK

ACCURACY = st.floats(0, 1).map(lambda x: round(x, 4))
PLACES = st.tuples(
    st.sampled_from(["random", "natural"]),
    st.sampled_from(["s0", "s1", "s2"]),
    st.sampled_from(["A", "B"]),
    st.integers(0, 2),
    st.sampled_from([("base", 0), ("BnB", 1), ("BnB", 2), ("AnB", 1), ("AnB", 2)]),
)


@st.composite
def measured(draw: st.DrawFn) -> list[Measured]:
    """Networks in some places, up to three in one; `natural` ones with class parts."""
    networks: list[Measured] = []
    places = st.lists(st.tuples(PLACES, st.integers(0, 2)), max_size=60, unique=True)
    for (division, split, target, seed, (arm, n)), _ in draw(places):
        place = {"division": division, "split": split, "target": target, "seed": seed}
        x = replace(NETWORK, id=f"{len(networks):04x}", arm=arm, n=n, **place)
        value: Number = draw(ACCURACY)
        if division == "natural" and draw(st.integers(0, 4)):
            value = np.array([value, *draw(st.tuples(ACCURACY, ACCURACY))])
        networks.append((x, value))
    return networks


def equal(number: Number, other: Number) -> bool:
    return np.shape(number) == np.shape(other) and bool(np.all(number == other))


@given(measured())
def test_samples_equal_differences_cell_by_cell(networks: list[Measured]) -> None:
    samples, cells = Samples(networks), by_cell(networks)
    for minuend, subtrahend in DIFFERENCES.values():
        found = samples.differences(minuend, subtrahend)
        wanted = differences(cells, minuend, subtrahend)
        assert list(found) == list(wanted)
        for (sample, places), values in zip(found.values(), wanted.values(), strict=True):
            assert places == {(x.cell.split, x.cell.target, x.cell.seed) for x in values}
            assert interval(sample, 3) == interval(values, 3)
            plain = isinstance(sample.numbers, np.ndarray)
            for number, value in zip(sample.numbers, values, strict=True):
                assert equal(number, estimate(value.value) if plain else value.value)


@given(measured())
def test_a_level_has_the_numbers_of_all_its_networks(networks: list[Measured]) -> None:
    for (group, arm, n), (sample, _) in Samples(networks).levels().items():
        own = [(x, y) for x, y in networks if (x.cell.group, x.arm, x.n) == (group, arm, n)]
        values = [Value(x.cell, y, frozenset([x.id])) for x, y in own]
        assert interval(sample, 2) == interval(values, 2)
        assert sample.n_networks == len(own)


def test_means_are_over_seeds_then_targets_then_splits() -> None:
    numbers = {("s1", "A"): [0.1, 0.2, 0.6], ("s0", "B"): [0.7], ("s1", "B"): [0.5, 0.9]}
    values = [
        Value(Cell("demo", None, "random", None, "top1", *place, seed), number, frozenset())
        for place, some in numbers.items()
        for seed, number in enumerate(some)
    ]
    sample = Sample.of(values)
    assert sample.split_means() == pytest.approx([fmean([0.3, 0.7]), 0.7], rel=1e-15)
    mean, row = interval(sample, 1)
    assert mean == pytest.approx(0.6, rel=1e-15)
    assert (row["n_splits"], row["n_seeds"], row["se"]) == (2, 3, pytest.approx(0.1, rel=1e-12))
