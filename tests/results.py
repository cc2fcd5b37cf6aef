"""What a store holds that must be the same however it came about."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from orchestrator.store import Store
from orchestrator.tables import result_columns

KEYS = {"trials": ["id"], "curves": ["id", "step"]}


def results(root: Path | str) -> dict[str, pa.Table]:
    """The result columns of trials and curves, in an order of their own."""
    tables = {}
    for name, keys in KEYS.items():
        table = Store(root).table(name).select(result_columns(name))
        tables[name] = table.sort_by([(key, "ascending") for key in keys])
    return tables
