"""Table 1 and Figures 2 and 3 of the paper, from its published rows through our own statistics.

Accuracies and differences are fractions; only Table 1 is in percentage points, as printed.
"""

from __future__ import annotations

import functools
from typing import Any

from orchestrator.reference import published as reference
from orchestrator.reference.published import METRIC, NATURAL_MANMADE
from orchestrator.stats.effects import effects, levels
from orchestrator.stats.samples import Samples
from orchestrator.stats.statistics import Statistics
from orchestrator.store.schemas import SCHEMAS

Rows = list[dict[str, Any]]

CURVES = {  # curve of Figure 3: (division, arm, target or None for the mean of both)
    "random_splits": ("random", "AnB", None),
    "natural_to_manmade": (NATURAL_MANMADE, "AnB", "B"),
    "manmade_to_natural": (NATURAL_MANMADE, "AnB", "A"),
    "natural_manmade": (NATURAL_MANMADE, "AnB", None),
    "random_filters": ("whole", "random", None),
}
BELOW = {"AnB": "transfer", "random": "random"}  # arm: the effect that is the arm less its base


@functools.cache
def statistics(metric: str = METRIC) -> Statistics:
    """Return the statistics of the published networks, by default by the metric of the paper.

    The authors published no counts per class, so no interval is over classes.
    """
    members, trials, curves = reference.tables()
    none = SCHEMAS["classes"].empty_table()
    tables = {"sweeps": members, "trials": trials, "curves": curves, "classes": none}
    return Statistics(tables.__getitem__, metric)


def table1() -> Rows:
    """Return the six rows of Table 1, in percentage points; the columns are some of `TABLE1`.

    `n_networks` and `n_targets` count both sides; `n_both` counts targets that have both.
    """
    names = ["layers", "versus", "pooled", "own_base", "se", "se_kind"]
    names += ["n_networks", "n_targets", "n_both", "gain", "gain_versus"]
    rows: Rows = statistics().table1.select(names).to_pylist()
    return rows


def mixes() -> list[str]:
    """Return sentences on what Table 1 mixes by pooling, and on `own_base`."""
    networks = [x for x in statistics().networks if x.division == "random"]
    bases = {(x.split, x.target): x.value for x in networks if x.arm == "base"}
    targets = {
        arm: " and ".join(
            f"{split[1:]}{target} (base {100 * bases[split, target]:.1f} %)"
            for split, target in sorted({(x.split, x.target) for x in networks if x.arm == arm})
        )
        for arm in ("AnB+", "BnB+")
    }
    return [
        f"pooled is as printed: the mean of all AnB+ less that of all bases or of all BnB+. But "
        f"AnB+ was finished on targets {targets['AnB+']} only, BnB+ on {targets['BnB+']}: no "
        f"target has both, and so pooled mixes the treatment with the targets.",
        "own_base subtracts from each network the base of its own target, and shows what is left "
        "of the gain over BnB+. It pairs nothing either, and se is naive: Welch over networks that "
        "share at most two bases per side.",
    ]


def figure2() -> dict[str, Rows]:
    """Return the 112 markers, one per network of the random splits, and lines through the means."""
    networks = [x for x in statistics().networks if x.division == "random"]
    directories = dict(
        zip(*(reference.paper()[name].to_pylist() for name in ("id", "directory")), strict=True)
    )
    markers = [
        {"name": x.name, "directory": directories[x.id], "arm": x.arm, "n": x.n, "value": x.value}
        for x in networks
    ]
    lines = [
        {name: row[name] for name in ("arm", "n", "value", "n_networks")}
        for row in statistics().levels.to_pylist()
        if row["division"] == "random"
    ]
    return {"markers": markers, "lines": lines}


def figure3() -> dict[str, Rows]:
    """Return `curves` over n, and `reduced`: the networks trained with fewer images per class.

    `minus_base` is a value less its curve's value at n = 0. That base is the network of all 1000
    classes for random filters, and the mean of both bases for `natural_manmade`. `at_chance` counts
    networks that learned nothing: failures, not accuracies.
    """
    curves: Rows = []
    for curve, (division, arm, target) in CURVES.items():
        chosen = [
            (x, number)
            for x, number in statistics().measured
            if (x.division, x.images_per_class) == (division, None)
            and x.arm in ("base", arm)
            and target in (None, x.target)
        ]
        samples = Samples(chosen)
        below = {
            row["n"]: row["estimate"]
            for row in effects(samples).to_pylist()
            if (row["effect"], row["at_chance"]) == (BELOW[arm], "included")
        }
        for row in levels(samples).to_pylist():
            n = row["n"]
            values = {"value": row["value"], "minus_base": below.get(n, 0.0)}
            chance = sum(x.at_chance for x, _ in chosen if x.n == n)
            counts = {"n_networks": row["n_networks"], "at_chance": chance}
            curves.append({"curve": curve, "n": n} | values | counts)
    reduced = [
        {"images_per_class": x.images_per_class, "value": x.value, "at_chance": x.at_chance}
        for x in statistics().networks
        if x.images_per_class is not None
    ]
    return {"curves": curves, "reduced": reduced}
