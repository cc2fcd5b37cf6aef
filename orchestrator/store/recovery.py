"""Recovery of the rows of a damaged part.

A part holds thousands of attempts, and one flipped bit damages it. The digest of each attempt
proves all its rows together. So whatever can still be decoded is made a row file again, if its
digest is right; only the other trials are trained again, and only the other work is repeated.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import parts, row_files, table_files
from orchestrator.store.damage import DamagedError
from orchestrator.store.files import Files
from orchestrator.store.kinds import Kind
from orchestrator.store.names import CompactFile
from orchestrator.store.parts import DIGEST
from orchestrator.store.row_files import VERSIONS, Attempt
from orchestrator.store.row_tables import RowTables
from orchestrator.store.schemas import SCHEMAS

log = logging.getLogger("layerwise")

Named = Mapping[str, CompactFile]
"""The files of a part by their tables, the main table first."""


def recover(several: Sequence[RowTables]) -> bool:
    """Make row files of what can be proven in damaged parts, and set these parts aside.

    Those of trials must be known as damaged (`Store.check`); other parts are read. Return whether
    there was such a part. Raises `StoreError`.
    """
    damaged = [(tables, named) for tables in several for named in _damaged(tables)]
    for tables, named in damaged:
        files, damage, kind = tables.files, tables.damage, tables.kind
        saved = 0
        for attempt in proven(files, kind, named):
            files.put(f"{files.base}/rows/{attempt.file.name}", attempt.data)
            saved += 1
        for table, part in named.items():
            path = parts.path_of(files, table, part)
            damage.reasons.setdefault(path, "another file of this part is damaged")
        shown = files.shown(parts.path_of(files, kind.main, named[kind.main]))
        log.warning("%d %ss are recovered from %s", saved, kind.noun, shown)
    if damaged:
        damaged[0][0].damage.set_aside()
    return bool(damaged)


def _damaged(tables: RowTables) -> Iterator[Named]:
    """Yield the files of each part with a file that is known as damaged."""
    files, kind, reasons = tables.files, tables.kind, tables.damage.reasons
    names = files.names(f"{files.base}/{kind.main}")
    there = [file for name in names if (file := CompactFile.parse(name))]
    if there and not kind.points:
        tables.verify()
    for file in there:
        named = {kind.main: file, **_others(files, kind, file)}
        if any(parts.path_of(files, t, part) in reasons for t, part in named.items()):
            yield named


def _others(files: Files, kind: Kind, file: CompactFile) -> Named:
    """Return the files of points that a part names, as far as that can be read."""
    if not kind.points:
        return {}
    try:
        data = files.get(parts.path_of(files, kind.main, file))
        meta = pq.ParquetFile(pa.BufferReader(data)).metadata.metadata or {}
        names = {t: meta.get(f"layerwise_{t}".encode(), b"").decode() for t in kind.points}
    except table_files.UNREADABLE:
        return {}
    return {table: part for table, name in names.items() if (part := CompactFile.parse(name))}


def proven(files: Files, kind: Kind, named: Named) -> Iterator[Attempt]:
    """Yield the attempts of a part whose digest is right."""
    tables = {t: _decodable(files, t, named[t]) for t in kind.points if t in named}
    main = _decodable(files, kind.main, named[kind.main], [DIGEST])
    points = {table: _slices(arrow, "id") for table, arrow in tables.items()}
    for digest, rows in _slices(main, DIGEST.name).items():
        of_attempt = {kind.main: rows.drop_columns([DIGEST.name])}
        for table in kind.points:
            id = rows["id"][0].as_py()
            of_attempt[table] = points.get(table, {}).get(id, SCHEMAS[table].empty_table())
        if attempt := _proven(kind, of_attempt, digest):
            yield attempt


def _proven(kind: Kind, tables: Mapping[str, pa.Table], digest: str) -> Attempt | None:
    """Return the row file of an attempt if it has this digest."""
    for version in VERSIONS:
        try:
            attempt = row_files.encode_tables(kind, tables, version)
        except table_files.UNREADABLE:
            continue
        if attempt.file.digest == digest:
            return attempt
    return None


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


def _slices(arrow: pa.Table, column: str) -> dict[str, pa.Table]:
    """Return the rows with each value of a column; they lie together."""
    values = arrow[column].to_pylist()
    starts = [n for n, value in enumerate(values) if n == 0 or value != values[n - 1]]
    ends = [*starts[1:], len(values)][: len(starts)]
    return {values[a]: arrow.slice(a, b - a) for a, b in zip(starts, ends, strict=True)}
