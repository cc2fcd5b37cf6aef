"""The report of a sweep: one HTML file that loads nothing else, and its figures as files."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestrator.report import advised, charts, rendering
from orchestrator.report.alternatives import panel_text
from orchestrator.report.charts import Panel
from orchestrator.report.class_table import class_names, class_table
from orchestrator.report.figures import has_band
from orchestrator.report.lead import lead
from orchestrator.report.links import linked
from orchestrator.report.measured import predictor_table
from orchestrator.report.methods import methods_of
from orchestrator.report.queries import TITLES as QUERY_TITLES
from orchestrator.report.queries import queries_of
from orchestrator.report.searches import search_notes, search_sections
from orchestrator.report.sections import Section, sections_of
from orchestrator.report.sentences import sentences_of
from orchestrator.report.wording import (
    capital,
    count,
    half_width,
    interval_note,
    lacking_note,
    left_out,
    mark,
    mark_note,
    no_interval,
    percent,
    points,
    steps,
)
from orchestrator.states import BAD_OUTCOMES, State
from orchestrator.stats.effects import group_of
from orchestrator.stats.intervals import CLASS_AND_SEED
from orchestrator.stats.measurements import ARMS, DIFFERENCES, METRICS, Group, is_direction
from orchestrator.stats.reach import reach
from orchestrator.stats.statistics import Statistics
from orchestrator.store.names import FORMATS, PAGE, PICTURES, FigureFile
from orchestrator.store.store import Store
from orchestrator.sweep.records import reference_of
from trainers import whole_file
from trainers.datasets import SHARED

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
    store: Store, sweep: str, folder: Path, statistics: Statistics | None = None
) -> Path:
    """Write `index.html` and the PNG figures of a sweep into a folder; return the path of the page.

    Trials that have not run are left out. `statistics` are those of the sweep, if the caller has
    them. Raises `StoreError` if the store does not know the sweep.
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
    page = _context(sweep, statistics, groups) | {"text": record.text, "searches": searches}
    page["methods"] = methods_of(sweep, statistics, record)
    members = statistics.members.select(["id", "name"]).to_pylist()
    names = {row["id"]: row["name"] for row in members}
    lacking = store.check(names)
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


def _context(sweep: str, statistics: Statistics, groups: Sequence[Section]) -> dict[str, Any]:
    """Return the page's text and tables, without its figures."""
    members, rows = statistics.members, statistics.trials.to_pylist()
    answers = {
        answer.group: advised.on_page(answer)
        for answer in statistics.advice()
        if is_direction(answer.group.division)
    }
    classes = _classes(statistics)
    return {
        "sweep": sweep,
        "linked": linked,
        "query_titles": QUERY_TITLES,
        "notes": _notes(sweep, statistics, rows, groups) + search_notes(members),
        "complete": sum(row["outcome"] == State.COMPLETE for row in rows),
        "planned": len(members["id"].unique()),
        "groups": [
            _of_group(group, several=len(groups) > 1)
            | {"advice": answers.get(group.group), "classes": classes.get(group.group)}
            | {"queries": queries_of(group.group, statistics.metric)}
            for group in groups
        ],
        "titles": TITLES,
        "failures": _failures(members, rows),
        "most_failures": MOST_FAILURES,
        "provenance": _provenance(rows),
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


def _of_group(group: Section, *, several: bool) -> dict[str, Any]:
    """Return the sentences and tables of one group."""
    with_chance, without_chance = (
        _matrix(chosen, "effect", group.layers, _effect, TITLES)
        for chosen in (group.included, group.excluded)
    )
    bounded = [row for row in group.included if row["low"] is not None]
    reached = reach(group.included)
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
        "bands": _bands(group.included),
        "half": mark_note([*group.included, *group.levels]),
        "overlaid": group.overlaid,
        "table1": group.table1,
        "predictors": predictor_table(group.predictions),
    }


def _bands(rows: Rows) -> str:
    """Say what the bands of a figure are, or why it has none."""
    drawn = [row for row in rows if has_band(row)]
    if drawn:
        return f"Bands and bars are pointwise 95 %: {interval_note(drawn)}."
    if bounded := [row for row in rows if row["low"] is not None]:
        return (
            f"No bands are drawn: the {interval_note(bounded)} would hide the lines. The tables "
            "have it."
        )
    return f"{capital(no_interval(rows[0]))}." if rows else ""


