"""Recovery of the rows of a damaged part.

A part holds thousands of trials, and one flipped bit damages it. The digest of each attempt proves
row, curve and counts together. So whatever can still be decoded is made a row file again, if its
digest is right; only the other trials are trained again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import parts, row_files, table_files
from orchestrator.store.damage import DamagedError
from orchestrator.store.files import Files
from orchestrator.store.names import CompactFile
from orchestrator.store.parts import DIGEST
from orchestrator.store.row_files import TABLES, Attempt
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.trial_tables import TrialTables

log = logging.getLogger("layerwise")


def recover(trials: TrialTables) -> bool:
    """Make row files of what can be proven in the known damaged parts, and set these aside.

    Return whether there was such a part. Raises `StoreError`.
    """
    damaged = list(_damaged(trials))
    for file, others in damaged:
        saved = 0
        for attempt in proven(trials.files, file, others):
            trials.files.put(f"{trials.files.base}/rows/{attempt.file.name}", attempt.data)
            saved += 1
        named = {"trials": file, **others}
        for table, part in named.items():
            path = parts.path_of(trials.files, table, part)
            trials.damage.reasons.setdefault(path, "another file of this part is damaged")
        shown = trials.files.shown(parts.path_of(trials.files, "trials", file))
        log.warning("%d trials are recovered from %s", saved, shown)
    if damaged:
        trials.damage.set_aside()
    return bool(damaged)


def _damaged(trials: TrialTables) -> Iterator[tuple[CompactFile, Mapping[str, CompactFile]]]:
    """Yield each part with a file that is known as damaged, with its files of points."""
    reasons = trials.damage.reasons
    for name in trials.files.names(f"{trials.files.base}/trials"):
        if (file := CompactFile.parse(name)) is None:
            continue
        others = _others(trials.files, file)
        named = {"trials": file, **others}
        if any(parts.path_of(trials.files, t, part) in reasons for t, part in named.items()):
            yield file, others


def _others(files: Files, file: CompactFile) -> dict[str, CompactFile]:
    """Return the files of points that a part names, as far as that can be read."""
    try:
        opened = pq.ParquetFile(pa.BufferReader(files.get(parts.path_of(files, "trials", file))))
        meta = opened.metadata.metadata or {}
        names = {t: meta.get(f"layerwise_{t}".encode(), b"").decode() for t in TABLES[1:]}
    except table_files.UNREADABLE:
        return {}
    return {table: part for table, name in names.items() if (part := CompactFile.parse(name))}


def proven(files: Files, file: CompactFile, others: Mapping[str, CompactFile]) -> Iterator[Attempt]:
    """Yield the attempts of a part whose digest is right."""
    tables = {t: _decodable(files, t, others[t]) for t in TABLES[1:] if t in others}
    trials = _decodable(files, "trials", file, [DIGEST])
    points = {table: _slices(arrow) for table, arrow in tables.items()}
    for number, digest in enumerate(trials[DIGEST.name].to_pylist()):
        row = trials.slice(number, 1).drop_columns([DIGEST.name])
        of_trial = {"trials": row} | {
            t: points.get(t, {}).get(row["id"][0].as_py(), SCHEMAS[t].empty_table())
            for t in TABLES[1:]
        }
        try:
            attempt = row_files.encode_tables(of_trial)
        except table_files.UNREADABLE:
            continue
        if attempt.file.digest == digest:
            yield attempt


def _decodable(
    files: Files, table: str, file: CompactFile, more: Sequence[pa.Field] = ()
) -> pa.Table:
    """Return the groups of rows of a file that can be decoded, right or wrong."""
    schema = SCHEMAS[table]
    for field in more:
        schema = schema.append(field)
    groups = [schema.empty_table()]
    try:
        opened = pq.ParquetFile(pa.BufferReader(files.get(parts.path_of(files, table, file))))
        number = opened.num_row_groups
    except (FileNotFoundError, *table_files.UNREADABLE):
        return groups[0]
    for group in range(number):
        try:
            groups.append(opened.read_row_group(group).select(schema.names).cast(schema))
        except (DamagedError, *table_files.UNREADABLE):
            continue
    return pa.concat_tables(groups)


def _slices(arrow: pa.Table) -> dict[str, pa.Table]:
    """Return the rows of each trial by its id. Rows of a trial lie together."""
    ids = arrow["id"].to_pylist()
    starts = [n for n, id in enumerate(ids) if n == 0 or id != ids[n - 1]]
    ends = [*starts[1:], len(ids)][: len(starts)]
    return {ids[a]: arrow.slice(a, b - a) for a, b in zip(starts, ends, strict=True)}
