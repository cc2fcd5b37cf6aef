"""Files of a store that may be removed: orphans, failed trials, a sweep that nobody needs.

Only what layerwise made is ever listed (`names.stored`), and no link is followed. Nothing is
removed where the rows cannot be read: without them every file looks like an orphan.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from orchestrator.errors import LayerwiseError, StoreError
from orchestrator.states import OUTCOMES, State
from orchestrator.store import kinds, removals
from orchestrator.store.compaction import compact
from orchestrator.store.leases import CLOCKS
from orchestrator.store.names import (
    AttemptFile,
    CompactFile,
    FeaturesFolder,
    OldRowFile,
    RowFile,
    WeightsFile,
    ids,
    is_half,
)
from orchestrator.store.ownership import require_own
from orchestrator.store.store import Store
from orchestrator.store.survey import Survey
from trainers.config import Treatment, unsearched_id

AT_ONCE = 100  # files to remove between two looks at the store


class Row(NamedTuple):
    """The row of a trial, of a study trial, or all rows of a measurement or extraction."""

    table: str
    id: str


@dataclass(frozen=True)
class Waste:
    """A file that may be removed, and the reason."""

    path: str
    reason: str
    is_report: bool = False
    """True for a file of a sweep's report. Its folder is removed with the last of them."""
    row: Row | None = None
    """A row that is removed with its points, wherever it lies; `path` then names no file."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Things that are removed beside orphans."""

    failed: bool = False
    sweep: str | None = None
    unowned: bool = False


class Cleaner:
    """The removal of the waste of one store, which other processes may use meanwhile."""

    def __init__(self, store: Store, choice: Choice):
        """Raises `StoreError` if the store is not layerwise's."""
        require_own(store.files)
        self.store, self.choice = store, choice
        self.removed: set[str] = set()
        self.rows: set[Row] = set()  # that were removed
        self.look()

    def look(self) -> list[Waste]:
        """Return the files that may be removed now. Raises `LayerwiseError`.

        A store without rows is refused: someone moved them, unless this cleanup removed them.
        """
        self.survey = survey = Survey.of(self.store)
        if self.choice.sweep in {lease.sweep for lease in survey.used}:
            raise LayerwiseError(
                f"a run of {self.choice.sweep} uses the store: clean when it has ended"
            )
        if not survey.rows and not self.removed:
            if survey.used:  # a run that has completed nothing yet
                self.waste = []
                return []
            raise StoreError(
                f"no row in {self.store.root} can be read, so nothing is removed; "
                "`layerwise run` trains again what is missing"
            )
        if survey.is_unclear:
            raise StoreError(
                f"not every row in {self.store.root} can be read, so nothing is removed; "
                "`layerwise verify` says how to mend it"
            )
        waste = orphans(survey)
        if self.choice.failed:
            waste += failed(survey)
        if self.choice.sweep:
            waste += of_sweep(survey, self.choice.sweep)
        if self.choice.unowned:
            waste += of_trials(survey, unowned(survey), "trial of no sweep")
        self.waste = spare(survey, {item.path: item for item in waste}.values())
        return self.waste

    def remove(self, waste: Collection[Waste]) -> int:
        """Remove these files, unless they are no longer waste. Return the number removed.

        Rows are removed before the files that they name, so that a reader never sees a row without
        its curve. The records of sweeps are removed last.
        """
        ordered, known = sorted(waste, key=self._turn), {row["id"] for row in self.survey.rows}
        for start in range(0, len(ordered), AT_ONCE):
            now = {item.path for item in self.look()}
            if known - {row.id for row in self.rows} and not self.survey.rows:
                raise StoreError(
                    f"the rows in {self.store.root} disappeared; no more files are removed"
                )
            batch = [item for item in ordered[start : start + AT_ONCE] if item.path in now]
            self._remove_rows({item.row for item in batch if item.row})
            for item in batch:
                if not item.row:
                    self.store.delete(item.path)
                self.removed.add(item.path)
        if self.rows and any(tables.look().parts for tables in self.store.row_tables):
            compact(self.store)
        for folder in sorted({Path(item.path).parent for item in waste if item.is_report})[::-1]:
            with contextlib.suppress(OSError):  # something else is there
                folder.rmdir()
        return len(self.removed)

    def _remove_rows(self, rows: Collection[Row]) -> None:
        """Remove rows: first from what readers see, then their own files."""
        of_table = self.survey.attempts
        attempts = {key for row in rows for key in of_table[row.table].get(row.id, ())}
        if attempts:
            removals.write(self.store.files, attempts)
        for name in self.survey.files:
            if _row_of(name) in rows:
                self.store.delete(self.survey.path(name))
        self.rows |= set(rows)

    def _turn(self, item: Waste) -> int:
        order = ("progress", "trials", "extractions", "", "studies", "sweeps")
        folder = self.store.relative(item.path).partition("/")[0]
        return order.index(folder) if folder in order else order.index("")


