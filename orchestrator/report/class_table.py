"""The table of classes in a report: which of them suffer most from copied and frozen layers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.wording import half_width, percent, points
from orchestrator.stats.statistics import Statistics

MOST, LEAST = 10, 3  # classes at the top and at the end of a table

Row = Mapping[str, Any]


def class_table(rows: Sequence[Row], names: Mapping[int, str]) -> dict[str, Any] | None:
    """Return headings and lines by class, those that lose most at the last n first.

    `rows` are of `CLASS_EFFECTS` and of one group. `names` has the names of classes by index. None
    without rows, or with one class.
    """
    cells = {(row["class_index"], row["n"]): row for row in rows}
    layers = sorted({n for _, n in cells})
    order = (
        sorted(
            {index for index, n in cells if n == layers[-1]},
            key=lambda index: cells[index, layers[-1]]["difference"],
        )
        if layers
        else []
    )
    if len(order) < 2:
        return None
    left = max(0, len(order) - MOST - LEAST)
    chosen = order[:MOST] + order[MOST + left :] if left else order
    lines = [
        {
            "name": names.get(index, f"class {index}"),
            "base": percent(cells[index, layers[-1]]["base"]),
            "cells": [_cell(cells.get((index, n))) for n in layers],
        }
        for index in chosen
    ]
    bounded = any(cells[place]["low"] is not None for place in cells)
    counts = {"left": left, "most": MOST, "all": len(order), "bounded": bounded}
    return {"layers": layers, "lines": lines} | counts


def _cell(row: Row | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    return points(row["difference"]), half_width({"low": row["low"], "high": row["high"]})


def class_names(statistics: Statistics) -> dict[int, str]:
    """Return the names of the classes by index; empty for data that must be read for them."""
    from trainers.canonical import freeze_options
    from trainers.datasets import DATASETS, describe

    texts = {text for text in statistics.trials["training"].to_pylist() if text}
    targets = [json.loads(text).get("target", {}) for text in texts]
    refs = {
        json.dumps(target["dataset"], sort_keys=True) for target in targets if "dataset" in target
    }
    if len(refs) != 1:
        return {}
    ref = json.loads(refs.pop())
    kind = DATASETS.get(ref.get("name"))
    if kind is None or kind.info is None:
        return {}
    info = describe(ref["name"], freeze_options(dict(ref.get("options", ()))))
    return dict(enumerate(info.classes))
