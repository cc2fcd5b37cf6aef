"""One look at everything that a store holds, for those who remove files.

Files are listed first, then the runs that use the store, and the rows last: what a run completes
meanwhile is then named by a row, or its run is known.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from orchestrator.states import State
from orchestrator.store import kinds, under_way
from orchestrator.store.files import Entry
from orchestrator.store.leases import Lease, expired, leases
from orchestrator.store.names import OldRowFile, RowFile, is_half, stored
from orchestrator.store.ownership import FOLDERS
from orchestrator.store.parts import Part
from orchestrator.store.removals import AttemptKey
from orchestrator.store.store import Store
from orchestrator.store.view import NOTICE

COLUMNS = [
    *("id", "attempt", "checkpoint", "outcome", "parent", "upper", "treatment", "frozen", "n"),
    *("first_sweep", "study", "training"),
]
DERIVED = ("measurements", "extractions")
OF_DERIVED = ["id", "trial", "checkpoint"]
Row = dict[str, Any]
DAY = 86400.0  # seconds


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
    """Paths of files about runs and workers that were killed."""
    rows: list[Row]
    """The row that counts of each trial."""
    derived: Mapping[str, Sequence[Row]]
    """`id`, `trial` and `checkpoint` of each measurement and extraction, by the table."""
    attempts: Mapping[str, Mapping[str, Collection[AttemptKey]]]
    """All attempts at each id of each main table, in row files and parts."""
    parts: Sequence[Part]

    @classmethod
    def of(cls, store: Store) -> Survey:
        """Look at a store. Raises `StoreError`."""
        folders = [store.path(folder) for folder in FOLDERS]
        entries = [entry for folder in folders for entry in store.files.walk(folder)]
        named = {store.relative(entry.path): entry for entry in entries}
        files = {name: entry for name, entry in sorted(named.items()) if stored(name)}
        used, dead = leases(store), [*expired(store), *under_way.expired(store)]
        rows = store.table("trials", COLUMNS).to_pylist()
        tables = {table: store.table(table, OF_DERIVED) for table in DERIVED}
        derived = {t: x.group_by(OF_DERIVED).aggregate([]).to_pylist() for t, x in tables.items()}
        views = {of.kind.main: of.look() for of in store.row_tables}
        attempts = {table: view.attempts() for table, view in views.items()}
        parts = [part for view in views.values() for part in view.parts]
        links = store.files.links(folders)
        return cls(store, files, links, used, dead, rows, derived, attempts, parts)

    def below(self, folder: str) -> Iterator[tuple[str, ...]]:
        """Yield the parts of each path in a folder, without the folder: (outcome, name).

        Half-written files are left out.
        """
        for name in self.files:
            first, _, rest = name.partition("/")
            if first == folder and not is_half(name):
                yield tuple(rest.split("/"))

    def is_settled(self, *parts: str) -> bool:
        """Return whether a file is so old that no compaction is about to name it."""
        return self.files["/".join(parts)].written < time.time() - DAY

    def path(self, *parts: str) -> str:
        return self.files["/".join(parts)].path

    @cached_property
    def complete(self) -> set[str]:
        """Ids of the complete trials."""
        return {row["id"] for row in self.rows if row["outcome"] == State.COMPLETE}

    @cached_property
    def unclear(self) -> set[str]:
        """Ids of the trials with a row that cannot be read, as far as names say it."""
        paths = [self.store.relative(path) for path in self.store.damage.reasons]
        names = [path.rpartition("/")[2] for path in paths if path.startswith(("trials/", "rows/"))]
        names += [parts[-1] for parts in self.below("trials")]
        names += [name for (name,) in self.below("rows")]
        parsed = [RowFile.parse(name) or OldRowFile.parse(name) for name in names]
        ids = {id for row in parsed if row and (id := _trial_of(row))}
        return ids - {row["id"] for row in self.rows} - {NOTICE.id}

    @property
    def is_unclear(self) -> bool:
        """True if a file with the rows of many trials cannot be read."""
        paths = [self.store.relative(path) for path in self.store.damage.reasons]
        parts = tuple(f"{table}/part-" for table in kinds.MAIN)
        return any(path.startswith((*parts, "removed/")) for path in paths)


def _trial_of(file: RowFile | OldRowFile) -> str | None:
    if isinstance(file, OldRowFile):
        return file.trial
    return file.id if file.table == "trials" else None
