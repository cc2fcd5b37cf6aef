"""Mutants of reading: which rows count, and what may go or be damaged meanwhile."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import StoreError
from orchestrator.execution import opening
from orchestrator.store import names, row_tables, view
from tests.simulation.mutants.declared import Mutants

MUTANTS = Mutants()


@MUTANTS.mutant("The worst outcome of a trial counts.", (view.Viewer, "_sorted"))
def worst_row_counts(self: Any, places: Any) -> Any:
    return list(reversed(SORTED(self, places)))


SORTED = view.Viewer._sorted


@MUTANTS.mutant("Parts are listed once.", (view.Viewer, "_look"))
def parts_are_listed_once(self: Any, only: Any = None) -> Any:
    base = self.files.base
    names_now = self.files.names(f"{base}/trials")
    rows, foreign = self._row_files(only)
    removed = self._removed()
    old = self._old_rows(names_now, foreign, only)
    listed = self._parts([f for n in names_now if (f := names.CompactFile.parse(n))])
    return self._choose(rows, old, listed, removed, only)


@MUTANTS.mutant("A damaged part is set aside with all its rows.", (opening, "recover"))
def nothing_is_recovered(trials: Any) -> bool:  # noqa: ARG001
    return False


@MUTANTS.mutant(
    "A part whose curves are gone ends every run. Fault of this project until now.",
    (row_tables.RowTables, "_refuse_gone"),
)
def gone_curves_are_an_accident(self: Any, table: str, part: Any) -> None: ...


@MUTANTS.mutant(
    "A file that moves while it is read is an error.", (row_tables.RowTables, "_steadily")
)
def read_once(self: Any, read: Any) -> Any:  # noqa: ARG001
    try:
        return read()
    except FileNotFoundError as error:
        raise StoreError("a file has gone") from error