def _notes(sweep: str, statistics: Statistics, rows: Rows, groups: Sequence[Section]) -> list[str]:
    """Return notes for the top of the page: gaps, failures and limits of the numbers."""
    members = statistics.members
    planned, outcomes = len(members["id"].unique()), Counter(row["outcome"] for row in rows)
    if not outcomes[State.COMPLETE]:
        return [
            f"No network is complete yet, so there is nothing to show. Run: layerwise run {sweep}"
        ]
    notes = []
    if statistics.metric is not None:
        notes.append(f"Every network is measured by the {METRICS[statistics.metric]}.")
    if outcomes[State.COMPLETE] < planned:
        others = [f"{outcomes[name]} {name}" for name in BAD_OUTCOMES if outcomes[name]]
        others += [f"{planned - len(rows)} not run"] if planned > len(rows) else []
        notes.append(
            f"Incomplete: {outcomes[State.COMPLETE]} of {planned} networks are complete "
            f"({', '.join(others)}). All numbers are of complete networks."
        )
    if statistics.unpaired or statistics.without_curve:
        notes.append(f"{capital(left_out(statistics, curves=True))}.")
    for group in groups:
        where = f"{group.title}: one" if len(groups) > 1 else "One"
        units = {row["unit"] for row in group.included}
        if CLASS_AND_SEED in units and all(row["low"] is None for row in group.included):
            notes.append(
                f"{where} split by nature, with one seed: differences have no interval, because "
                "one seed cannot tell how far seeds differ."
            )
        elif CLASS_AND_SEED in units:
            notes.append(
                f"{where} split by nature: its intervals cover which classes and which seeds were "
                "drawn; they say nothing about another such division."
            )
        elif units and max(row["n_splits"] for row in group.included) < 2:
            notes.append(
                f"{where} split: differences have no interval, because an interval counts splits."
            )
    if any(map(_allows_shared_images, rows)):
        notes.append(
            "Training, validation and test sets share images (shared_images of the dataset allows "
            "it), so accuracies may be too high."
        )
    if chance := sum(bool(row["at_chance"]) for row in rows):
        networks = count(chance, "network")
        notes.append(f"{networks} never left chance: effects are given with and without them.")
    if changed := sum(row["frozen_proven"] is False for row in rows):
        networks = count(changed, "network")
        notes.append(f"Frozen layers changed in {networks}: these numbers cannot be trusted.")
    return notes


def _allows_shared_images(row: Row) -> bool:
    """Return whether the dataset of a trial has the option `shared_images`."""
    dataset = json.loads(row["training"] or "{}").get("target", {}).get("dataset", {})
    return dict(dataset.get("options", ())).get(SHARED) is True


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
    return steps(row["steps"]), f"{row['n_never']} of {row['n_networks']} never" if row[
        "n_never"
    ] else ""


def _failures(members: pa.Table, rows: Rows) -> list[dict[str, Any]]:
    """Return the trials that ended and are not complete, under their names in this sweep."""
    names = dict(zip(members["id"].to_pylist(), members["name"].to_pylist(), strict=True))
    failed = [row for row in rows if row["outcome"] != State.COMPLETE]
    failed.sort(key=lambda row: (row["outcome"], names[row["id"]]))
    columns = ("id", "outcome", "error_type", "error_message", "error_step")
    return [{"name": names[row["id"]]} | {key: row[key] for key in columns} for row in failed]


def _provenance(rows: Rows) -> list[tuple[str, str]]:
    """Return the origin of the numbers, as pairs of a name and a string."""
    done = [row for row in rows if row["outcome"] == State.COMPLETE]
    frozen = [row["frozen_proven"] for row in done if row["frozen_proven"] is not None]
    starts, ends = ([row[key] for row in rows if row[key]] for key in ("started", "ended"))
    seconds = sum(row["seconds_train"] or 0 for row in done)
    versions = Counter(
        ", ".join(f"{name} {version}" for name, version in sorted(json.loads(text).items()))
        for row in rows
        if (text := row["versions"])
    )
    pairs = [
        ("Networks", f"{len(done)} complete, {seconds / 60:.1f} minutes of training in all"),
        ("Dataset", _counted(done, "dataset", "dataset_fingerprint")),
        ("Network", _counted(done, "network")),
        ("Frozen layers", f"proven unchanged in {sum(frozen)} of {len(frozen)} networks"),
        ("Dates", f"{min(starts):%Y-%m-%d %H:%M} to {max(ends):%Y-%m-%d %H:%M} UTC")
        if starts and ends
        else ("Dates", ""),
        ("Hosts", _counted(rows, "host")),
        ("Devices", _counted(rows, "device")),
        ("Git commits", _counted(rows, "git_commit")),
        ("Versions", "; ".join(versions)),
    ]
    return [(name, text) for name, text in pairs if text]


def _counted(rows: Rows, *columns: str) -> str:
    """Return the values of columns, with counts if there are several: `host1 (280), host2 (16)`."""
    counts = Counter(" ".join(str(row[key]) for key in columns if row[key]) for row in rows)
    known = [(value, count) for value, count in counts.most_common() if value]
    return ", ".join(f"{value} ({count})" if len(known) > 1 else value for value, count in known)


def render(template: str, page: Mapping[str, Any]) -> str:
    """Return a page from its template. Everything but the JavaScript is escaped."""
    import jinja2

    def source(name: str) -> str:
        return files(__package__).joinpath(name).read_text(encoding="utf-8")

    script = re.sub(r"<(?=/script|!--)", r"\\x3c", rendering.javascript(), flags=re.IGNORECASE)
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=jinja2.FunctionLoader(source),
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "sort_keys": True}
    looks = {"dark": charts.DARK, "formats": FORMATS}
    return environment.get_template(template).render(page, javascript=script, **looks)
