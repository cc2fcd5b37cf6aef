"""The report of a sweep: one HTML file that loads nothing else, and its figures as files."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.margin import MARGIN
from orchestrator.report import advised, charts, rendering, templates
from orchestrator.report.alternatives import panel_text
from orchestrator.report.charts import Panel
from orchestrator.report.class_table import class_names, class_table
from orchestrator.report.figures import bands_note
from orchestrator.report.lead import lead
from orchestrator.report.links import linked
from orchestrator.report.measured import predictor_table
from orchestrator.report.methods import methods_of
from orchestrator.report.notes import notes_of
from orchestrator.report.provenance import failures_of, provenance_of
from orchestrator.report.queries import TITLES as QUERY_TITLES
from orchestrator.report.queries import queries_of
from orchestrator.report.searches import search_notes, search_sections
from orchestrator.report.sections import Section, sections_of
from orchestrator.report.sentences import sentences_of
from orchestrator.report.wording import (
    half_width,
    interval_note,
    lacking_note,
    mark,
    mark_note,
    percent,
    points,
    steps,
)
from orchestrator.states import State
from orchestrator.stats.effects import group_of
from orchestrator.stats.measurements import ARMS, DIFFERENCES, METRICS, Group, is_direction
from orchestrator.stats.reach import reach
from orchestrator.stats.statistics import Statistics
from orchestrator.store.names import FORMATS, PAGE, PICTURES, FigureFile
from orchestrator.store.store import Store
from orchestrator.sweep.records import reference_of
from trainers import whole_file

Row = Mapping[str, Any]
Rows = Sequence[Row]

TITLES = {  # effect: (its title, the difference that it is)
    name: (name.replace("co_", "co-").replace("_", " "), " − ".join(pair))
    for name, pair in DIFFERENCES.items()
}
PUBLISHED_BY = {  # metric: what it is of a published network
    "top1": "the last test of each network",
    "top1_at_best": "the best test of each network",
    "val_mean10": "the mean of the ten best tests of each network, as in the paper",
}
PNG = {  # kind of figure: (panels per row, pixels per panel), where they are not (1, 620)
    "effects_by_images": (3, 320),
    "decomposition": (2, 420),
    "speed": (2, 420),
    "overfitting": (2, 420),
    "curves": (4, 240),
    "weights": (3, 320),
    "interpolation": (3, 320),
    "similarity": (3, 320),
    "predictors": (2, 420),
    "search_fine_tune": (3, 320),
    "search_base_long": (2, 320),
}
MOST_FAILURES = 100  # in the table of failures


def write_report(
    store: Store,
    sweep: str,
    folder: Path,
    statistics: Statistics | None = None,
    margin: float = MARGIN,
) -> Path:
    """Write `index.html` and the figures of a sweep into a folder; return the path of the page.

    Trials that have not run are left out. `statistics` are those of the sweep, if the caller has
    them. `margin` is the loss, as a fraction, that the answers are about. Raises `StoreError` if
    the store does not know the sweep.
    """
    statistics = statistics or Statistics.of_sweep(store, sweep)
    record = store.sweep_record(sweep)
    reference = record.reference if record.reference is not None else reference_of(record.text)
    groups = sections_of(statistics, reference)
    searches = search_sections(store, record.studies, statistics)
    figures = {
        f"{name}{group.suffix}": panels
        for group in groups
        for name, panels in group.figures.items()
    }
    figures |= {search.name: search.panels for search in searches}
    page = _context(sweep, statistics, groups, margin) | {"text": record.text, "searches": searches}
    page["methods"] = methods_of(sweep, statistics, record)
    members = statistics.members.select(["id", "name"]).to_pylist()
    names = {row["id"]: row["name"] for row in members}
    lacking = store.check(names).lacking
    page["notes"] += lacking_note({names[id]: path for id, path in lacking.items()})
    page["figures"] = {
        name: [
            {"title": panel.title, "text": panel_text(panel), "spec": rendering.spec(panel)}
            for panel in panels
        ]
        for name, panels in figures.items()
        if not ((file := _file(name)) and file.kind == "curves")
    }
    page["pictures"] = _pictures(folder / PICTURES)
    path = folder / PAGE
    _write_files(folder, figures)
    whole_file.write(path, render("page.html", page).encode())
    return path


def _write_files(folder: Path, figures: Mapping[str, Sequence[Panel]]) -> None:
    """Write the figures that have files, in every format. Remove those of an earlier report."""
    for path in folder.glob("*.*"):
        if FigureFile.parse(path.name):
            path.unlink()
    for name, panels in figures.items():
        if panels and (file := _file(name)):
            columns, width = PNG.get(file.kind, (1, 620))
            drawn = rendering.pictures(panels, FORMATS, columns=columns, width=width)
            for format, data in drawn.items():
                whole_file.write(folder / file._replace(format=format).name, data)


def _pictures(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the PNG files that `layerwise pictures` wrote there, by kind.

    `data` is Base64, and `width` that of the page, half of the pixels; 0 if it is not known.
    """
    files = {kind: folder / FigureFile(kind).name for kind in ("map", "filters")}
    pictures = {kind: path.read_bytes() for kind, path in files.items() if path.is_file()}
    return {
        kind: {
            "data": base64.b64encode(data).decode(),
            "width": int.from_bytes(data[16:20]) // 2,  # the header of a PNG file
        }
        for kind, data in pictures.items()
    }


