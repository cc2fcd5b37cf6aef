"""Parts of what copied layers lose and gain, one row per number of layers. Pure: no disk.

The loss of frozen transfer is co-adaptation plus specificity, where all of these networks are
complete. Each part is an effect of its own, with its own interval.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from orchestrator.stats.effects import GROUP, LAYERS, group_of, table_schema
from orchestrator.stats.measurements import Group
from orchestrator.store.schemas import INT, REAL, Column

PARTS = {  # column: the effect, its sign, its meaning
    "loss": ("transfer", -1, "base less AnB: what frozen layers of the source lose"),
    "co_adaptation": ("co_adaptation", 1, "base less BnB: the part due to cutting the network"),
    "specificity": ("specificity", 1, "BnB less AnB: the part due to the source's classes"),
    "recovery": ("recovery", 1, "AnB+ less AnB: what fine-tuning wins back"),
    "gain": ("gain", 1, "AnB+ less base: what fine-tuned transfer gains"),
    "gain_over_longer": ("gain_over_longer", 1, "AnB+ less base_long: gain beyond longer training"),
    "transfer_gain": ("transfer_gain", 1, "AnB+ less BnB+: gain due to the source"),
}


def _columns() -> list[Column]:
    columns: list[Column] = []
    for name, (_, _, text) in PARTS.items():
        columns.append((name, REAL, f"{text}, as a fraction; null without these networks"))
        columns += [
            (f"{name}_low", REAL, f"lower pointwise 95 % bound of {name}"),
            (f"{name}_high", REAL, f"upper pointwise 95 % bound of {name}"),
        ]
    return columns


DECOMPOSITION = table_schema(
    *GROUP,
    LAYERS,
    *_columns(),
    ("n_splits", INT, "most splits that enter one of the parts"),
)


def decomposition(effects: pa.Table) -> pa.Table:
    """Return the parts by group and n from `effects`; networks at chance are included."""
    rows: dict[tuple[Group, int], dict[str, Any]] = {}
    by_effect = {effect: (name, sign) for name, (effect, sign, _) in PARTS.items()}
    for row in effects.to_pylist():
        if row["at_chance"] != "included" or row["effect"] not in by_effect or not row["n"]:
            continue
        name, sign = by_effect[row["effect"]]
        group = group_of(row)
        empty = dict.fromkeys(DECOMPOSITION.names) | group._asdict() | {"n": row["n"]}
        part = rows.setdefault((group, row["n"]), empty | {"n_splits": 0})
        low, high = (row["low"], row["high"])[::sign]
        part[name] = sign * row["estimate"] + 0.0
        part[f"{name}_low"] = None if low is None else sign * low
        part[f"{name}_high"] = None if high is None else sign * high
        part["n_splits"] = max(part["n_splits"], row["n_splits"])
    ordered = [rows[key] for key in sorted(rows, key=lambda key: (key[0].order, key[1]))]
    return pa.Table.from_pylist(ordered, schema=DECOMPOSITION)
