"""One look at everything that a store holds, for those who remove files.

Files are listed first, then the runs that use the store, and the rows last: what a run completes
meanwhile is then named by a row, or its run is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store.files import Entry
from orchestrator.store.leases import Lease, expired, leases
from orchestrator.store.names import RowFile, is_half, stored
from orchestrator.store.ownership import FOLDERS
from orchestrator.store.store import Store

COLUMNS = [
    *("id", "attempt", "checkpoint", "outcome", "parent", "upper", "treatment", "frozen", "n"),
    *("first_sweep", "study", "training"),
]
Row = dict[str, Any]


@dataclass
class Rows:
    """The best row of each trial. A second look reads only the files that are new since."""

    store: Store
    known: dict[Entry, Row] = field(default_factory=dict)

    def read(self) -> list[Row]:
        """Return the rows, without those that cannot be read. Raises `StoreError`."""
        for last in (False, False, True):
            best = self._best()
            new = [entry for entry in best if entry not in self.known]
            new = [entry for entry in new if entry.path not in self.store.damage.reasons]
            try:
                rows = self.store.read("trials", [entry.path for entry in new], COLUMNS).to_pylist()
            except FileNotFoundError as error:  # a better row replaced one since the listing
                if last:
                    raise StoreError(f"the rows in {self.store.root} keep changing") from error
                continue
            by_id = {row["id"]: row for row in rows}
            self.known |= {entry: by_id[id] for entry in new if (id := _id(entry)) and id in by_id}
            return [self.known[entry] for entry in best if entry in self.known]
        raise AssertionError("the last attempt returns or raises")

    def _best(self) -> list[Entry]:
        """Return the file of the best row of each trial."""
        best: dict[str, Entry] = {}
        for outcome in reversed(OUTCOMES):
            for entry in self.store.files.entries(self.store.path("trials", outcome)):
                if id := _id(entry):
                    best[id] = entry
        return list(best.values())


def _id(entry: Entry) -> str | None:
    file = RowFile.parse(entry.path.rpartition("/")[2])
    return file.trial if file else None


@dataclass(frozen=True)
class Survey:
    """The files of a store that layerwise made, the runs that use it, and its rows."""

    store: Store
    files: dict[str, Entry]
    """By the path below the root."""
    links: list[str]
    """Links in the folders of the store. What lies behind them is not listed."""
    used: list[Lease]
    expired: list[str]
    """Paths of leases of runs that were killed."""
    rows: list[Row]

    @classmethod
    def of(cls, store: Store, rows: Rows | None = None) -> Survey:
        """Look at a store; `rows` knows the rows of an earlier look. Raises `StoreError`."""
        folders = [store.path(folder) for folder in FOLDERS]
        entries = [entry for folder in folders for entry in store.files.walk(folder)]
        named = {store.relative(entry.path): entry for entry in entries}
        files = {name: entry for name, entry in sorted(named.items()) if stored(name)}
        used, dead = leases(store), expired(store)
        read = (rows or Rows(store)).read()
        return cls(store, files, store.files.links(folders), used, dead, read)

    def below(self, folder: str) -> Iterator[tuple[str, ...]]:
        """Yield the parts of each path in a folder, without the folder: (outcome, name).

        Half-written files are left out.
        """
        for name in self.files:
            first, _, rest = name.partition("/")
            if first == folder and not is_half(name):
                yield tuple(rest.split("/"))

    def path(self, *parts: str) -> str:
        return self.files["/".join(parts)].path

    @cached_property
    def complete(self) -> set[str]:
        """Ids of the complete trials."""
        return {row["id"] for row in self.rows if row["outcome"] == State.COMPLETE}

    @cached_property
    def unclear(self) -> set[str]:
        """Ids of the trials with a row that cannot be read."""
        paths = [self.store.relative(path) for path in self.store.damage.reasons]
        names = [path.rpartition("/")[2] for path in paths if path.startswith("trials/")]
        names += [name for _, name in self.below("trials")]
        ids = {row.trial for name in names if (row := RowFile.parse(name))}
        return ids - {row["id"] for row in self.rows}
