"""Tables in the terminal, from the first line to the last."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from rich.console import Console

from orchestrator.plan.splits import summary as splits_summary
from orchestrator.report.summary import summary_of
from orchestrator.report.terminal import query_table, splits_table, summary_table
from orchestrator.store.schemas import to_table
from tests.synthetic import Label, Synthetic, blank, digits
from tests.tables import cells, outside
from trainers.splits import random_split

SUMMARY = """\
Test top-1, difference to the own base in points
n               1      2
BnB          +0.4   +1.1
             ±5.4   ±4.1
BnB+         +3.9   +2.7
             ±1.6   ±6.7
AnB          +2.0   −0.6
             ±0.6   ±2.9
AnB+         +3.4   +4.6
             ±1.6   ±1.3
random       −1.7   −8.3
             ±2.9   ±0.0
BnB+ − long  −0.1   −1.3
             ±3.8  ±12.1
AnB+ − long  −0.6   +0.5
             ±7.0   ±4.1
base 87.7 % (4 networks); base_long (long), trained longer: +4.0 ±5.4 points
± pointwise 95 % t interval over 2 splits
"""
ONE_SPLIT = """\
Test top-1, difference to the own base in points
n               1     2
BnB          +0.9  +1.5
BnB+         +3.8  +3.3
AnB          +2.1  −0.8
AnB+         +3.6  +4.5
random       −1.5  −8.3
BnB+ − long  +0.2  −0.4
AnB+ − long  −0.1  +0.9
base 87.6 % (2 networks); base_long (long), trained longer: +3.6 points
one split: no interval
24 of 48 trials are left out: 24 not complete
"""
NOTHING = "Test top-1, difference to the own base in points\nno base is complete yet\n"


def shown(renderable: Any, width: int = 80) -> str:
    console = Console(width=width, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(renderable)
    lines = [line.rstrip() for line in capture.get().splitlines() if line.strip()]
    return "".join(f"{line}\n" for line in lines)


def test_summary() -> None:
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    assert shown(summary_table(summary_of(sweep.statistics()))) == SUMMARY
    sweep.trials = [row for row in sweep.trials if row["split"] == "s0"]
    assert shown(summary_table(summary_of(sweep.statistics()))) == ONE_SPLIT
    sweep.trials = []
    assert shown(summary_table(summary_of(sweep.statistics()))) == NOTHING


def test_summary_of_several_groups_and_of_one_split_by_nature() -> None:
    sweep = digits(splits=("s0", "s1"), layers=(1,))
    for target, top1 in (("A", 0.5), ("B", 0.75)):
        place = {"split": "natural_manmade", "target": target, "division": "natural_manmade"}
        for seed in (0, 1):
            sweep.add(Label(treatment="base", seed=seed, **place), top1)
            copy = Label(treatment="transfer", n=1, frozen=True, seed=seed, **place)
            sweep.add(copy, top1 - 0.25)
    for limit in (10, 250):
        place = {"split": "whole", "target": "A", "division": "whole", "images_per_class": limit}
        sweep.add(Label(treatment="base", **place), 0.5)
    counts = [
        blank("classes")
        | {"id": row["id"], "attempt": "a0a0a0a0", "subset": "test", "class_index": index}
        | {"correct": round(4 * row["top1"]), "total": 4}
        for row in sweep.trials
        for index in range(4)
    ]
    text = shown(
        summary_table(summary_of(sweep.statistics(to_table("classes", counts)))), width=100
    )
    assert "Random splits: test top-1, difference to the own base in points\n" in text
    assert text.endswith(
        """\
Natural and man-made: test top-1, difference to the own base in points
n        1
AnB  −25.0
      ±0.0
