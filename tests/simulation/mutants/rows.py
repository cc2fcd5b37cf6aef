"""Mutants of rows, and of the parts into which they are compacted."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from orchestrator.store import compaction, names, parts, row_files, view
from tests.simulation.mutants.declared import Mutants

MUTANTS = Mutants()


def _names_without(what: str) -> Any:
    """Return the name of a row file without its attempt or digest."""

    def name(self: Any) -> str:
        attempt = "0" * 8 if what == "attempt" else self.attempt
        digest = "0" * 16 if what == "digest" else self.digest
        return f"{self.id}-{self.outcome}-{attempt}-{digest}.json"

    return property(name)


MUTANTS.add(
    "no_digest_in_the_name",
    "A row's name has no checksum.",
    (names.RowFile, "name", _names_without("digest")),
)


@MUTANTS.mutant("The bytes of a row are not compared with its name.", (row_files, "decode"))
def no_hash_check_of_rows(file: Any, data: bytes, root: str, tables: Any = row_files.TABLES) -> Any:  # noqa: ARG001
    record: dict[str, Any] = {}
    for line in data.splitlines()[1:]:
        with contextlib.suppress(ValueError):
            record |= json.loads(line)
    record = {table: some for table, some in record.items() if table in tables}
    return record | ({"trials": {"id": file.id}} if "trials" not in record else {})


@MUTANTS.mutant(
    "The files of rows are deleted before their part is written.",
    (compaction._Compaction, "_write"),
)
def deleted_before_the_part(self: Any, copies: Any) -> None:
    self._delete([path for copy in copies for path in copy.sources])
    WRITE_COPIES(self, copies)


WRITE_COPIES = compaction._Compaction._write


@MUTANTS.mutant("The file that names a part is written before the others.", (parts, "write"))
def part_is_named_too_early(files: Any, kind: Any, tables: Any) -> None:
    order: list[tuple[str, bytes]] = []
    real = files.put

    def later(path: str, data: bytes, beside: Any = ()) -> None:  # noqa: ARG001
        order.append((path, data))

    reading, files.get = files.get, lambda path: dict(order)[path]
    files.put = later
    try:
        WRITE_PART(files, kind, tables)
    finally:
        del files.put, files.get
    assert reading
    assert real
    for path, data in reversed(order):
        files.put(path, data)


WRITE_PART = parts.write


@MUTANTS.mutant("A part is not read back.", (parts, "digest"))
def digest_of_nothing(data: bytes | memoryview) -> str:  # noqa: ARG001
    return "0" * 16


@MUTANTS.mutant(
    "Compaction copies all rows of a part, also those that a better row replaced.",
    (view.View, "mask"),
)
def nothing_is_hidden(self: Any, part: Any) -> None:  # noqa: ARG001
    return None