def _row_of(name: str) -> Row | None:
    """Return the row that has a file of its own, by its path below the root."""
    folder, _, file = name.rpartition("/")
    if folder == "rows":
        row = RowFile.parse(file)
        return Row(row.table, row.id) if row else None
    if folder.startswith("trials/"):
        old = OldRowFile.parse(file)
        return Row("trials", old.trial) if old else None
    id = kinds.old_id(folder, file)
    return Row(folder, id) if id else None


def orphans(survey: Survey) -> list[Waste]:
    """Return the files that no row names: superseded attempts, old weights, half-written files.

    Files of a trial whose row cannot be read are left out.
    """
    rows, waste = survey.rows, []
    attempts = {AttemptFile(row["id"], row["attempt"]).name for row in rows}
    weights = {
        (row["id"], WeightsFile(row["checkpoint"]).name) for row in rows if row["checkpoint"]
    }
    files = _weights_files(survey)
    parts = {name for part in survey.parts for name in part.names}
    for table in ("curves", "classes"):
        for (name,) in survey.below(table):
            if CompactFile.parse(name):
                if name not in parts and survey.is_settled(table, name):
                    waste.append(Waste(survey.path(table, name), "part that no row names"))
            elif name not in attempts:
                waste.append(Waste(survey.path(table, name), "attempt that no row names"))
    for trial, name in survey.below("checkpoints"):
        if (trial, name) not in weights and trial not in files:
            path = survey.path("checkpoints", trial, name)
            waste.append(Waste(path, "weights that no row names"))
    known = {row["id"] for row in rows} | files
    homeless = [row for row in survey.derived["measurements"] if row["trial"] not in known]
    waste += _derived(survey, "measurements", homeless, "measurement of no network")
    waste += features(survey, known)
    for trial, name in survey.below("progress"):
        if trial in survey.complete:
            path = survey.path("progress", trial, name)
            waste.append(Waste(path, "snapshot of a complete trial"))
    waste += [
        Waste(entry.path, "half-written file")
        for name, entry in survey.files.items()
        if is_half(name) or not entry.size
    ]
    set_aside = [survey.path("damaged", *parts) for parts in survey.below("damaged")]
    waste += [Waste(path, "damaged, set aside") for path in set_aside]
    waste += [Waste(path, "of a run that was killed") for path in survey.expired]
    return [*_clear(survey, waste), *reports(survey)]


def features(survey: Survey, networks: Collection[str]) -> list[Waste]:
    """Return the features that no sweep asks for, of no network, or of weights that are replaced.

    Parts without a row stay as long as a sweep asks for them: an extraction may go on after them.
    Where the record of a sweep cannot be read, all stay.
    """
    records = [survey.store.sweep_record(name) for name in survey.store.sweep_names()]
    if not all(record.text for record in records):
        return []
    wanted = {id for record in records for id in record.extractions}
    reason = "features that no sweep asks for"
    rows = survey.derived["extractions"]
    unasked = [row for row in rows if row["trial"] not in networks or row["id"] not in wanted]
    waste = _derived(survey, "extractions", unasked, reason)
    current = {row["id"]: FeaturesFolder(row["id"], row["checkpoint"]).name for row in rows}
    for folder, name in survey.below("features"):
        one_of = FeaturesFolder.parse(folder)
        assert one_of is not None, "the survey lists files of the store's own names only"
        if one_of.extraction not in wanted:
            waste.append(Waste(survey.path("features", folder, name), reason))
        elif current.get(one_of.extraction, folder) != folder:
            place = survey.path("features", folder, name)
            waste.append(Waste(place, "features of weights that were replaced"))
    return waste