base 62.5 % (4 networks)
± pointwise 95 % interval over classes and seeds (2 seeds) of one split
All classes, first 10 images of each class: test top-1: base 50.0 % (1 network)
All classes, first 250 images of each class: test top-1: base 50.0 % (1 network)
"""
    )


def test_summary_has_a_table_for_each_condition() -> None:
    sweep = Synthetic()
    for rate, top1 in ((0.05, 0.75), (0.0005, 0.25)):
        for target in "AB":
            place: dict[str, Any] = {"split": "s0", "target": target}
            place["condition"] = f'{{"recipe.rate": {rate}}}'
            sweep.add(Label(treatment="base", **place), 0.5)
            sweep.add(Label(treatment="transfer", n=1, frozen=True, **place), top1)
    lines = shown(summary_table(summary_of(sweep.statistics()))).splitlines()
    for rate, gain in ((0.05, "+25.0"), (0.0005, "−25.0")):
        heading = f"Random splits, rate={rate}: test top-1, difference to the own base in points"
        assert lines[lines.index(heading) + 2].split() == ["AnB", gain]


def test_summary_marks_missing_cells() -> None:
    sweep = digits(splits=("s0", "s1"), layers=(1, 2))
    sweep.trials = [row for row in sweep.trials if row["n"] < 2 or row["treatment"] == "random"]
    assert "AnB          +2.0     ·\n" in shown(summary_table(summary_of(sweep.statistics())))


def test_summary_gives_the_range_of_splits_and_marks_half_splits() -> None:
    sweep = digits(splits=("s0", "s1", "s2"), layers=(1,))
    sweep.trials = [
        row
        for row in sweep.trials
        if (row["treatment"], row["split"]) != ("random", "s2")
        and (row["treatment"], row["split"], row["target"]) != ("selffer", "s1", "B")
    ]
    lines = shown(summary_table(summary_of(sweep.statistics()))).splitlines()
    cells = {line.split()[0]: line.split()[-1] for line in lines if line[:1] in "ABr"}
    assert [name for name in ("BnB", "BnB+", "AnB", "AnB+", "random") if "*" in cells[name]] == [
        "BnB",
        "BnB+",
    ]
    note = "± pointwise 95 % t interval over 2 to 3 splits"
    assert lines[lines.index(note) + 1] == "* 1 split with one of two directions only"


def test_query_table() -> None:
    table = pa.table({"name": ["[red]x", None, "z"], "value": [0.123456789, 12.0, 1e-9]})
    heading, _, *lines = shown(query_table(table, width=80, most=2)).splitlines()
    assert [heading, *lines] == [
        " name      value",
        " [red]x   0.1235",
        "              12",
        "2 of 3 rows; --csv, --json and --parquet write all",
    ]


def test_a_wide_answer_is_written_as_records() -> None:
    table = pa.table({"first": ["x" * 30, "y"], "second": [1, 2]})
    assert shown(query_table(table, width=40)).splitlines() == [
        " first    xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        " second   1",
        " first    y",
        " second   2",
    ]


def test_a_large_half_is_shown_by_its_first_classes_and_its_last() -> None:
    classes = tuple(f"c{index}" for index in range(1000))
    summary = splits_summary((random_split(0, 1000), random_split(1, 21)), classes)
    for split in summary.values():
        assert split["names"] == {half: [f"c{i}" for i in split[half]] for half in "AB"}
    text = shown(splits_table(summary), width=120)
    assert outside(text) == []
    assert cells(text)[1][-1] == "c0, c1, c2, c5, c9, c10, c15, c16, …, c998"
    assert [row[:-1] for row in cells(text)[1:]] == [
        ["s0", "A", "500", "f6737fd13a5c91b8", "0 1 2 5 9 10 15 16 … 998"],
        ["s0", "B", "500", "42afa15a18094ddb", "3 4 6 7 8 11 12 13 … 999"],
        ["s1", "A", "10", "520d496ec508419a", "0 2 5 7 8 12 13 14 19 20"],
        ["s1", "B", "11", "790204ad58bbe099", "1 3 4 6 9 10 11 15 … 18"],
    ]
