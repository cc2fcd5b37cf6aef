"""Table 1 and Figures 2 and 3 of the paper, from its published rows through our own statistics.

Accuracies and differences are fractions, but in Table 1, as printed, percentage points.
"""

from __future__ import annotations

from typing import Any

from orchestrator import reference
from orchestrator.comparisons import Network, measurements
from orchestrator.reference import METRIC, NATURAL_MANMADE
from orchestrator.stats import effects_of, levels_of
from orchestrator.stats import table1 as table1_of

Rows = list[dict[str, Any]]

CURVES = {  # of Figure 3: (division, arm, target or None for the mean of both)
    "random_splits": ("random", "AnB", None),
    "natural_to_manmade": (NATURAL_MANMADE, "AnB", "B"),
    "manmade_to_natural": (NATURAL_MANMADE, "AnB", "A"),
    "natural_manmade": (NATURAL_MANMADE, "AnB", None),
    "random_filters": ("whole", "random", None),
}
BELOW = {"AnB": "transfer", "random": "random"}  # the effect that is an arm less its base


def table1() -> Rows:
    """Six rows, in percentage points: layers, versus, pooled, own_base, se, and counts.

    `n_networks` and `n_targets` are of both sides; `n_both` targets have both of them.
    """
    members, trials, _ = reference.tables()
    kept = ["layers", "versus", "pooled", "own_base", "se", "se_kind"]
    kept += ["n_networks", "n_targets", "n_both", "gain", "gain_versus"]
    found = table1_of(members, trials, METRIC).select(kept)
    rows: Rows = found.to_pylist()
    return rows


def mixes() -> list[str]:
    """What the pooled comparison of Table 1 mixes, in sentences, and what `own_base` is."""
    networks = [x for x in _networks() if x.division == "random"]
    bases = {(x.split, x.target): x.value for x in networks if x.arm == "base"}
    targets = {
        arm: " and ".join(
            f"{split[1:]}{target} (base {100 * bases[split, target]:.1f} %)"
            for split, target in sorted({(x.split, x.target) for x in networks if x.arm == arm})
        )
        for arm in ("AnB+", "BnB+")
    }
    return [
        f"pooled is as printed: all AnB+ less all bases, or less all BnB+. But AnB+ was finished "
        f"on targets {targets['AnB+']} only, BnB+ on {targets['BnB+']}: no target has both, and so "
        f"pooled mixes the treatment with the targets.",
        "own_base takes each network less the base of its own target: what is left of the gain "
        "over BnB+. It pairs nothing either, and se is naive: Welch over networks that share at "
        "most two bases a side.",
    ]


def figure2() -> dict[str, Rows]:
    """The 112 markers, one a network of the random splits, and the lines that join their means."""
    networks = [x for x in _networks() if x.division == "random"]
    directories = dict(
        zip(*(reference.paper()[name].to_pylist() for name in ("id", "directory")), strict=True)
    )
    markers = [
        {"name": x.name, "directory": directories[x.id], "arm": x.arm, "n": x.n, "value": x.value}
        for x in networks
    ]
    members = reference.tables().members
    lines = [
        {name: row[name] for name in ("arm", "n", "value", "n_networks")}
        for row in levels_of(networks, members).to_pylist()
    ]
    return {"markers": markers, "lines": lines}


def figure3() -> dict[str, Rows]:
    """`curves` over n, each with itself less its own value at n = 0; `reduced` over images a class.

    The base of random filters is the network of all 1000 classes, that of `natural_manmade` the
    mean of both bases. `at_chance` counts networks that learned nothing: failures, not accuracies.
    """
    networks, members = _networks(), reference.tables().members
    curves: Rows = []
    for curve, (division, arm, target) in CURVES.items():
        chosen = [
            x
            for x in networks
            if (x.division, x.images_per_class) == (division, None)
            and x.arm in ("base", arm)
            and target in (None, x.target)
        ]
        below = {
            row["n"]: row["estimate"]
            for row in effects_of(chosen, members).to_pylist()
            if (row["effect"], row["at_chance"]) == (BELOW[arm], "included")
        }
        for row in levels_of(chosen, members).to_pylist():
            n = row["n"]
            values = {"value": row["value"], "minus_base": below.get(n, 0.0)}
            chance = sum(x.at_chance for x in chosen if x.n == n)
            counts = {"n_networks": row["n_networks"], "at_chance": chance}
            curves.append({"curve": curve, "n": n} | values | counts)
    reduced = [
        {"images_per_class": x.images_per_class, "value": x.value, "at_chance": x.at_chance}
        for x in networks
        if x.images_per_class is not None
    ]
    return {"curves": curves, "reduced": reduced}


def _networks() -> list[Network]:
    members, trials, _ = reference.tables()
    return measurements(members, trials, METRIC)
