"""Files of a store that may go: orphans, failed trials, a sweep that nobody wants any more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from orchestrator.errors import LayerwiseError
from orchestrator.search.evidence import unsearched
from orchestrator.store import HASH, Store


@dataclass(frozen=True)
class Waste:
    """A file that may be removed, and why."""

    path: str
    reason: str


def orphans(store: Store) -> list[Waste]:
    """What no row names: superseded attempts, weights nobody refers to, half-written files."""
    rows = store.table("trials", ["id", "attempt", "checkpoint", "outcome"]).to_pylist()
    attempts = {f"{row['id']}-{row['attempt']}.parquet" for row in rows}
    weights = {(row["id"], (row["checkpoint"] or "")[:HASH]) for row in rows}
    ended = {row["id"] for row in rows if row["outcome"] == "complete"}
    found = []
    for table in ("curves", "classes"):
        for name in store.names(table):
            if name not in attempts:
                found.append(Waste(store.path(table, name), "attempt that no row names"))
    for trial in store.names("checkpoints"):
        for name in store.names("checkpoints", trial):
            if (trial, name.removesuffix(".safetensors")) not in weights:
                path = store.path("checkpoints", trial, name)
                found.append(Waste(path, "weights that no row names"))
    for trial in store.names("progress"):
        for name in store.names("progress", trial):
            if trial in ended:
                path = store.path("progress", trial, name)
                found.append(Waste(path, "snapshot of a complete trial"))
    found += [Waste(half, "half-written file") for half in store.leftovers()]
    return found


def of_trials(store: Store, trials: Iterable[str], reason: str) -> list[Waste]:
    """Every file of these trials."""
    wanted = set(trials)
    found = []
    for outcome in store.names("trials"):
        for name in store.names("trials", outcome):
            if name.removesuffix(".parquet") in wanted:
                found.append(Waste(store.path("trials", outcome, name), reason))
    for table in ("curves", "classes"):
        for name in store.names(table):
            if name.split("-")[0] in wanted:
                found.append(Waste(store.path(table, name), reason))
    for kind in ("checkpoints", "progress"):
        for trial in sorted(wanted & set(store.names(kind))):
            found += [Waste(store.path(kind, trial, n), reason) for n in store.names(kind, trial)]
    return found


def failed(store: Store) -> list[Waste]:
    """The files of trials that failed, were lost or skipped."""
    bad = [id for id, outcome in store.outcomes().items() if outcome != "complete"]
    return of_trials(store, bad, "failed, lost or skipped")


def of_sweep(store: Store, name: str) -> list[Waste]:
    """A sweep and the files of those of its trials that no other sweep in the store has.

    The same of its studies, and of what was trained for these.
    """
    members = store.table("sweeps").select(["sweep", "id"]).to_pylist()
    own = {row["id"] for row in members if row["sweep"] == name}
    others = {row["id"] for row in members if row["sweep"] != name}
    if not own:
        known = sorted({row["sweep"] for row in members}) or ["none"]
        raise LayerwiseError(f"no sweep {name!r} in {store.root}; there: {', '.join(known)}")
    reason = f"sweep {name}"
    mine = {study["series"] for study in store.studies(name)}
    kept = {
        study["series"]
        for other in {row["sweep"] for row in members} - {name}
        for study in store.studies(other)
    }
    if mine:
        own |= _labelled(store, f"{name}.") | _of_searches(store, mine, own)
        others |= _of_searches(store, kept, others)
    record = Waste(store.path("sweeps", f"{name}.parquet"), reason)
    studies = [
        Waste(store.path("studies", file), reason)
        for file in store.names("studies")
        if file.rpartition("-")[0] in mine - kept
    ]
    return [record, *studies, *of_trials(store, own - others, reason)]


def _labelled(store: Store, beginning: str) -> set[str]:
    """Trials that were first run for a part of a sweep that is not reported."""
    rows = store.table("trials", ["id", "sweep"]).to_pylist()
    return {row["id"] for row in rows if row["sweep"].startswith(beginning)}


def _of_searches(store: Store, series: Collection[str], members: Collection[str]) -> set[str]:
    """What was trained for these searches, and to compare with these members that they tuned."""
    rows = store.table("trials", ["id", "parent", "study", "training"]).to_pylist()
    found = {
        id
        for row in store.table("studies", ["series", "cells"]).to_pylist()
        if row["series"] in series
        for id in row["cells"]
    }
    found |= {row["parent"] for row in rows if row["id"] in found}
    return found | {
        unsearched(row["training"]) for row in rows if row["study"] and row["id"] in members
    }


def remove(store: Store, waste: Iterable[Waste]) -> None:
    """Remove the files, rows first, so that a reader never sees a row without its curve."""
    rows = store.path("trials") + "/"
    for item in sorted(waste, key=lambda item: not item.path.startswith(rows)):
        store.delete(item.path)
