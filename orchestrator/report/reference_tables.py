"""The paper's Table 1 and Figures 2 and 3 as tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from orchestrator.report.wording import percent, points

if TYPE_CHECKING:
    from rich.console import Group

Rows = Sequence[Mapping[str, Any]]


def table1(rows: Rows, sentences: Sequence[str]) -> Group:
    """Return the paper's Table 1 in points, with sentences below."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table("layers", "AnB+ against")
    for heading in ("pooled", "own base", "naive s.e.", "networks", "targets", "with both"):
        table.add_column(heading, justify="right")
    for row in rows:
        values = (points(row[key] / 100, digits=2) for key in ("pooled", "own_base"))
        counts = (str(row[key]) for key in ("n_networks", "n_targets", "n_both"))
        table.add_row(row["layers"], row["versus"], *values, f"{row['se']:.2f}", *counts)
    title = Text("Table 1, recomputed: mean top-1 of AnB+ less …, in points", "bold")
    return Group(title, table, *map(Text, sentences))


def figure2(figure: Mapping[str, Rows]) -> Group:
    """Return the lines of Figure 2: mean accuracy in percent, and the number of networks."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    by_place = {(row["arm"], row["n"]): row for row in figure["lines"]}
    table = Table("n")
    for n in range(1, 8):
        table.add_column(str(n), justify="right")
    for name in dict.fromkeys(arm for arm, n in by_place if n):
        cells = [by_place[name, n] for n in range(1, 8)]
        table.add_row(name, *(f"{percent(x['value'], 2)}\n({x['n_networks']})" for x in cells))
    base = by_place["base", 0]
    counts = f"({base['n_networks']}); {len(figure['markers'])} networks in all"
    return Group(
        Text("Figure 2, recomputed: mean top-1 in percent (networks)", "bold"),
        table,
        Text(f"base {percent(base['value'], 2)} % {counts}"),
    )


def figure3(figure: Mapping[str, Rows]) -> Group:
    """Return Figure 3 in percent and points, and the networks trained with fewer images."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    by_place = {(row["curve"], row["n"]): row for row in figure["curves"]}
    table = Table("n")
    for n in range(8):
        table.add_column(str(n) if n else "base", justify="right")
    for curve in dict.fromkeys(name for name, _ in by_place):
        cells = []
        for n in range(8):
            row = by_place[curve, n]
            less = f"\n{points(row['minus_base'], digits=2)}" if n else ""
            cells.append(f"{percent(row['value'], 2)}{'*' * bool(row['at_chance'])}{less}")
        table.add_row(curve.replace("_", " "), *cells)
    fewer = Table("images per class", "top-1, %")
    for row in figure["reduced"]:
        mark = "*" * bool(row["at_chance"])
        fewer.add_row(str(row["images_per_class"]), f"{percent(row['value'], 2)}{mark}")
    return Group(
        Text("Figure 3, recomputed: mean top-1 in percent, less the own base in points", "bold"),
        table,
        Text("All 1000 classes, with the first images of each class only", "bold"),
        fewer,
        Text("* never left chance: a failure of optimisation, not an accuracy of that n or size"),
    )
