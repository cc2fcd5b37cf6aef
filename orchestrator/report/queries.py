"""The SQL that gives the numbers of a report, by names to which its sentences and tables refer."""

from __future__ import annotations

from orchestrator.stats.measurements import ONE_CLASS, Group

OF_METRIC = {"levels", "effects", "gaps", "table1"}  # views that have the column `metric`
TITLES = {
    "levels": "mean of each treatment",
    "effects": "differences between treatments, with intervals",
    "gaps": "over-fitting: training less test",
    "speeds": "steps to the accuracy of the base",
    "classes": "accuracy of each class",
    "table1": "Table 1",
    "networks": "every network",
}
COLUMNS = {
    "levels": "arm, n, value, low, high, n_networks, n_splits",
    "effects": "effect, n, estimate, low, high, low_simultaneous, high_simultaneous, se, df",
    "gaps": "effect, n, estimate, low, high, low_simultaneous, high_simultaneous",
    "speeds": "arm, n, steps, n_never, n_networks, area_gain, low, high",
    "classes": "class_index, n, base, transfer, difference, low, high, n_splits",
    "table1": "layers, versus, pooled, paired, paired_low, paired_high, n_splits, n_networks",
    "networks": "name, treatment, frozen, n, split, target, seed, top1, val_mean10",
}
VIEW = {"gaps": "effects", "classes": "class_effects", "networks": "results"}


def queries_of(group: Group, metric: str | None = None) -> dict[str, str]:
    """Return the queries of one group by name; `metric` is that of a report which names one."""
    few = group.metric in (*ONE_CLASS, "map50")  # these have no accuracy of each class or step
    names = [name for name in COLUMNS if not few or name not in ("gaps", "classes", "speeds")]
    return {name: _query(name, group, metric) for name in names}


def _query(name: str, group: Group, metric: str | None) -> str:
    view = VIEW.get(name, name)
    called = "train_gap" if name == "gaps" else metric if name in OF_METRIC else None
    source = f"{view}({_text(called)})" if called else view
    wanted = [f"sweep = {_text(group.sweep)}"]
    wanted.append(f"division = {_text(group.division)}")
    wanted.append(_equal("condition", group.condition))
    wanted.append(_equal("images_per_class", group.images_per_class))
    if name in OF_METRIC and not called:
        wanted.append(f"metric = {_text(group.metric)}")
    if name in ("effects", "gaps"):
        wanted.append("at_chance = 'included'")
    order = {"networks": "name", "classes": "n, difference"}.get(name, "ALL")
    where = " AND ".join(wanted)
    return f"SELECT {COLUMNS[name]} FROM {source} WHERE {where} ORDER BY {order}"


def _equal(column: str, value: str | int | None) -> str:
    if value is None:
        return f"{column} IS NULL"
    return f"{column} = {value if isinstance(value, int) else _text(value)}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
