"""Origin of the numbers of a report: machines, dates and versions; and the trials that failed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from orchestrator.states import State

Row = Mapping[str, Any]
Rows = Sequence[Row]


def provenance_of(rows: Rows) -> list[tuple[str, str]]:
    """Return the origin of the numbers, as pairs of a name and a string."""
    done = [row for row in rows if row["outcome"] == State.COMPLETE]
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
    """Return the values of columns, with counts if there are several: `host1 (280), host2 (16)`."""
    counts = Counter(" ".join(str(row[key]) for key in columns if row[key]) for row in rows)
    known = [(value, count) for value, count in counts.most_common() if value]
    return ", ".join(f"{value} ({count})" if len(known) > 1 else value for value, count in known)


def failures_of(members: pa.Table, rows: Rows) -> list[dict[str, Any]]:
    """Return the trials that ended and are not complete, under their names in this sweep."""
    names = dict(zip(members["id"].to_pylist(), members["name"].to_pylist(), strict=True))
    failed = [row for row in rows if row["outcome"] != State.COMPLETE]
    failed.sort(key=lambda row: (row["outcome"], names[row["id"]]))
    columns = ("id", "outcome", "error_type", "error_message", "error_step")
    return [{"name": names[row["id"]]} | {key: row[key] for key in columns} for row in failed]
