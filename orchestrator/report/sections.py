"""The sections of the report: statistics and figures of a sweep, one section per group.

No number pools two populations; figure 3 draws them beside each other.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from orchestrator.plan.conditions import readable
from orchestrator.reference import recomputed
from orchestrator.reference.published import ALL_IMAGES
from orchestrator.reference.published import SWEEP as PAPER
from orchestrator.report import by_cost, by_images, figures, learning_figures
from orchestrator.report.charts import Panel
from orchestrator.report.measured import measured_figures, predictor_figure
from orchestrator.report.ways import (
    Listing,
    cost_listing,
    overtaking_listing,
    overtaking_sentences,
)
from orchestrator.report.wording import capital, population
from orchestrator.stats.effects import group_of
from orchestrator.stats.measurements import (
    METRICS,
    ONE_CLASS,
    WITHOUT_LAYERS,
    Group,
    Network,
    division_of,
)
from orchestrator.stats.statistics import Statistics

Rows = list[dict[str, Any]]
Place = tuple[str | None, str, int | None]


@dataclass(kw_only=True)
class Section:
    """One group of a sweep: rows of the statistics, and panels by figure.

    `suffix` keeps the file names of its figures apart from those of the first group. `overlaid`
    says that published results are drawn beside.
    """

    group: Group
    title: str
    suffix: str
    layers: Sequence[int]
    included: Rows
    excluded: Rows
    gaps: Rows
    """Effects on training less test top-1; empty for one class against the rest."""
    gap_levels: Rows
    levels: Rows
    speeds: Rows
    table1: Rows
    predictions: Rows
    figures: dict[str, list[Panel]] = field(default_factory=dict)
    costs: Listing | None = None
    overtaking: Listing | None = None
    overtaken: list[str] = field(default_factory=list)
    overlaid: bool = False


def sections_of(statistics: Statistics, published: str | None = None) -> list[Section]:
    """Return a section for every group that has figures, random splits first.

    `published` is the `reference` of the sweep. The HTML has the figure `chooser` in place of
    `curves` in the PNG. Groups that have only bases and differ in images per class share one
    figure, `images`.
    """
    networks = statistics.networks
    by_effect, by_level = statistics.effects.to_pylist(), statistics.levels.to_pylist()
    gaps = statistics.by("train_gap")
    by_gap, by_gap_level = gaps.effects.to_pylist(), gaps.levels.to_pylist()
    by_step, by_speed = statistics.speed.to_pylist(), statistics.speeds.to_pylist()
    others = _published(statistics.metric) if published == PAPER else ([], [])
    by_predictor = statistics.predictions.to_pylist()
    compared = statistics.comparisons.to_pylist()
    planned: dict[Place, set[int]] = {}
    for row in statistics.members.to_pylist():
        place = row["condition"], division_of(row), row["images_per_class"]
        planned.setdefault(place, set()).add(row["n"])
    groups = sorted({x.cell.group for x in networks}, key=lambda group: group.place)
    sizes = _sizes(groups, networks, statistics.trials)
    sections: list[Section] = []
    for group in groups:
        chosen = [x for x in networks if x.cell.group == group]
        rows = [row for row in by_effect if group_of(row) == group]
        part = Section(
            group=group,
            title=_title(group),
            suffix=_suffix(group) if sections else "",
            layers=sorted(planned[group.condition, group.division, group.images_per_class] - {0}),
            included=[row for row in rows if row["at_chance"] == "included"],
            excluded=[row for row in rows if row["at_chance"] == "excluded"],
            gaps=[x for x in _alike(by_gap, group) if x["at_chance"] == "included"],
            gap_levels=_alike(by_gap_level, group),
            levels=[row for row in by_level if group_of(row) == group],
            speeds=_alike(by_speed, group),
            table1=[row for row in statistics.table1.to_pylist() if group_of(row) == group],
            predictions=[row for row in by_predictor if group_of(row) == group],
        )
        sections.append(part)
        if group not in sizes or any(x.arm not in WITHOUT_LAYERS for x in chosen):
            beside = _beside(others, group, sizes)
            _draw(part, chosen, _alike(by_step, group), statistics, beside)
            part.figures |= measured_figures(row for row in compared if group_of(row) == group)
            if panels := predictor_figure(part.predictions):
                part.figures["predictors"] = panels
    _draw_figure3(sections, others[1])
    _draw_effects_by_images(sections)
    _draw_costs(sections, statistics)
    _draw_images(sections, sizes, by_level, others)
    return [part for part in sections if part.figures]


def _sizes(groups: Sequence[Group], networks: Sequence[Network], trials: pa.Table) -> set[Group]:
    """Return the groups that differ from another one in images per class alone.

    All images (null) are one of the sizes if their bases have the recipe of the other sizes.
    """
    recipe = dict(zip(trials["id"].to_pylist(), trials["recipe"].to_pylist(), strict=True))
    recipes = {
        group: {recipe[x.id] for x in networks if x.cell.group == group and x.arm == "base"}
        for group in groups
    }
    sizes: set[Group] = set()
    for group in groups:
        alike = {x for x in groups if _all_images(x) == _all_images(group)}
        limited = {x for x in alike if x.images_per_class is not None}
        full = {x for x in alike - limited if any(recipes[x] & recipes[other] for other in limited)}
        if len(limited | full) > 1:
            sizes |= limited | full
    return sizes


def _all_images(group: Group) -> Group:
    return group._replace(images_per_class=None)


def _beside(others: tuple[Rows, Rows], group: Group, sizes: Container[Group]) -> tuple[Rows, Rows]:
    """Return published levels and effects of a group's population.

    All images among other sizes are compared with the paper's largest size, which has the recipe of
    its sizes. The paper's network of all images has a longer one.
    """
    if group.images_per_class is None and group in sizes:
        largest = _alike(others[0], group._replace(images_per_class=ALL_IMAGES))
        return [{**row, "images_per_class": None} for row in largest], []
    return _alike(others[0], group), _alike(others[1], group)


def _draw(
    part: Section,
    networks: Sequence[Network],
    by_step: Rows,
    statistics: Statistics,
    beside: tuple[Rows, Rows],
) -> None:
    """Draw the figures of one group, with published levels and effects `beside` them."""
    part.overlaid = any(beside)
    part.figures["figure2"] = figures.figure2(networks, part.included, beside)
    if panels := figures.decomposition(part.included):
        part.figures["decomposition"] = panels
    if by_step:
        part.figures["speed"] = learning_figures.speed_figure(by_step, part.speeds)
    if part.group.metric in ONE_CLASS:
        return
    if panels := figures.overfitting(networks, statistics.trials):
        part.figures["overfitting"] = panels
    if rows := learning_figures.learning(networks, statistics.heights):
        part.figures["curves"] = learning_figures.learning_figure(rows, choose=False)
        part.figures["chooser"] = learning_figures.learning_figure(rows, choose=True)


def _draw_figure3(parts: Sequence[Section], published: Rows) -> None:
    """Draw Figure 3 in the first section of those that differ in their division alone."""
    alike: dict[Group, list[Section]] = {}
    for part in parts:
        alike.setdefault(part.group._replace(division=""), []).append(part)
    for group, some in alike.items():
        others = [row for row in published if row["images_per_class"] == group.images_per_class]
        if group.metric in ONE_CLASS:
            others = []
        panels = figures.figure3([(part.group.division, part.included) for part in some], others)
        if panels:
            some[0].figures["figure3"] = panels


def _draw_effects_by_images(parts: Sequence[Section]) -> None:
    """Draw effects by images per class in the first section of those that differ in it alone."""
    alike: dict[Group, list[Section]] = {}
    for part in parts:
        alike.setdefault(_all_images(part.group), []).append(part)
    for some in alike.values():
        rows = [row for part in some for row in part.included]
        if panels := by_images.effects_by_images(rows):
            some[0].figures["effects_by_images"] = panels


def _draw_costs(parts: Sequence[Section], statistics: Statistics) -> None:
    """Draw accuracy by cost in the first section of those with one division and metric.

    Its tables are those of `ways`.
    """
    columns = ["id", "seconds_total", "peak_memory_bytes"]
    trials = statistics.trials.select(columns).to_pylist()
    times = {row["id"]: row["seconds_total"] for row in trials if row["seconds_total"]}
    pairs = statistics.overtaking.to_pylist()
    alike: dict[Group, list[Section]] = {}
    for part in parts:
        alike.setdefault(_all_images(part.group._replace(condition=None)), []).append(part)
    for group, some in alike.items():
        place = group.division, group.metric
        chosen = [x for x in statistics.networks if (x.division, x.metric) == place]
        if panels := by_cost.accuracy_by_cost(chosen, times):
            some[0].figures["cost"] = panels
            some[0].costs = cost_listing(chosen, trials)
        if rows := [row for row in pairs if (row["division"], row["metric"]) == place]:
            names = by_cost.names_of_ways(chosen)
            some[0].overtaking = overtaking_listing(rows, names)
            some[0].overtaken = overtaking_sentences(rows, names)


def _draw_images(
    parts: Sequence[Section], sizes: set[Group], by_level: Rows, others: tuple[Rows, Rows]
) -> None:
    """Draw accuracy by images per class in the first section of those that differ in it alone.

    If that section has no other figure, it is renamed to stand for all numbers of images.
    """
    first: dict[Group, Section] = {}
    for part in parts:
        if part.group in sizes:
            first.setdefault(_all_images(part.group), part)
    for all_sizes, part in first.items():
        if not part.figures:
            part.title, part.levels = _title(all_sizes), []
            part.suffix = _suffix(all_sizes) if part.suffix else ""
        drawn = {group for group in sizes if _all_images(group) == all_sizes}
        rows = [row for row in by_level if group_of(row) in drawn]
        beside = [
            row
            for row in others[0]
            if row["division"] == all_sizes.division and row["images_per_class"] is not None
        ]
        if all_sizes in drawn:
            if not any(group.images_per_class == ALL_IMAGES for group in drawn):
                beside = [row for row in beside if row["images_per_class"] != ALL_IMAGES]
            beside += _beside(others, all_sizes, sizes)[0]
        if all_sizes.metric in ONE_CLASS:
            beside = []
        part.figures["images"] = figures.images_figure(rows, beside)
        part.overlaid = part.overlaid or bool(beside)


def _published(metric: str | None) -> tuple[Rows, Rows]:
    """Return levels and effects of the paper's networks, by the metric of the sweep."""
    paper = recomputed.statistics(metric or "top1")
    included = [row for row in paper.effects.to_pylist() if row["at_chance"] == "included"]
    return paper.levels.to_pylist(), included


def _alike(rows: Rows, group: Group) -> Rows:
    """Return the rows of a group's population in a table without one class against the rest.

    Such tables are learning speed and the paper's results.
    """
    place = group.division, group.images_per_class
    if group.metric in ONE_CLASS:
        return []
    return [
        row
        for row in rows
        if (row["division"], row["images_per_class"]) == place
        and (row["sweep"] == PAPER or row["condition"] == group.condition)
    ]


def _title(group: Group) -> str:
    return capital(f"{population(group)}: {METRICS[group.metric]}")


def _suffix(group: Group) -> str:
    """Return the end of a file name: `-natural_manmade`, `-whole-250`, `-random-999-auroc`."""
    parts = [group.division]
    parts += [readable(group.condition)] if group.condition else []
    parts += [str(group.images_per_class)] if group.images_per_class is not None else []
    parts += [group.metric] if group.metric in ONE_CLASS else []
    return "-" + re.sub(r"[^A-Za-z0-9_.=-]+", "_", "-".join(parts))
