"""Files of tables that are damaged or foreign: each is named once and set aside.

A store is copied, synchronised and edited by hand. A file of zeros, half a file, or one that
another program wrote stops no reader: it is left out, and the next run trains again what it held.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pyarrow.dataset as ds

from orchestrator.errors import StoreError
from orchestrator.store.files import Files
from orchestrator.store.names import RowFile
from orchestrator.store.schemas import SCHEMA_VERSION, SCHEMAS

FOLDER = "damaged"  # below the root of a store; readers do not look there
NAMED = 10  # most files to name; the others are counted
FOREIGN = "it was not written by layerwise"
UNREADABLE = (pa.ArrowException, OSError, ValueError, TypeError)


log = logging.getLogger("layerwise")


class DamagedError(Exception):
    """Files cannot be read as a table: at least one of them is damaged."""


class Damage:
    """The damaged files that one process has met in a store, with the reasons."""

    def __init__(self, files: Files):
        self.files = files
        self.foreign_named = False
        self.reasons: dict[str, str] = {}

    def without(self, paths: Iterable[str]) -> list[str]:
        """Return the paths of files that are not known as damaged."""
        return [path for path in paths if path not in self.reasons]

    def find(self, table: str, paths: Sequence[str]) -> bool:
        """Read these files one by one, and name the damaged ones. Return whether there are any.

        Raises `FileNotFoundError`, and `StoreError` for a newer version.
        """
        with ThreadPoolExecutor(max_workers=8) as pool:
            flaws = list(pool.map(lambda path: self._flaw(table, path), paths))
        new = {path: flaw for path, flaw in zip(paths, flaws, strict=True) if flaw}
        self.reasons |= new
        for path, flaw in list(new.items())[:NAMED]:
            log.warning("%s is damaged and left out: %s", self.files.shown(path), flaw)
        if len(new) > NAMED:
            log.warning("%d more files of %s are damaged and left out", len(new) - NAMED, table)
        return bool(new)

    def _flaw(self, table: str, path: str) -> str:
        """Return the flaw of a file; empty for a sound one."""
        data = pa.py_buffer(self.files.get(path))
        try:
            fragment = ds.ParquetFileFormat().make_fragment(data)
            version = schema_version(fragment.physical_schema)
            if version is None:
                return FOREIGN
            refuse_newer(version, self.files.root)
            arrow = fragment.to_table(schema=SCHEMAS[table])
        except UNREADABLE:
            return "it is no whole Parquet file of this table"
        return "" if belongs(table, [path], arrow) else "it holds another row than its name says"

    def name_foreign(self, folder: str, names: list[str]) -> None:
        """Name files, or copies of files, that are no rows, once. They are left out."""
        if names and not self.foreign_named:
            self.foreign_named = True
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            log.warning(
                "%s contains files that are no rows of layerwise; they are left out: %s%s",
                self.files.shown(folder),
                ", ".join(sorted(names)[:NAMED]),
                more,
            )

    def set_aside(self) -> None:
        """Move the known damaged files to a folder that no reader looks at. Raises `StoreError`."""
        for path in list(self.reasons):
            name = path.removeprefix(f"{self.files.base}/")
            with contextlib.suppress(FileNotFoundError):  # another run was faster
                self.files.put(f"{self.files.base}/{FOLDER}/{name}", self.files.get(path))
            self.files.delete(path)
        if number := len(self.reasons):
            folder = self.files.shown(f"{self.files.base}/{FOLDER}")
            who, it = ("1 file is", "it") if number == 1 else (f"{number} files are", "they")
            log.warning("%s set aside in %s; what %s held is trained again", who, folder, it)
        self.reasons.clear()


def schema_version(schema: pa.Schema) -> int | None:
    """Return the version that wrote a file; None if that was not layerwise."""
    text: bytes = _metadata(schema).get(b"layerwise_schema", b"")
    return int(text) if text.isdigit() else None


def _metadata(schema: pa.Schema) -> Mapping[bytes, bytes]:
    return schema.metadata or {}


def refuse_newer(version: int, root: str) -> None:
    """Raise `StoreError` for a file of a newer version."""
    if version > int(SCHEMA_VERSION):
        raise StoreError(
            f"store {root} was written by a newer layerwise (schema "
            f"{version}, this one knows {SCHEMA_VERSION}); upgrade layerwise"
        )


def belongs(table: str, paths: Sequence[str], arrow: pa.Table) -> bool:
    """Return whether each file of `trials` holds the one row that its path names.

    `arrow` has the rows in the order of the files. Files of `measurements` and `extractions` hold
    all rows of the one that their path names. Other tables are not looked at.
    """
    if table in ("measurements", "extractions"):
        named = {path.rpartition("-")[2].removesuffix(".parquet") for path in paths}
        return "id" not in arrow.column_names or set(arrow["id"].to_pylist()) == named
    if table != "trials":
        return True
    if arrow.num_rows != len(paths):
        return False
    if not {"id", "outcome"} <= set(arrow.column_names):
        return True
    rows = zip(arrow["outcome"].to_pylist(), arrow["id"].to_pylist(), paths, strict=True)
    return all(path.endswith(f"/{outcome}/{RowFile(id).name}") for outcome, id, path in rows)