def _clear(survey: Survey, waste: Iterable[Waste]) -> list[Waste]:
    """Return the waste without files of trials whose rows cannot be read."""
    return [item for item in waste if not survey.unclear & ids(item.path)]


def _weights_files(survey: Survey) -> set[str]:
    """Return the ids of files of weights: parents of members that are no trials."""
    parents = {row["parent"] for row in survey.store.table("sweeps", ["parent"]).to_pylist()}
    return parents - {None} - {row["id"] for row in survey.rows}


def of_trials(survey: Survey, trials: Iterable[str], reason: str) -> list[Waste]:
    """Return every file of these trials."""
    wanted = set(trials)
    waste = []
    for row in sorted(survey.rows, key=lambda row: (OUTCOMES.index(row["outcome"]), row["id"])):
        if row["id"] in wanted:
            path = survey.store.path("trials", row["outcome"], row["id"])
            waste.append(Waste(path, reason, row=Row("trials", row["id"])))
    for table in ("curves", "classes"):
        for (name,) in survey.below(table):
            if (attempt := AttemptFile.parse(name)) and attempt.trial in wanted:
                waste.append(Waste(survey.path(table, name), reason))
    of_wanted = [row for row in survey.derived["measurements"] if row["trial"] in wanted]
    waste += _derived(survey, "measurements", of_wanted, reason)
    extractions = {x["id"] for x in survey.derived["extractions"] if x["trial"] in wanted}
    waste += _features_of(survey, extractions, reason)
    for kind in ("checkpoints", "progress"):
        for trial, name in survey.below(kind):
            if trial in wanted:
                waste.append(Waste(survey.path(kind, trial, name), reason))
    return waste


def _derived(
    survey: Survey, table: str, rows: Iterable[dict[str, Any]], reason: str
) -> list[Waste]:
    """Return these rows of `measurements` or `extractions`, one for each id."""
    return [
        Waste(survey.store.path(table, f"{network}-{id}"), reason, row=Row(table, id))
        for id, network in sorted((row["id"], row["trial"]) for row in rows)
    ]


def _features_of(survey: Survey, extractions: Collection[str], reason: str) -> list[Waste]:
    """Return the features, and their rows, of these extractions."""
    rows = [row for row in survey.derived["extractions"] if row["id"] in extractions]
    waste = _derived(survey, "extractions", rows, reason)
    for folder, name in survey.below("features"):
        if (of := FeaturesFolder.parse(folder)) and of.extraction in extractions:
            waste.append(Waste(survey.path("features", folder, name), reason))
    return waste


def failed(survey: Survey) -> list[Waste]:
    """Return the files of trials that failed, were lost or skipped."""
    trials = [row["id"] for row in survey.rows if row["outcome"] != State.COMPLETE]
    return of_trials(survey, trials, "failed, lost or skipped")


def of_sweep(survey: Survey, name: str) -> list[Waste]:
    """Return a sweep's record and the files of its trials that no other sweep in the store has.

    The sweep's studies, and the trials that were trained for them, are included under the same
    condition. Raises `LayerwiseError` for a sweep that the store does not have.
    """
    store = survey.store
    members = store.table("sweeps", ["sweep", "id"]).to_pylist()
    trials = {row["id"] for row in members if row["sweep"] == name}
    others = {row["id"] for row in members if row["sweep"] != name}
    if of_weights := _weights_files(survey):
        parents = store.table("sweeps", ["sweep", "parent"]).to_pylist()
        trials |= {row["parent"] for row in parents if row["sweep"] == name} & of_weights
        others |= {row["parent"] for row in parents if row["sweep"] != name} & of_weights
    if not trials:
        sweeps = sorted({row["sweep"] for row in members}) or ["none"]
        raise LayerwiseError(f"no sweep {name!r} in {store.root}; there: {', '.join(sweeps)}")
    series = {study["series"] for study in store.sweep_record(name).studies}
    other_series = {
        study["series"]
        for other in {row["sweep"] for row in members} - {name}
        for study in store.sweep_record(other).studies
    }
    if series:
        trials |= _labelled(survey, name) | _of_searches(survey, series, trials)
        others |= _of_searches(survey, other_series, others)
    reason = f"sweep {name}"
    numbers = store.study_numbers()
    ids = [f"{x}-{n}" for x in sorted(series - other_series) for n in numbers.get(x, ())]
    studies = [Waste(store.path("studies", id), reason, row=Row("studies", id)) for id in ids]
    record = Waste(store.sweep_path(name), reason)
    extractions = {
        other: set(store.sweep_record(other).extractions) for other in store.sweep_names()
    }
    mine = extractions.pop(name, set()).difference(*extractions.values())
    files = [*studies, *reports(survey, [name]), *_features_of(survey, mine, reason)]
    return [record, *files, *of_trials(survey, trials - others, reason)]


