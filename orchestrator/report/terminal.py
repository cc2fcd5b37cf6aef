"""Tables for the terminal: the results of a sweep, its splits and layers, the answer to a query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from orchestrator.report.console import shown as visible
from orchestrator.report.summary import Summary
from orchestrator.report.wording import (
    capital,
    count,
    dimensions,
    half_width,
    interval_note,
    mark,
    mark_note,
    no_interval,
    percent,
    points,
    population,
)
from orchestrator.stats.effects import group_of
from orchestrator.stats.measurements import METRICS

Rows = Sequence[Mapping[str, Any]]

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

    from orchestrator.plan.resolve import ResolvedSweep
    from trainers.config import DatasetInfo

ROWS = {  # arm: the effect that compares it with its own base
    "BnB": "selffer",
    "BnB+": "selffer_gain",
    "AnB": "transfer",
    "AnB+": "gain",
    "random": "random",
    "Bn|B": "stitched_self",
    "An|B": "stitched",
}
OVER_LONGER = {  # row: the effect that compares it with longer training
    "BnB+ − long": "selffer_gain_over_longer",
    "AnB+ − long": "gain_over_longer",
}
CONTROLS = {  # effect of networks without n: their name
    "longer_training": "base_long (long), trained longer",
    "pixels": "pixels, without a network",
}
MOST_ROWS = 200
MOST_CLASSES = 10  # of a half, in a table
DIGITS = 4  # significant digits of a number in the answer to a query


def summary_table(summary: Summary) -> Group:
    """Return mean differences to the own base in points, ± half of the 95 % interval.

    There is one table per group of splits, images per class and metric, with a row per arm and a
    column per n. A cell without a pair of networks is a dot.
    """
    from rich.console import Group
    from rich.text import Text

    groups = sorted(set(map(group_of, summary.levels)), key=lambda group: group.place)
    parts: list[RenderableType] = []
    for group in groups:
        heading = METRICS[group.metric]
        if len(groups) > 1:
            heading = f"{population(group)}: {heading}"
        compared = [x for x in summary.effects if group_of(x) == group]
        of_group = [x for x in summary.levels if group_of(x) == group]
        parts += _summary(capital(heading), compared, of_group, summary.layers, len(groups) > 1)
    if not groups:
        parts = _summary(capital(METRICS["top1"]), [], [], summary.layers, several=False)
    return Group(*parts, *map(Text, summary.notes))


def _summary(
    heading: str, rows: Rows, levels: Rows, layers: Sequence[int], several: bool
) -> list[RenderableType]:
    """Return the table of one group; if it compares nothing and has neighbours, only its base."""
    from rich.table import Table
    from rich.text import Text

    by_place = {(row["effect"], row["n"]): row for row in rows}
    known = {effect for effect, _ in by_place}
    notes = _notes(levels, rows)
    if several and not known:
        return [Text(f"{heading}: {notes[0]}")]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("n")
    for n in layers:
        table.add_column(str(n), justify="right", no_wrap=True)
    for name, effect in (ROWS | OVER_LONGER).items():
        if effect in known:
            cells = [_estimate(by_place.get((effect, n))) for n in layers]
            table.add_row(Text(name, "bold"), *cells)
    title = Text(f"{heading}, difference to the own base in points", "bold")
    return [title, *([table] if known else []), *map(Text, notes)]


def splits_table(summary: Mapping[str, Any]) -> Table:
    """Return a table of `splits.summary`: one row per half, with its first and last classes."""
    from rich.table import Table
    from rich.text import Text  # a plain string could hold markup

    table = Table("split", "half", "classes", "hash", "class indices", "names")
    for name, split in summary.items():
        for letter, code in split["hashes"].items():
            indices, names = _few(split[letter], " "), _few(split["names"][letter], ", ")
            table.add_row(name, letter, str(len(split[letter])), code, indices, Text(names))
    return table


def _few(items: Sequence[object], separator: str) -> str:
    """Join the first items and the last one, with … for those between."""
    few = items if len(items) <= MOST_CLASSES else [*items[: MOST_CLASSES - 2], "…", items[-1]]
    return separator.join(map(str, few))


def query_table(table: pa.Table, width: int, most: int = MOST_ROWS) -> Group:
    """Return the first `most` rows of the answer to a query, and a line if there are more.

    An answer wider than `width` characters is written as records, one line per column.
    """
    from rich.box import SIMPLE
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text  # a plain string could hold markup

    names = [visible(name) for name in table.column_names]
    columns = [
        [visible(_shown(x)) for x in column.to_pylist()] for column in table.slice(0, most).columns
    ]
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
        for name, field in zip(names, table.schema, strict=True):
            number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            shown.add_column(Text(name), justify="right" if number else "left")
        for record in zip(*columns, strict=True):
            shown.add_row(*map(Text, record))
    left_out = f"{most} of {table.num_rows} rows; --csv, --json and --parquet write all"
    return Group(shown, *([Text(left_out)] if table.num_rows > most else []))


def _estimate(row: Mapping[str, Any] | None, between: str = "\n") -> str:
    if row is None:
        return "·"
    half = half_width(row)
    return points(row["estimate"]) + mark(row) + (f"{between}{half}" if half else "")


def _notes(levels: Rows, effects: Rows) -> list[str]:
    """Return notes on the accuracy of the bases, and on the meaning of ± and of stars."""
    base = next((row for row in levels if row["arm"] == "base"), None)
    if base is None:
        return ["no base is complete yet"]
    text = f"base {percent(base['value'])} %{mark(base)} ({count(base['n_networks'], 'network')})"
    for row in effects:  # controls that tell transfer from mere extra training, and from pixels
        if row["effect"] in CONTROLS:
            text += f"; {CONTROLS[row['effect']]}: {_estimate(row, ' ')} points"
    shown = [base, *effects]
    bounded = any(row["low"] is not None for row in effects or [base])
    interval = f"± pointwise 95 % {interval_note(effects or [base])}" if bounded else ""
    return [text, interval or no_interval(base), *filter(None, [mark_note(shown)])]


def _width(names: Sequence[str], columns: Sequence[Sequence[str]]) -> int:
    """Return the characters per line of a table, three of them between columns."""
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


def dataset_line(name: str, data: DatasetInfo) -> str:
    """Return one line on a dataset: classes, shape, images per set, fingerprint."""
    return (
        f"dataset {name}: {len(data.classes)} classes, "
        f"images {dimensions(data.shape)}, {sum(data.train)} for training, "
        f"{sum(data.validation)} for validation, {sum(data.test)} for test; "
        f"fingerprint {data.fingerprint}"
    )


def layers_table(resolved: ResolvedSweep) -> Table:
    """Return the layers of a sweep's network, one row each, with the n of every cut."""
    from rich.table import Table

    layers = resolved.layers
    table = Table("layer", "output", "parameters", "multiply-adds", "cut after it")
    cuts = {n for grid, _ in resolved.parts for n in grid.layers or range(1, layers.depth)}
    rows = zip(layers.shapes, layers.parameters, layers.macs, strict=True)
    for number, (shape, parameters, macs) in enumerate(rows, start=1):
        cut = f"n = {number}" if number in cuts else ""
        table.add_row(str(number), dimensions(shape), f"{parameters:,}", f"{macs:,}", cut)
    return table
