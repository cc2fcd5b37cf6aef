"""The results in a store: they must be equal however often a run was interrupted."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store

KEYS = {"trials": ["id"], "curves": ["id", "step"]}


def results(root: Path | str) -> dict[str, pa.Table]:
    """The result columns of trials and curves, in an order of their own."""
    tables = {}
    for name, keys in KEYS.items():
        table = Store(root).table(name).select(result_columns(name))
        tables[name] = table.sort_by([(key, "ascending") for key in keys])
    return tables
