"""Tables for the terminal: the results of a sweep, the answer to a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.comparisons import METRICS
from orchestrator.report.findings import count, half_width, interval_note, points, population
from orchestrator.stats import effects, group_of, levels

Rows = Sequence[Mapping[str, Any]]

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

ROWS = {  # arm: the effect that compares it with its own base
    "BnB": "selffer",
    "BnB+": "selffer_gain",
    "AnB": "transfer",
    "AnB+": "gain",
    "random": "random",
}
MOST_ROWS = 200
MOST_CLASSES = 10  # of a half, in a table
DIGITS = 4


def summary_table(members: pa.Table, trials: pa.Table, classes: pa.Table | None = None) -> Group:
    """Mean difference to the own base in points, by treatment and n, ± half of the 95 % interval.

    Expects the members of one sweep; a table for each group of splits, images a class and metric. A
    cell without a pair of networks is a dot.
    """
    from rich.console import Group
    from rich.text import Text

    rows = effects(members, trials, classes).to_pylist()
    by_level = levels(members, trials, classes).to_pylist()
    groups = sorted(set(map(group_of, by_level)), key=lambda group: group.place)
    parts: list[RenderableType] = []
    for group in groups:
        heading = METRICS[group.metric]
        if len(groups) > 1:
            heading = f"{population(group)}: {heading}"
        compared = [x for x in rows if group_of(x) == group and x["at_chance"] == "included"]
        of_group = [x for x in by_level if group_of(x) == group]
        parts += _summary(_capital(heading), compared, of_group, members, len(groups) > 1)
    if not groups:
        parts = _summary(_capital(METRICS["top1"]), [], [], members, several=False)
    return Group(*parts, *map(Text, _at_chance(members, trials)))


def _at_chance(members: pa.Table, trials: pa.Table) -> list[str]:
    """A warning, if networks of the sweep have learned nothing."""
    own = set(members["id"].to_pylist())
    rows = trials.select(["id", "outcome", "at_chance"]).to_pylist()
    learned = [
        not row["at_chance"] for row in rows if row["id"] in own and row["outcome"] == "complete"
    ]
    chance = len(learned) - sum(learned)
    if not chance:
        return []
    return [f"{chance} of {count(len(learned), 'network')} never left chance: see the report"]


def _summary(
    heading: str, rows: Rows, levels: Rows, members: pa.Table, several: bool
) -> list[RenderableType]:
    """The table of one group; where nothing is compared, in a sweep of several, its base only."""
    from rich.table import Table
    from rich.text import Text

    found = {(row["effect"], row["n"]): row for row in rows}
    known = {effect for effect, _ in found}
    notes = _notes(levels, found.get(("longer_training", 0)))
    if several and not known:
        return [Text(f"{heading}: {notes[0]}")]
    layers = sorted({n for n in members["n"].to_pylist() if n > 0})
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("n")
    for n in layers:
        table.add_column(str(n), justify="right", no_wrap=True)
    for name, effect in ROWS.items():
        if effect in known:
            cells = [_estimate(found.get((effect, n))) for n in layers]
            table.add_row(Text(name, "bold"), *cells)
    title = Text(f"{heading}, difference to the own base in points", "bold")
    return [title, *([table] if known else []), *map(Text, notes)]


def reference_table1(rows: Rows, sentences: Sequence[str]) -> Group:
    """The paper's Table 1 in points, and what it mixes."""
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