def _file(name: str) -> FigureFile | None:
    """Return the PNG file of a figure; None for one that only the page has."""
    return FigureFile.parse(f"{name}.png")


def _context(
    sweep: str, statistics: Statistics, groups: Sequence[Section], margin: float
) -> dict[str, Any]:
    """Return the page's text and tables, without its figures."""
    members, rows = statistics.members, statistics.trials.to_pylist()
    answers = {
        answer.group: advised.on_page(answer)
        for answer in statistics.advice(margin)
        if is_direction(answer.group.division)
    }
    classes = _classes(statistics)
    return {
        "sweep": sweep,
        "linked": linked,
        "query_titles": QUERY_TITLES,
        "notes": notes_of(sweep, statistics, rows, groups) + search_notes(members),
        "complete": sum(row["outcome"] == State.COMPLETE for row in rows),
        "planned": len(members["id"].unique()),
        "groups": [
            _of_group(group, margin, several=len(groups) > 1)
            | {"advice": answers.get(group.group), "classes": classes.get(group.group)}
            | {"queries": queries_of(group.group, statistics.metric)}
            for group in groups
        ],
        "titles": TITLES,
        "failures": failures_of(members, rows),
        "most_failures": MOST_FAILURES,
        "provenance": provenance_of(rows),
        "points": points,
        "published": PUBLISHED_BY.get(statistics.metric or "top1", PUBLISHED_BY["top1"]),
    }


def _classes(statistics: Statistics) -> dict[Group, dict[str, Any]]:
    """Return the table of classes of each group that has one."""
    rows: dict[Group, list[Row]] = {}
    if statistics.metric is None:
        for row in statistics.class_effects.to_pylist():
            rows.setdefault(group_of(row | {"metric": "top1"}), []).append(row)
    names = class_names(statistics) if rows else {}
    tables = {group: class_table(some, names) for group, some in rows.items()}
    return {group: table for group, table in tables.items() if table}


def _of_group(group: Section, margin: float, *, several: bool) -> dict[str, Any]:
    """Return the sentences and tables of one group."""
    with_chance, without_chance = (
        _matrix(chosen, "effect", group.layers, _effect, TITLES)
        for chosen in (group.included, group.excluded)
    )
    bounded = [row for row in group.included if row["low"] is not None]
    reached = reach(group.included, margin)
    return {
        "lead": lead(group.group, reached) if reached else None,
        "title": group.title if several else "",
        "suffix": group.suffix,
        "metric": METRICS[group.group.metric],
        "drawn": list(group.figures),
        "costs": group.costs,
        "overtaking": group.overtaking,
        "overtaken": group.overtaken,
        "sentences": sentences_of(
            group.included, group.levels, group.speeds, group.gaps, group.gap_levels
        ),
        "layers": group.layers,
        "levels": _matrix(group.levels, "arm", group.layers, _level, ARMS),
        "effects": with_chance,
        "differing": [row for row in without_chance if row not in with_chance],
        "speeds": _matrix(group.speeds, "arm", group.layers, _steps, ARMS),
        "all": len(group.included),
        "left": len(group.excluded),
        "all_effects": group.included + group.excluded,
        "interval": interval_note(bounded) if bounded else "",
        "bands": bands_note(group.included, " The tables have it."),
        "half": mark_note([*group.included, *group.levels]),
        "overlaid": group.overlaid,
        "table1": group.table1,
        "predictors": predictor_table(group.predictions),
    }


def _matrix(
    rows: Rows,
    key: str,
    layers: Sequence[int],
    cell: Callable[[Row], tuple[str, str]],
    order: Iterable[str],
) -> list[dict[str, Any]]:
    """Return one line per name, with a cell (text, small text) per n, or one for the whole line."""
    cells = {(row[key], row["n"]): cell(row) for row in rows}
    return [
        {
            "name": name,
            "whole": cells.get((name, 0), ("", "")),
            "cells": [cells.get((name, n), ("", "")) for n in layers],
        }
        for name in order
        if any(name == known for known, _ in cells)
    ]


def _level(row: Row) -> tuple[str, str]:
    return percent(row["value"]) + mark(row), half_width(row)


def _effect(row: Row) -> tuple[str, str]:
    return points(row["estimate"]) + mark(row), half_width(row)


def _steps(row: Row) -> tuple[str, str]:
    never = f"{row['n_never']} of {row['n_networks']} never" if row["n_never"] else ""
    return steps(row["steps"]), never


def render(template: str, page: Mapping[str, Any]) -> str:
    """Return a page from its template. Everything but the JavaScript is escaped."""
    script = re.sub(r"<(?=/script|!--)", r"\\x3c", rendering.javascript(), flags=re.IGNORECASE)
    looks = {"dark": charts.DARK, "formats": FORMATS}
    return templates.template(template).render(page, javascript=script, **looks)
