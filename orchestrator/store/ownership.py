"""Recognition of layerwise's own stores. Nothing is removed where that is not certain.

A run that makes a store marks it with `layerwise-store.json`. A store of an older version has no
such file, and is known by a file of its tables. The mark says which version of the store a writer
must know. Older readers do not all look at it: version 1 meets a file that it reads as a row, and
version 2 a part without rows, and they say that the store is newer.
"""

from __future__ import annotations

import contextlib
import functools
import json

import pyarrow as pa

from orchestrator.errors import StoreError
from orchestrator.store import kinds, parts, table_files
from orchestrator.store.damage import DamagedError, refuse_newer
from orchestrator.store.files import Files
from orchestrator.store.names import MARKER, RowFile, stored
from orchestrator.store.parts import DIGEST
from orchestrator.store.row_files import digest
from orchestrator.store.schemas import SCHEMA_VERSION, SCHEMAS, TRIALS
from orchestrator.store.view import NOTICE, old_path

TABLES = ("trials", "sweeps", "studies", "curves", "classes", "measurements", "extractions")
FOLDERS = (
    *(*TABLES, "rows", "removed", "features", "checkpoints"),
    *("progress", "leases", "running", "damaged", "reports"),
)
TRIED = 3  # files of each table that are opened to recognise an older store


def is_own(files: Files) -> bool:
    """Return whether layerwise made what is there. Raises `StoreError`."""
    return bool(files.present([f"{files.base}/{MARKER}"])) or _has_rows(files)


def require_own(files: Files) -> None:
    """Raise `StoreError` unless layerwise made what is there."""
    if not is_own(files):
        raise StoreError(
            f"{files.root} is no store of layerwise: it has neither {MARKER} nor a readable table; "
            "name the store with --store"
        )


def refuse_newer_store(files: Files) -> None:
    """Raise `StoreError` if the mark is of a newer version."""
    refuse_newer(_version(files, f"{files.base}/{MARKER}"), files.root)


def claim(files: Files) -> None:
    """Make the folder, and mark it as a store of this version.

    Raises `StoreError` where foreign files are, and for a newer store.
    """
    files.make()
    marker = f"{files.base}/{MARKER}"
    version = _version(files, marker)
    if version == int(SCHEMA_VERSION):
        return
    if version:
        refuse_newer(version, files.root)
        _write_empty_part(files)
        _mark(files, marker)
        return
    if not _has_rows(files) and (foreign := _foreign(files)):
        raise StoreError(
            f"{files.root} contains {foreign}, which layerwise did not write; "
            "name another folder with --store"
        )
    _mark(files, marker)


def _version(files: Files, marker: str) -> int:
    """Return the version in the mark; 0 without one, 1 for one that cannot be read."""
    try:
        return int(json.loads(files.get(marker))["layerwise_store"])
    except FileNotFoundError:
        return 0
    except (ValueError, TypeError, KeyError):
        return 1


def _mark(files: Files, marker: str) -> None:
    files.put(old_path(files, NOTICE), _notice())
    files.put(marker, json.dumps({"layerwise_store": int(SCHEMA_VERSION)}).encode() + b"\n")


def _write_empty_part(files: Files) -> None:
    """Write a part that version 2 refuses as a newer one. Otherwise it would miss new rows."""
    tables = {table: SCHEMAS[table].empty_table() for table in kinds.TRIALS.tables}
    tables["trials"] = tables["trials"].append_column(DIGEST, pa.array([], pa.string()))
    parts.write(files, kinds.TRIALS, tables)


@functools.cache
def _notice() -> bytes:
    """Return the file that versions before 2 read as a row of a newer version."""
    return table_files.encode(TRIALS.empty_table())


def _foreign(files: Files) -> str:
    """Return a file that is not layerwise's, in a folder where layerwise's are; "" for none."""
    for folder in FOLDERS:
        for entry in files.walk(f"{files.base}/{folder}"):
            name = entry.path.removeprefix(f"{files.base}/")
            if not stored(name) and not name.rpartition("/")[2].startswith("."):
                return name
    return ""


def _has_rows(files: Files) -> bool:
    """Return whether a file of a table is there that layerwise wrote."""
    for folder in ("rows", *TABLES):
        tried = 0
        for entry in files.walk(f"{files.base}/{folder}"):
            name = entry.path.removeprefix(f"{files.base}/")
            if tried == TRIED:
                break
            if stored(name) and (file := RowFile.parse(name.rpartition("/")[2])):
                return digest(files.get(entry.path)) == file.digest
            if stored(name) and name.endswith(".parquet"):
                tried += 1
                with contextlib.suppress(DamagedError, FileNotFoundError):
                    table_files.metadata(files.get(entry.path), files.root)
                    return True
    return False
