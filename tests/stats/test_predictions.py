"""Predictors held to the measured accuracy: rank correlations of small cases, by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from orchestrator.stats.measurements import Network
from orchestrator.stats.predictions import STATIC, predictions, tau
from orchestrator.store.schemas import to_table
from tests.synthetic import NETWORK, blank
from trainers.canonical import digest

ACCURACY = {1: 0.9, 2: 0.7, 3: 0.8, 4: 0.5}  # by n; one pair of neighbours is out of order
TASKS = {name: {"classes": [i]} for i, name in enumerate(("s0", "s1", "s2", "s3"))}


def network(
    split: str, n: int, value: float, arm: str = "AnB", division: str = "random", target: str = "B"
) -> Network:
    id = f"{division} {split} {n} {arm}"
    own = {"id": id, "name": f"{split} {n}", "arm": arm, "n": n, "value": value, "val_top1": value}
    return replace(NETWORK, division=division, split=split, target=target, **own)


def tables(
    networks: list[Network], scores: Mapping[tuple[str, str, int | None], float]
) -> tuple[pa.Table, pa.Table]:
    """Return trials, and predictors by (name, split, layer)."""
    trials = [
        blank("trials")
        | {"id": x.id, "parent": f"source {x.split}", "treatment": "transfer"}
        | {"training": json.dumps({"target": TASKS[x.split]})}
        for x in networks
    ]
    rows = [
        blank("measurements")
        | {"measure": "predictors", "trial": f"source {split}", "task": digest(TASKS[split])}
        | {"quantity": name, "layer": layer, "value": value}
        for (name, split, layer), value in scores.items()
    ]
    return to_table("trials", trials), to_table("measurements", rows)


def found(
    networks: list[Network], scores: Mapping[tuple[str, str, int | None], float]
) -> dict[tuple[str, str], dict[str, Any]]:
    rows = predictions(networks, *tables(networks, scores)).to_pylist()
    return {(row["predictor"], row["comparison"]): row for row in rows}


def test_tau_counts_pairs_in_the_same_order() -> None:
    assert tau([(1, 1), (2, 2), (3, 3)]) == pytest.approx(1)
    assert tau([(1, 3), (2, 1), (3, 2)]) == pytest.approx(-1 / 3)
    # Six pairs differ in one, five in both: three in the same order, two in the other.
    assert tau([(1, 1), (2, 2), (3, 2), (4, 1.5)]) == pytest.approx((3 - 2) / (6 * 5) ** 0.5)
    assert tau([(1, 1), (2, 2)]) is None
    assert tau([(1, 1), (1, 2), (1, 3)]) is None


def test_the_static_list_is_a_predictor() -> None:
    """Of six pairs of n, five fall and one rises: (5 − 1) / 6 in each split."""
    networks = [network(s, n, ACCURACY[n]) for s in ("s0", "s1", "s2") for n in ACCURACY]
    perfect = {("good", s, n): ACCURACY[n] for s in ("s0", "s1", "s2") for n in ACCURACY}
    rows = found(networks, perfect)
    assert rows[STATIC, "over_n"]["tau"] == pytest.approx(4 / 6)
    assert rows["good", "over_n"]["tau"] == pytest.approx(1)
    less = rows["good", "over_n_less_static"]
    assert less["tau"] == pytest.approx(1 / 3)
    assert (less["low"], less["high"], less["n_splits"]) == (pytest.approx(1 / 3),) * 2 + (3,)
    assert ("good", "within_n") not in rows  # all splits score alike


def test_intervals_are_over_splits() -> None:
    networks = [network(s, n, ACCURACY[n]) for s in ("s0", "s1") for n in ACCURACY]
    scores = {("x", "s0", n): ACCURACY[n] for n in ACCURACY}
    scores |= {("x", "s1", n): -ACCURACY[n] for n in ACCURACY}
    row = found(networks, scores)["x", "over_n"]
    assert row["tau"] == pytest.approx(0)
    assert row["high"] == pytest.approx(12.706, abs=1e-3)  # t of one degree of freedom, s.e. 1
    assert row["n_networks"] == 8


def test_within_one_n_sources_and_targets_are_ordered() -> None:
    """Four pairs, in perfect order at n = 1 and with one pair exchanged at n = 2: (1 + 2/3) / 2."""
    accuracy = dict(zip(TASKS, (0.2, 0.4, 0.6, 0.8), strict=True))
    networks = [network(s, n, accuracy[s]) for s in TASKS for n in (1, 2)]
    scores: dict[tuple[str, str, int | None], float] = {("x", s, 1): accuracy[s] for s in TASKS}
    scores |= {("x", s, 2): accuracy[s] for s in TASKS}
    scores["x", "s0", 2], scores["x", "s1", 2] = accuracy["s1"], accuracy["s0"]
    row = found(networks, scores)["x", "within_n"]
    assert row["tau"] == pytest.approx(5 / 6)
    # Without s0 or s1 the order is perfect; without s2 or s3 tau is (1 + 1/3) / 2. The jackknife's
    # variance is 3/4 of the sum of squared deviations from the mean of these, 5/6.
    assert row["se"] == pytest.approx((3 / 4 * 4 * (1 / 6) ** 2) ** 0.5)
    assert row["high"] - row["tau"] == pytest.approx(3.1824 * row["se"], rel=1e-4)


def test_the_sources_of_one_target_are_ordered_between_named_tasks() -> None:
    """Targets differ far more than sources, and are not compared with each other.

    For the target `easy` the scores order the three sources rightly in draw d0, and one of three
    pairs wrongly in draw d1: (1 + 1/3) / 2. For `hard` all pairs are in the opposite order.
    """
    sources, draws = ("p", "q", "r"), ("d0", "d1")
    easy, hard = {"classes": [8]}, {"classes": [9]}
    networks, trials, rows = [], [], []
    for target, task, level in (("easy", easy, 0.9), ("hard", hard, 0.1)):
        for place, source in enumerate(sources):
            for draw in draws:
                division = f"{source} to {target}"
                one = network(draw, 1, level + place / 100, division=division, target=target)
                networks.append(one)
                parent, seen = f"base {source} {draw}", task | {"draw": int(draw[1])}
                trials.append(
                    blank("trials")
                    | {"id": one.id, "parent": parent, "treatment": "transfer"}
                    | {"training": json.dumps({"target": seen})}
                )
                swapped = {0: 1, 1: 0, 2: 2}[place] if draw == "d1" else place
                score = swapped if target == "easy" else -place
                rows.append(
                    blank("measurements")
                    | {"measure": "predictors", "trial": parent, "task": digest(seen)}
                    | {"quantity": "x", "layer": 1, "value": float(score)}
                )
    table = predictions(networks, to_table("trials", trials), to_table("measurements", rows))
    within = {row["division"]: row for row in table.to_pylist() if row["comparison"] == "within_n"}
    assert {division: row["tau"] for division, row in within.items()} == {
        **{f"{source} to easy": pytest.approx((1 + 1 / 3) / 2) for source in sources},
        **{f"{source} to hard": pytest.approx(-1) for source in sources},
    }
    row = within["p to easy"]
    assert (row["n_splits"], row["n_networks"]) == (2, 6)
    assert row["se"] == pytest.approx(1 / 3)  # half of the difference of two draws


def test_a_score_without_layer_holds_for_every_n() -> None:
    networks = [network(s, n, i + n) for i, s in enumerate(TASKS) for n in (1, 2, 3)]
    scores = {("leep", s, None): float(i) for i, s in enumerate(TASKS)}
    rows = found(networks, scores)
    assert rows["leep", "within_n"]["tau"] == pytest.approx(1)
    assert ("leep", "over_n") not in rows


def test_other_arms_and_unmeasured_networks_are_left_out() -> None:
    networks = [network("s0", n, ACCURACY[n], arm="BnB") for n in ACCURACY]
    assert found(networks, {("x", "s0", n): n for n in ACCURACY}) == {}
    transfers = [network("s0", n, ACCURACY[n]) for n in ACCURACY]
    assert found(transfers, {}) == {}
