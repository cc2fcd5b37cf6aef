"""The statistics and figures of a sweep, group by group: no figure mixes two populations."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator import reference
from orchestrator.comparisons import BASES, METRICS, Group, Network, division_of, measurements
from orchestrator.report import figures
from orchestrator.report.charts import Panel
from orchestrator.report.findings import population
from orchestrator.speed import speed, speeds
from orchestrator.stats import effects, effects_of, group_of, levels, levels_of

Rows = list[dict[str, Any]]
Place = tuple[str, int | None]


@dataclass(kw_only=True)
class Findings:
    """One group of a sweep: rows of the statistics, and panels by figure.

    `suffix` tells the names of its files from those of the first group.
    """

    group: Group
    title: str
    suffix: str
    layers: Sequence[int]
    included: Rows
    excluded: Rows
    levels: Rows
    speeds: Rows
    figures: dict[str, list[Panel]] = field(default_factory=dict)
    overlaid: bool = False


def findings_of(
    members: pa.Table,
    trials: pa.Table,
    curves: pa.Table,
    classes: pa.Table | None = None,
    published: str | None = None,
) -> list[Findings]:
    """Every group that has something to show, random splits first.

    `chooser` is for the HTML what `curves` is for the PNG. Several numbers of images a class that
    have nothing but bases are not shown one by one, but as one figure, `images`.
    """
    networks = measurements(members, trials)
    by_effect = effects(members, trials, classes).to_pylist()
    by_level = levels(members, trials, classes).to_pylist()
    each = speed(members, trials, curves)
    by_step, by_speed = each.to_pylist(), speeds(each).to_pylist()
    others = _published() if published == reference.SWEEP else ([], [])
    planned: dict[Place, set[int]] = {}
    for row in members.to_pylist():
        place = division_of(row), row["images_per_class"]
        planned.setdefault(place, set()).add(row["n"])
    groups = sorted({x.cell.group for x in networks}, key=lambda group: group.place)
    found: list[Findings] = []
    for group in groups:
        chosen = [x for x in networks if x.cell.group == group]
        rows = [row for row in by_effect if group_of(row) == group]
        part = Findings(
            group=group,
            title=_title(group),
            suffix=_suffix(group) if found else "",
            layers=sorted(planned[group.division, group.images_per_class] - {0}),
            included=[row for row in rows if row["at_chance"] == "included"],
            excluded=[row for row in rows if row["at_chance"] == "excluded"],
            levels=[row for row in by_level if group_of(row) == group],
            speeds=_alike(by_speed, group),
        )
        found.append(part)
        if not _is_size(group, groups) or any(x.arm not in BASES for x in chosen):
            _draw(part, chosen, _alike(by_step, group), curves, others)
    _draw_images(found, by_level, others[0])
    return [part for part in found if part.figures]


def _is_size(group: Group, groups: Sequence[Group]) -> bool:
    """Whether this is one of several numbers of images a class."""
    alike = [x for x in groups if (x.division, x.metric) == (group.division, group.metric)]
    sizes = {x.images_per_class for x in alike} - {None}
    return group.images_per_class is not None and len(sizes) > 1


def _draw(
    part: Findings,
    networks: Sequence[Network],
    by_step: Rows,
    curves: pa.Table,
    others: tuple[Rows, Rows],
) -> None:
    """The figures of one group, with published results of the same population beside them."""
    beside = _alike(others[0], part.group), _alike(others[1], part.group)
    part.overlaid = any(beside)
    part.figures["figure2"] = figures.figure2(networks, part.included, beside)
    if panels := figures.decomposition(part.included):
        part.figures["decomposition"] = panels
    if by_step:
        part.figures["speed"] = figures.speed_figure(by_step, part.speeds)
    if part.group.metric == "top1" and (rows := figures.learning(networks, curves)):
        part.figures["curves"] = figures.learning_figure(rows, choose=False)
        part.figures["chooser"] = figures.learning_figure(rows, choose=True)


def _draw_images(parts: Sequence[Findings], by_level: Rows, others: Rows) -> None:
    """Accuracy by images a class, with the first group of each division and metric.

    One that has nothing else to show stands for all sizes then.
    """
    first: dict[tuple[str, str], Findings] = {}
    for part in parts:
        first.setdefault((part.group.division, part.group.metric), part)
    groups = [part.group for part in parts]
    for (division, metric), part in first.items():
        if not any(
            _is_size(x, groups) for x in groups if (x.division, x.metric) == (division, metric)
        ):
            continue
        if not part.figures:
            whole = part.group._replace(images_per_class=None)
            part.title, part.levels = _title(whole), []
            part.suffix = _suffix(whole) if part.suffix else ""
        rows = [row for row in by_level if (row["division"], row["metric"]) == (division, metric)]
        beside = [row for row in others if row["division"] == division and metric == "top1"]
        part.figures["images"] = figures.images_figure(rows, beside)
        part.overlaid = part.overlaid or bool(beside)


def _published() -> tuple[Rows, Rows]:
    """Levels and effects of the paper, by the metric that it prints and plots."""
    members, trials, _ = reference.tables()
    networks = measurements(members, trials, reference.METRIC)
    rows = effects_of(networks, members).to_pylist()
    included = [row for row in rows if row["at_chance"] == "included"]
    return levels_of(networks, members).to_pylist(), included


def _alike(rows: Rows, group: Group) -> Rows:
    """Rows of this population, of tables that know top-1 alone: speed, and the paper's results."""
    place = group.division, group.images_per_class
    if group.metric != "top1":
        return []
    return [row for row in rows if (row["division"], row["images_per_class"]) == place]


def _title(group: Group) -> str:
    text = f"{population(group)}: {METRICS[group.metric]}"
    return text[0].upper() + text[1:]


def _suffix(group: Group) -> str:
    """`-natural_manmade`, `-whole-250`, `-random-999-auroc`: what a file name may hold."""
    parts = [group.division]
    parts += [str(group.images_per_class)] if group.images_per_class is not None else []
    parts += [group.metric] if group.metric != "top1" else []
    return "-" + re.sub(r"[^A-Za-z0-9_-]", "_", "-".join(parts))
