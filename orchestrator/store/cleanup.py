"""Files of a store that may be removed: orphans, failed trials, a sweep that nobody needs."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import LayerwiseError, StoreError
from orchestrator.states import State
from orchestrator.store.leases import CLOCKS, Lease, expired
from orchestrator.store.names import AttemptFile, RowFile, WeightsFile
from orchestrator.store.store import Store
from trainers.config import unsearched_id


@dataclass(frozen=True)
class Waste:
    """A file that may be removed, and the reason."""

    path: str
    reason: str


def orphans(store: Store) -> list[Waste]:
    """Return the files that no row names: superseded attempts, old weights, half-written files."""
    rows = store.table("trials", ["id", "attempt", "checkpoint", "outcome"]).to_pylist()
    attempts = {AttemptFile(row["id"], row["attempt"]).name for row in rows}
    weights = {
        (row["id"], WeightsFile(row["checkpoint"]).name) for row in rows if row["checkpoint"]
    }
    complete = {row["id"] for row in rows if row["outcome"] == State.COMPLETE}
    files = _weights_files(store)
    waste = []
    for table in ("curves", "classes"):
        for name in store.names(table):
            if name not in attempts:
                waste.append(Waste(store.path(table, name), "attempt that no row names"))
    for trial in store.names("checkpoints"):
        for name in store.names("checkpoints", trial):
            if (trial, name) not in weights and trial not in files:
                path = store.path("checkpoints", trial, name)
                waste.append(Waste(path, "weights that no row names"))
    for trial in store.names("progress"):
        for name in store.names("progress", trial):
            if trial in complete:
                path = store.path("progress", trial, name)
                waste.append(Waste(path, "snapshot of a complete trial"))
    waste += [Waste(path, "half-written file") for path in store.leftovers()]
    waste += [Waste(path, "damaged, set aside") for path in store.damage.set_aside_before()]
    waste += [Waste(path, "lease of a run that was killed") for path in expired(store)]
    damaged = store.damage.reasons
    unclear = [path.rpartition("/")[2].partition(".")[0] for path in damaged]  # ids of trials
    waste = [item for item in waste if not any(id in item.path for id in unclear)]
    return waste + [Waste(path, "damaged") for path in damaged] + reports(store)


def _weights_files(store: Store) -> set[str]:
    """Return the ids of files of weights: parents of members that are no trials."""
    parents = {row["parent"] for row in store.table("sweeps", ["parent"]).to_pylist()} - {None}
    return parents - set(store.table("trials", ["id"])["id"].to_pylist()) if parents else set()


def of_trials(store: Store, trials: Iterable[str], reason: str) -> list[Waste]:
    """Return every file of these trials."""
    wanted = set(trials)
    waste = []
    for outcome in store.names("trials"):
        for name in store.names("trials", outcome):
            if (row := RowFile.parse(name)) and row.trial in wanted:
                waste.append(Waste(store.path("trials", outcome, name), reason))
    for table in ("curves", "classes"):
        for name in store.names(table):
            if (attempt := AttemptFile.parse(name)) and attempt.trial in wanted:
                waste.append(Waste(store.path(table, name), reason))
    for kind in ("checkpoints", "progress"):
        for trial in sorted(wanted & set(store.names(kind))):
            waste += [Waste(store.path(kind, trial, n), reason) for n in store.names(kind, trial)]
    return waste


def failed(store: Store) -> list[Waste]:
    """Return the files of trials that failed, were lost or skipped."""
    ids = [id for id, outcome in store.outcomes().items() if outcome != State.COMPLETE]
    return of_trials(store, ids, "failed, lost or skipped")


def of_sweep(store: Store, name: str) -> list[Waste]:
    """Return a sweep's record and the files of its trials that no other sweep in the store has.

    The sweep's studies, and the trials that were trained for them, are included under the same
    condition. Raises `LayerwiseError` for a sweep that the store does not have.
    """
    members = store.table("sweeps").select(["sweep", "id"]).to_pylist()
    own = {row["id"] for row in members if row["sweep"] == name}
    others = {row["id"] for row in members if row["sweep"] != name}
    if of_weights := _weights_files(store):
        parents = store.table("sweeps", ["sweep", "parent"]).to_pylist()
        own |= {row["parent"] for row in parents if row["sweep"] == name} & of_weights
        others |= {row["parent"] for row in parents if row["sweep"] != name} & of_weights
    if not own:
        sweeps = sorted({row["sweep"] for row in members}) or ["none"]
        raise LayerwiseError(f"no sweep {name!r} in {store.root}; there: {', '.join(sweeps)}")
    own_series = {study["series"] for study in store.sweep_record(name).studies}
    other_series = {
        study["series"]
        for other in {row["sweep"] for row in members} - {name}
        for study in store.sweep_record(other).studies
    }
    if own_series:
        own |= _labelled(store, name) | _of_searches(store, own_series, own)
        others |= _of_searches(store, other_series, others)
    reason = f"sweep {name}"
    studies = [
        Waste(store.path("studies", file.name), reason)
        for file in store.study_files()
        if file.series in own_series - other_series
    ]
    record = Waste(store.sweep_path(name), reason)
    files = [*studies, *reports(store, [name])]
    return [record, *files, *of_trials(store, own - others, reason)]


def unowned(store: Store) -> dict[str, str]:
    """Return the kind of each complete trial that belongs to no sweep, by id: `transfer+`.

    Bases of members, and trials of a recorded sweep's searches, belong to it. Raises
    `LayerwiseError` if the record of a sweep is damaged: its trials are not known.
    """
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
        owned |= _of_searches(store, series, owned)
        for name in names:
            owned |= _labelled(store, name)
    columns = ["id", "parent", "treatment", "frozen", "n", "outcome"]
    rows = store.table("trials", columns).to_pylist()
    owned |= {row["parent"] for row in rows if row["id"] in owned}
    return {
        row["id"]: f"{row['treatment']}{'+' if row['n'] and not row['frozen'] else ''}"
        for row in rows
        if row["outcome"] == State.COMPLETE and row["id"] not in owned
    }


def reports(store: Store, sweeps: Iterable[str] | None = None) -> list[Waste]:
    """Return the files of these sweeps' reports; by default, of sweeps that are gone.

    The reports of an object store lie elsewhere.
    """
    if store.is_remote:
        return []
    folder, names = Path(store.path("reports")), set(store.sweep_names())
    found = sorted(page.parent for page in folder.glob("*/index.html"))
    wanted = [at for at in found if (at.name not in names if sweeps is None else at.name in sweeps)]
    return [
        Waste(str(file), f"report of sweep {at.name}")
        for at in wanted
        for file in sorted(at.rglob("*"))
        if file.suffix in (".html", ".png")
    ]


def _labelled(store: Store, name: str) -> set[str]:
    """Trials that ran first for a part of a sweep that is not reported, such as `digits.study`."""
    rows = store.table("trials", ["id", "first_sweep"]).to_pylist()
    labels = {f"{name}.study", f"{name}.unsearched"}
    return {row["id"] for row in rows if row["first_sweep"] in labels}


def _of_searches(store: Store, series: Collection[str], members: Collection[str]) -> set[str]:
    """Trials of these searches, their bases, and the unsearched twins of these members."""
    rows = store.table("trials", ["id", "parent", "study", "training"]).to_pylist()
    cells = {
        id
        for row in store.table("studies", ["series", "cells"]).to_pylist()
        if row["series"] in series
        for id in row["cells"]
    }
    bases = {row["parent"] for row in rows if row["id"] in cells}
    twins = {
        unsearched_id(row["training"]) for row in rows if row["study"] and row["id"] in members
    }
    return cells | bases | twins


def _is_report(item: Waste) -> bool:
    return item.reason.startswith("report of ")


def spare(store: Store, waste: Iterable[Waste], used: Collection[Lease]) -> list[Waste]:
    """Return the waste that the runs with these leases cannot need.

    They may need the files of their trials, and whatever was written since they began.
    """
    if not used:
        return list(waste)
    ids: set[str] = set()
    for lease in used:
        with contextlib.suppress(StoreError):  # not recorded yet
            ids |= set(store.members(lease.sweep)["id"].to_pylist())
    began = min(lease.began for lease in used) - CLOCKS
    written = store.files.written([item.path for item in waste])
    return [
        item
        for item in waste
        if written.get(item.path, began) < began and not ids & set(re.split(r"[/.-]", item.path))
    ]


def remove(store: Store, waste: Collection[Waste]) -> None:
    """Remove the files, rows first, so that a reader never sees a row without its curve."""
    rows = store.path("trials") + "/"
    for item in sorted(waste, key=lambda item: not item.path.startswith(rows)):
        store.delete(item.path)
    for folder in sorted({Path(item.path).parent for item in waste if _is_report(item)})[::-1]:
        with contextlib.suppress(OSError):  # something else is there
            folder.rmdir()