def unowned(survey: Survey) -> dict[str, str]:
    """Return the kind of each complete trial that belongs to no sweep, by id: `transfer+`.

    Bases of members, and trials of a recorded sweep's searches, belong to it. Raises
    `LayerwiseError` if the record of a sweep is damaged: its trials are not known.
    """
    store = survey.store
    table = store.table("sweeps", ["sweep", "id"]).to_pylist()
    names = {row["sweep"] for row in table}
    if lacking := [name for name in store.sweep_names() if name not in names]:
        raise LayerwiseError(
            f"the trials of sweep {lacking[0]} are not known: its record is damaged or empty; "
            "`layerwise run` with its file writes it again"
        )
    owned = {row["id"] for row in table}
    series = {study["series"] for name in names for study in store.sweep_record(name).studies}
    if series:
        owned |= _of_searches(survey, series, owned)
        for name in names:
            owned |= _labelled(survey, name)
    rows = survey.rows
    owned |= {row[name] for row in rows if row["id"] in owned for name in ("parent", "upper")}
    return {
        row["id"]: Treatment(
            kind=row["treatment"],
            n=row["n"],
            fine_tuned=row["n"] > 0 and not row["frozen"],
        ).name
        for row in rows
        if row["outcome"] == State.COMPLETE and row["id"] not in owned
    }


def reports(survey: Survey, sweeps: Iterable[str] | None = None) -> list[Waste]:
    """Return the files of these sweeps' reports; by default, of sweeps that are gone.

    The reports of an object store lie elsewhere.
    """
    if survey.store.is_remote:
        return []
    names = set(survey.store.sweep_names())
    return [
        Waste(survey.path("reports", sweep, *rest), f"report of sweep {sweep}", is_report=True)
        for sweep, *rest in survey.below("reports")
        if (sweep not in names if sweeps is None else sweep in sweeps)
    ]


def _labelled(survey: Survey, name: str) -> set[str]:
    """Trials that ran first for a part of a sweep that is not reported, such as `digits.study`."""
    labels = {f"{name}.study", f"{name}.unsearched"}
    return {row["id"] for row in survey.rows if row["first_sweep"] in labels}


def _of_searches(survey: Survey, series: Collection[str], members: Collection[str]) -> set[str]:
    """Trials of these searches, their bases, and the unsearched twins of these members."""
    rows = survey.rows
    cells = {
        id
        for row in survey.store.table("studies", ["series", "cells"]).to_pylist()
        if row["series"] in series
        for id in row["cells"]
    }
    bases = {row["parent"] for row in rows if row["id"] in cells}
    twins = {
        unsearched_id(row["training"]) for row in rows if row["study"] and row["id"] in members
    }
    return cells | bases | twins


def spare(survey: Survey, waste: Iterable[Waste]) -> list[Waste]:
    """Return the waste that the runs which use the store cannot need.

    They may need the files of their trials, and whatever was written since the oldest began.
    """
    if not survey.used:
        return list(waste)
    needed: set[str] = set()
    for lease in survey.used:
        with contextlib.suppress(StoreError):  # not recorded yet
            needed |= set(survey.store.members(lease.sweep)["id"].to_pylist())
            needed |= set(survey.store.sweep_record(lease.sweep).extractions)
    began = min(lease.began for lease in survey.used) - CLOCKS
    written = {entry.path: entry.written for entry in survey.files.values()}
    return [
        item
        for item in waste
        if written.get(item.path, began) < began and not needed & ids(item.path)
    ]
