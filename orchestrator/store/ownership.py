"""Recognition of layerwise's own stores. Nothing is removed where that is not certain.

A run that makes a store marks it with `layerwise-store.json`. A store of an older version has no
such file, and is known by a file of its tables.
"""

from __future__ import annotations

import contextlib
import json

import pyarrow.parquet as pq

from orchestrator.errors import StoreError
from orchestrator.store.damage import UNREADABLE, schema_version
from orchestrator.store.files import Files
from orchestrator.store.names import MARKER, stored

TABLES = ("trials", "sweeps", "studies", "curves", "classes", "measurements", "extractions")
FOLDERS = (*TABLES, "features", "checkpoints", "progress", "leases", "damaged", "reports")
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


def claim(files: Files) -> None:
    """Make the folder, and mark it as a store. Raises `StoreError` where foreign files are."""
    files.make()
    marker = f"{files.base}/{MARKER}"
    if files.present([marker]):
        return
    if not _has_rows(files) and (foreign := _foreign(files)):
        raise StoreError(
            f"{files.root} contains {foreign}, which layerwise did not write; "
            "name another folder with --store"
        )
    files.put(marker, json.dumps({"layerwise_store": 1}).encode() + b"\n")


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
    for table in TABLES:
        tried = 0
        for entry in files.walk(f"{files.base}/{table}"):
            name = entry.path.removeprefix(f"{files.base}/")
            if tried == TRIED:
                break
            if stored(name) and name.endswith(".parquet"):
                tried += 1
                with contextlib.suppress(*UNREADABLE):
                    with files.fs.open_input_file(entry.path) as file:
                        version = schema_version(pq.read_schema(file))
                    if version is not None:
                        return True
    return False
