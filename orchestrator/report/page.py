"""The report of a sweep: one HTML file that needs no network, and its figures as PNG."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from orchestrator import yaml_source
from orchestrator.comparisons import ARMS, DIFFERENCES, METRICS
from orchestrator.errors import SweepError
from orchestrator.intervals import CLASS_AND_SEED
from orchestrator.report import charts, study
from orchestrator.report.findings import count, findings, half_width, interval_note, points
from orchestrator.report.groups import Findings, findings_of
from orchestrator.stats import needs_classes
from orchestrator.store import Store

Row = Mapping[str, Any]
Rows = Sequence[Row]

TITLES = {  # effect: (what the table calls it, how it is computed)
    name: (name.replace("co_", "co-").replace("_", " "), " − ".join(pair))
    for name, pair in DIFFERENCES.items()
}
PNG = {
    "figure2": (1, 620),
    "images": (1, 620),
    "decomposition": (2, 420),
    "speed": (2, 420),
    "curves": (4, 240),
    "search_fine_tune": (3, 320),
    "search_base_long": (2, 320),
}
MOST_FAILURES = 100


def write_report(
    store: Store, sweep: str, members: pa.Table, folder: Path, published: str | None = None
) -> Path:
    """Write `index.html` and the PNG figures of a sweep into a folder; the path of the HTML file.

    `members` are the sweep's rows of the table `sweeps`. What has not run yet is only missing.
    `published` is the `reference` whose results are drawn beside these, by default the sweep's own.
    """
    ids = members["id"].unique()
    text = _text(store, sweep)
    tables = {
        name: (table := store.table(name)).filter(pc.is_in(table["id"], ids))
        for name in ("trials", "curves", *(["classes"] if needs_classes(members) else []))
    }
    groups = findings_of(members, **tables, published=published or _reference(text))
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.png"):  # one of an earlier report would not belong to this one
        if path.stem.partition("-")[0] in PNG:
            path.unlink()
    for group in groups:
        for name, panels in group.figures.items():
            if name in PNG:
                columns, width = PNG[name]
                image = charts.png(panels, columns=columns, width=width)
                (folder / f"{name}{group.suffix}.png").write_bytes(image)
    searches = study.sections(store, sweep, members)
    for search in searches:
        if search.panels:
            columns, width = PNG[search.name]
            image = charts.png(search.panels, columns=columns, width=width)
            (folder / f"{search.name}.png").write_bytes(image)
    page = _context(sweep, members, tables["trials"], groups) | {"sweep": sweep, "text": text}
    page["figures"] = {
        f"{name}{group.suffix}": [
            {"title": panel.title, "spec": charts.spec(panel)} for panel in panels
        ]
        for group in groups
        for name, panels in group.figures.items()
        if name != "curves"
    }
    page["figures"] |= {
        search.name: [{"title": panel.title, "spec": charts.spec(panel)} for panel in search.panels]
        for search in searches
    }
    page["searches"] = searches
    page["notes"] += study.notes(members)
    path = folder / "index.html"
    path.write_text(_render(page), encoding="utf-8")
    return path


def _context(
    sweep: str, members: pa.Table, trials: pa.Table, groups: Sequence[Findings]
) -> dict[str, Any]:
    """What the page says beside its figures."""
    rows = trials.to_pylist()
    return {
        "notes": _notes(sweep, members, rows, groups),
        "complete": sum(row["outcome"] == "complete" for row in rows),
        "planned": len(members["id"].unique()),
        "groups": [_of_group(group, several=len(groups) > 1) for group in groups],
        "titles": TITLES,
        "failures": _failures(members, rows),
        "most_failures": MOST_FAILURES,
        "provenance": _provenance(rows),
        "points": points,
    }


def _of_group(group: Findings, *, several: bool) -> dict[str, Any]:
    """The sentences and tables of one group."""
    with_chance, without_chance = (
        _matrix(chosen, "effect", group.layers, _effect, TITLES)
        for chosen in (group.included, group.excluded)
    )
    bounded = [row for row in group.included if row["low"] is not None]
    return {
        "title": group.title if several else "",
        "suffix": group.suffix,
        "metric": METRICS[group.group.metric],
        "drawn": list(group.figures),
        "findings": findings(group.included, group.levels, group.speeds),
        "layers": group.layers,
        "levels": _matrix(group.levels, "arm", group.layers, _level, ARMS),
        "effects": with_chance,
        "differing": [row for row in without_chance if row not in with_chance],
        "speeds": _matrix(group.speeds, "arm", group.layers, _steps, ARMS),
        "all": len(group.included),
        "left": len(group.excluded),
        "all_effects": group.included + group.excluded,
        "interval": interval_note(bounded[0]) if bounded else "",
        "overlaid": group.overlaid,
    }


def _notes(sweep: str, members: pa.Table, rows: Rows, groups: Sequence[Findings]) -> list[str]:
    """What a reader must know first."""
    planned, outcomes = len(members["id"].unique()), Counter(row["outcome"] for row in rows)
    if not outcomes["complete"]:
        return [
            f"No network is complete yet, so there is nothing to show. Run: layerwise run {sweep}"
        ]
    notes = []
    if outcomes["complete"] < planned:
        others = [
            f"{outcomes[name]} {name}" for name in ("failed", "lost", "skipped") if outcomes[name]
        ]
        others += [f"{planned - len(rows)} not run"] if planned > len(rows) else []
        notes.append(
            f"Incomplete: {outcomes['complete']} of {planned} networks are complete "
            f"({', '.join(others)}). All numbers are of those that are."
        )
    for group in groups:
        where = f"{group.title}: one" if len(groups) > 1 else "One"
        units = {row["unit"] for row in group.included}
        if CLASS_AND_SEED in units:
            notes.append(
                f"{where} split by nature: its intervals cover which classes and which seeds were "
                "drawn, and nothing of how another such division would come out."
            )
        elif units and max(row["n_splits"] for row in group.included) < 2:
            notes.append(
                f"{where} split: differences have no interval, because the split is what an "
                "interval counts."
            )
    if chance := sum(bool(row["at_chance"]) for row in rows):
        networks = count(chance, "network")
        notes.append(f"{networks} never left chance: effects are given with and without them.")
    if changed := sum(row["frozen_proven"] is False for row in rows):
        networks = count(changed, "network")
        notes.append(f"Frozen layers changed in {networks}: these numbers cannot be trusted.")
    return notes


def _matrix(
    rows: Rows,
    key: str,
    layers: Sequence[int],
    cell: Callable[[Row], tuple[str, str]],
    order: Iterable[str],
) -> list[dict[str, Any]]:
    """One line per name, with a cell (text, small text) per n, or one for the whole line."""
    found = {(row[key], row["n"]): cell(row) for row in rows}
    return [
        {
            "name": name,
            "whole": found.get((name, 0), ("", "")),
            "cells": [found.get((name, n), ("", "")) for n in layers],
        }
        for name in order
        if any(name == known for known, _ in found)
    ]


def _level(row: Row) -> tuple[str, str]:
    return points(row["value"], sign=False), half_width(row)


def _effect(row: Row) -> tuple[str, str]:
    return points(row["estimate"]), half_width(row)


def _steps(row: Row) -> tuple[str, str]:
    middle = "never" if row["steps"] is None else f"{row['steps']:.0f}"
    return middle, f"{row['n_never']} of {row['n_networks']} never" if row["n_never"] else ""


def _failures(members: pa.Table, rows: Rows) -> list[dict[str, Any]]:
    """Trials that ended otherwise than complete, under the names of this sweep."""
    names = dict(zip(members["id"].to_pylist(), members["name"].to_pylist(), strict=True))
    failed = [row for row in rows if row["outcome"] != "complete"]
    failed.sort(key=lambda row: (row["outcome"], names[row["id"]]))
    wanted = ("id", "outcome", "error_type", "error_message", "error_step")
    return [{"name": names[row["id"]]} | {key: row[key] for key in wanted} for row in failed]


def _provenance(rows: Rows) -> list[tuple[str, str]]:
    """Where the numbers come from, as pairs of a name and a text."""
    done = [row for row in rows if row["outcome"] == "complete"]
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
    """The values of columns, with counts where there are several: host1 (280), host2 (16)."""
    counts = Counter(" ".join(str(row[key]) for key in columns if row[key]) for row in rows)
    known = [(value, count) for value, count in counts.most_common() if value]
    return ", ".join(f"{value} ({count})" if len(known) > 1 else value for value, count in known)


def _text(store: Store, sweep: str) -> str:
    """The sweep's file as it was run; empty where the store does not hold it."""
    try:
        data = store.get(store.path("sweeps", f"{sweep}.parquet"))
    except FileNotFoundError:
        return ""
    metadata = pq.read_schema(io.BytesIO(data)).metadata or {}
    return (metadata.get(b"sweep") or b"").decode()


def _reference(text: str) -> str | None:
    """The `reference` of a sweep as it was recorded; none where the text is not that of a file."""
    if changed := re.findall(r"^# changed by: --set reference=(\S+)$", text, re.MULTILINE):
        return str(changed[-1])
    try:
        data, _ = yaml_source.parse(text, "sweep")
    except SweepError:
        return None
    found = data.get("reference") if isinstance(data, Mapping) else None
    return found if isinstance(found, str) else None


def _render(page: Mapping[str, Any]) -> str:
    """The template with everything escaped, and the JavaScript once."""
    import jinja2

    script = re.sub(r"<(?=/script|!--)", r"\\x3c", charts.javascript(), flags=re.IGNORECASE)
    source = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source).render(page, javascript=script)
