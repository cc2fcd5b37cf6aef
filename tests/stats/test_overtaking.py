"""From how many images fine-tuning overtakes a classifier: a sequence from the largest down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator.report.by_cost import names_of_ways
from orchestrator.report.ways import cost_listing, overtaking_listing, overtaking_sentences
from tests.synthetic import Label, Synthetic

PLAIN = json.dumps({"recipe.classifier": "none"})
FITTED = json.dumps({"recipe.classifier": "knn (none)"})
# Fine-tuned less classifier in points, by images of each class, for three splits.
GAPS = {10: (-4, -5, -6), 20: (2, 3, 4), 40: (-9, 1, 11), 80: (1, 2, 3), None: (7, 8, 9)}
USED = {"seconds_total": 2.0, "peak_memory_bytes": 200_000_000}
FEW = {"seconds_total": 0.25, "peak_memory_bytes": 100_000_000}


def sweep(gaps: Mapping[int | None, Sequence[float]] = GAPS) -> Synthetic:
    made = Synthetic()
    for images, of_splits in gaps.items():
        for split, gap in enumerate(of_splits):
            for condition in (PLAIN, FITTED):
                one: dict[str, Any] = {"split": f"s{split}", "target": "A"}
                one |= {"images_per_class": images, "condition": condition}
                made.add(Label(treatment="base", **one), 0.5, **USED)
                frozen = Label(treatment="transfer", n=2, frozen=True, **one)
                if condition == PLAIN:
                    made.add(Label(treatment="transfer", n=2, **one), 0.5 + gap / 100, **USED)
                    made.add(frozen, 0.25, **USED)
                else:
                    made.add(frozen, 0.5, classifier="knn", **FEW)
    return made


def test_numbers_of_images_are_tested_from_the_largest_down() -> None:
    """At 80 images zero lies inside; so 20, though it is clear alone, is not reached."""
    rows = sweep().statistics().overtaking.to_pylist()
    assert [(row["images_per_class"], row["is_better"]) for row in rows] == [
        (10, False),
        (20, False),
        (40, False),
        (80, False),
        (None, True),
    ]
    assert {(row["tuned"], row["classifier"], row["n"]) for row in rows} == {(PLAIN, FITTED, 2)}
    few = rows[1]
    half = 4.302652729911275 * 0.01 / 3**0.5  # t(2) · se
    assert few["estimate"] == pytest.approx(0.03)
    assert (few["low"], few["high"]) == pytest.approx((0.03 - half, 0.03 + half))
    assert few["low"] > 0
    assert rows[3]["low"] < 0 < rows[3]["estimate"]


def test_the_sequence_goes_on_while_it_is_clear() -> None:
    rows = sweep({**GAPS, 80: (2, 2.5, 3)}).statistics().overtaking.to_pylist()
    assert [row["images_per_class"] for row in rows if row["is_better"]] == [80, None]


def test_the_report_names_the_smallest_number_of_images() -> None:
    statistics = sweep().statistics()
    names = names_of_ways(statistics.networks)
    rows = statistics.overtaking.to_pylist()
    assert overtaking_sentences(rows, names) == [
        "AnB+ is shown to be better than AnB, knn (none) from these images of each class on: all "
        "at n = 2 (+8.0 [+5.5, +10.5])."
    ]
    listing = overtaking_listing(rows, names)
    assert listing.headings == ["10", "20", "40", "80", "all"]
    ((name, n, cells),) = listing.lines
    assert (name, n) == ("AnB+ − AnB, knn (none)", "2")
    assert (cells[0], cells[-1]) == (("−5.0", "±2.5"), ("+8.0✓", "±2.5"))


def test_what_each_way_costs() -> None:
    statistics = sweep().statistics()
    columns = ["id", "seconds_total", "peak_memory_bytes"]
    listing = cost_listing(statistics.networks, statistics.trials.select(columns).to_pylist())
    assert [(name, n) for name, n, _ in listing.lines] == [
        ("base", ""),
        ("base, knn (none)", ""),
        ("AnB", "2"),
        ("AnB, knn (none)", "2"),
        ("AnB+", "2"),
    ]
    cells = {name: cells for name, _, cells in listing.lines}
    assert cells["AnB, knn (none)"][0] == ("50.0", "0.25 s, 100 MB")
    assert cells["AnB+"][-1] == ("58.0", "2 s, 200 MB")


def test_classifiers_alone_overtake_nothing() -> None:
    made = Synthetic()
    frozen = Label(split="s0", target="A", treatment="transfer", n=1, frozen=True)
    made.add(frozen, 0.5, classifier="knn")
    assert made.statistics().overtaking.num_rows == 0