def reference_figure2(figure: Mapping[str, Rows]) -> Group:
    """The lines of Figure 2: mean accuracy in percent, and how many networks it is of."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = {(row["arm"], row["n"]): row for row in figure["lines"]}
    table = Table("n")
    for n in range(1, 8):
        table.add_column(str(n), justify="right")
    for name in dict.fromkeys(arm for arm, n in found if n):
        cells = [found[name, n] for n in range(1, 8)]
        table.add_row(name, *(f"{100 * x['value']:.2f}\n({x['n_networks']})" for x in cells))
    base = found["base", 0]
    counts = f"({base['n_networks']}); {len(figure['markers'])} networks in all"
    return Group(
        Text("Figure 2, recomputed: mean top-1 in percent (networks)", "bold"),
        table,
        Text(f"base {100 * base['value']:.2f} % {counts}"),
    )


def reference_figure3(figure: Mapping[str, Rows]) -> Group:
    """Figure 3 in percent and points, and the networks trained with fewer images."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    found = {(row["curve"], row["n"]): row for row in figure["curves"]}
    table = Table("n")
    for n in range(8):
        table.add_column(str(n) if n else "base", justify="right")
    for curve in dict.fromkeys(name for name, _ in found):
        cells = []
        for n in range(8):
            row = found[curve, n]
            less = f"\n{points(row['minus_base'], digits=2)}" if n else ""
            cells.append(f"{100 * row['value']:.2f}{'*' * bool(row['at_chance'])}{less}")
        table.add_row(curve.replace("_", " "), *cells)
    fewer = Table("images a class", "top-1, %")
    for row in figure["reduced"]:
        mark = "*" * bool(row["at_chance"])
        fewer.add_row(str(row["images_per_class"]), f"{100 * row['value']:.2f}{mark}")
    return Group(
        Text("Figure 3, recomputed: mean top-1 in percent, less the own base in points", "bold"),
        table,
        Text("All 1000 classes, with the first images of each class only", "bold"),
        fewer,
        Text("* never left chance: a failure of optimisation, not an accuracy of that n or size"),
    )


def splits_table(summary: Mapping[str, Any]) -> Table:
    """`splitting.summary` for a reader: a row a half, its first classes and its last."""
    from rich.table import Table

    table = Table("split", "half", "classes", "hash", "class indices")
    for name, split in summary.items():
        for letter, code in split["hashes"].items():
            half = split[letter]
            some = half if len(half) <= MOST_CLASSES else [*half[: MOST_CLASSES - 2], "…", half[-1]]
            table.add_row(name, letter, str(len(half)), code, " ".join(map(str, some)))
    return table


def query_table(table: pa.Table, width: int, most: int = MOST_ROWS) -> Group:
    """The answer to a query, at most `most` rows; a line below says how many are left out.

    What is wider than `width` characters is written as records, one line a column.
    """
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # a plain string could hold markup

    names = table.column_names
    columns = [[_shown(x) for x in column.to_pylist()] for column in table.slice(0, most).columns]
    shown = Table(box=SIMPLE, pad_edge=False)
    if _width(names, columns) > width:
        shown.show_header = False
        shown.add_column(no_wrap=True, style="bold")
        shown.add_column(overflow="fold")
        for record in zip(*columns, strict=True):
            for name, value in zip(names, record, strict=True):
                shown.add_row(Text(name), Text(value))
            shown.add_section()
    else:
        for field in table.schema:
            number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            shown.add_column(Text(field.name), justify="right" if number else "left")
        for record in zip(*columns, strict=True):
            shown.add_row(*map(Text, record))
    left_out = f"{most} of {table.num_rows} rows; --csv, --json and --parquet write all"
    return Group(shown, *([Text(left_out)] if table.num_rows > most else []))


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _estimate(row: Mapping[str, Any] | None, between: str = "\n") -> str:
    if row is None:
        return "·"
    half = half_width(row)
    return points(row["estimate"]) + (f"{between}{half}" if half else "")


def _notes(levels: Sequence[Mapping[str, Any]], longer: Mapping[str, Any] | None) -> list[str]:
    """What the bases reach, and what ± means here."""
    base = next((row for row in levels if row["arm"] == "base"), None)
    if base is None:
        return ["no base is complete yet"]
    text = f"base {points(base['value'], sign=False)} % ({count(base['n_networks'], 'network')})"
    if longer:  # the control that tells transfer from mere extra training
        text += f"; base_long, trained longer: {_estimate(longer, ' ')} points"
    if base["low"] is None:
        return [text, "one split: no interval"]
    return [text, f"± pointwise 95 % {interval_note(base)}"]


def _width(names: Sequence[str], columns: Sequence[Sequence[str]]) -> int:
    """Characters that a table needs, three of them between columns."""
    widest = (
        max(len(text) for text in (name, *cells))
        for name, cells in zip(names, columns, strict=True)
    )
    return sum(width + 3 for width in widest)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.{DIGITS}g}"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    return str(value)
