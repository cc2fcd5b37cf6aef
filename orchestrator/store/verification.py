"""A look at every byte of a store: what is wrong, and how to mend it.

Every file is compared with the checksum that its name, its seal or its row promises. The rows of
parts are compared with the digests of their attempts. Nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from orchestrator.errors import StoreError
from orchestrator.store import parts, recovery, table_files
from orchestrator.store.cleanup import orphans
from orchestrator.store.damage import DamagedError
from orchestrator.store.names import SnapshotFile, WeightsFile, stored
from orchestrator.store.ownership import FOLDERS
from orchestrator.store.row_tables import RowTables
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from orchestrator.store.view import View
from trainers.checkpoint import CheckpointError, verify

AGAIN = "`layerwise run` trains again what it held"
RECORD = "`layerwise run` with the sweep's file writes it again"
PART = "`layerwise run` recovers the rows that are proven to be right, and repeats the others"
WEIGHTS = "`layerwise run` trains the network again if another one needs these weights"
REMOVAL = "delete it: the rows that it removed are there again, for `layerwise clean`"
CLEAN = "`layerwise clean` removes it"
FOREIGN = "layerwise did not write it and leaves it alone; move it elsewhere"


@dataclass(frozen=True)
class Problem:
    """A file that is not as it should be."""

    path: str
    flaw: str
    remedy: str
    is_needless: bool = False
    """True for a file that nothing is wrong with, but that nobody needs."""


@dataclass
class Verified:
    """The extent of a verification."""

    trials: int = 0
    files: int = 0


class Verification:
    """The verification of one store, which runs may write to meanwhile."""

    def __init__(self, store: Store, advance: Callable[[int], object] = lambda _: None):
        """`advance` receives the number of files that are done."""
        self.store, self.advance, self.done = store, advance, Verified()
        self.store.damage.is_quiet = True

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong. Raises `StoreError`, also for a newer store."""
        self.done.trials = len(self.store.outcomes())
        for tables in self.store.row_tables:
            view = tables.look()
            yield from self._rows(tables, view)
            for part in view.parts:
                yield from self._part(tables, part)
        self._sweeps()
        yield from self._weights()
        yield from self._damaged()
        yield from self._others()

    def _count(self, number: int = 1) -> None:
        self.done.files += number
        self.advance(number)

    def _rows(self, tables: RowTables, view: View) -> Iterator[Problem]:
        """Look at row files, and at the files of old versions."""
        tables.records(view.rows)
        tables.old_rows(view.old)
        self._count(len(view.rows) + len(view.old))
        ids = [row.id for row in view.old] if tables.kind.points else []
        if ids:
            for id, path in self.store.check(ids, curves=True).lacking.items():
                flaw = f"the curve or the class counts of trial {id} are gone"
                yield Problem(path, flaw, AGAIN)

    def _part(self, tables: RowTables, part: parts.Part) -> Iterator[Problem]:
        """Compare the files of a part with their names, and each row with its digest."""
        files, is_sound, is_known = self.store.files, True, True
        for table, file in part.files.items():
            path = parts.path_of(files, table, file)
            self._count()
            try:
                opened = parts.opened(files, table, file)
                table_files.conformed(table, opened, SCHEMAS[table].names[:1])
                is_known &= not parts.has_unknown_columns(table, opened)
            except DamagedError as error:
                is_sound = False
                self.store.damage.reasons.setdefault(path, str(error))
            except FileNotFoundError:
                if part.file in {other.file for other in tables.look().parts}:
                    is_sound = False
                    yield Problem(files.shown(path), "it is gone", PART)
        if is_sound and is_known:
            right = sum(1 for _ in recovery.proven(files, part.kind, part.files))
            if right < len(part):
                noun, path = part.kind.noun, tables.part_path(part.kind.main, part)
                flaw = f"{len(part) - right} of its {len(part)} {noun}s are not what they were"
                yield Problem(files.shown(path), flaw, PART)

    def _sweeps(self) -> None:
        """Look at the records of sweeps."""
        self._count(len(self.store.names("sweeps")))
        self.store.table("sweeps")

    def _weights(self) -> Iterator[Problem]:
        """Compare checkpoints and snapshots with the hash in their names."""
        for folder, kind in (("checkpoints", WeightsFile), ("progress", SnapshotFile)):
            for id in self.store.names(folder):
                for name in self.store.names(folder, id):
                    file = kind.parse(name)
                    if file is None:
                        continue
                    path = self.store.path(folder, id, name)
                    self._count()
                    try:
                        verify(self.store.get(path), file.sha256)
                    except CheckpointError:
                        flaw = "its content is not what its name says"
                        remedy = f"remove it; {WEIGHTS}" if kind is WeightsFile else CLEAN
                        yield Problem(self.store.files.shown(path), flaw, remedy)
                    except FileNotFoundError:  # deleted since the listing
                        continue

    def _damaged(self) -> Iterator[Problem]:
        """Yield what the readers have left out."""
        for path, flaw in self.store.damage.reasons.items():
            name = self.store.relative(path)
            remedy = RECORD if name.startswith("sweeps/") else AGAIN
            remedy = PART if "/part-" in name else remedy
            remedy = REMOVAL if name.startswith("removed/") else remedy
            yield Problem(self.store.files.shown(path), flaw, remedy)

    def _others(self) -> Iterator[Problem]:
        """Yield files that nobody needs, and files of others."""
        try:
            survey = Survey.of(self.store)
        except StoreError as error:
            yield Problem(self.store.root, str(error), PART)
            return
        for item in orphans(survey):
            yield Problem(self.store.files.shown(item.path), item.reason, CLEAN, is_needless=True)
        for folder in FOLDERS:
            for entry in self.store.files.walk(self.store.path(folder)):
                name = self.store.relative(entry.path)
                if not stored(name) and folder != "reports":
                    shown = self.store.files.shown(entry.path)
                    yield Problem(shown, "its name is none of a store's files", FOREIGN)
