"""Mutants of the run, which opens a store and looks after it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.execution import items, opening, run
from orchestrator.states import Ending, State
from orchestrator.store import damage, store
from orchestrator.store.row_tables import Checked
from tests.simulation.mutants.declared import Mutants, nothing

MUTANTS = Mutants()


@MUTANTS.mutant("A damaged base is not trained again.", (run.Run, "_train_again"))
def damaged_base_stays(self: Any, base: str, sha256: str) -> None: ...


@MUTANTS.mutant("Weights of bases are not looked at when a run opens.", (opening, "_checkpoints"))
def bases_are_trusted(store: Any, bases: Any) -> dict[str, str]:
    return dict(store.checkpoints(bases))


@MUTANTS.mutant("Rows are not read when a run opens.", (store.Store, "check"))
def rows_are_trusted(self: Any, trials: Any, *, curves: bool = False) -> Checked:  # noqa: ARG001
    return Checked(self.outcomes(), {})


@MUTANTS.mutant(
    "A row counts that is damaged while a run opens. Fault of this project until now.",
    (run, "look"),
)
def looked_at_once(plan: Any, store: Any, **options: Any) -> Any:
    checked = store.check(plan.trials, curves=True)
    if opening.recover(store.row_tables):
        checked = store.check(plan.trials, curves=True)
    wanted = plan.wanted(options.pop("only"))
    found = opening._look(plan, store, checked, wanted, *options.values())
    store.keep_rows()
    store.damage.set_aside()
    return found


MUTANTS.add(
    "damage_stays", "Damaged files are not set aside.", (damage.Damage, "set_aside", nothing)
)


@MUTANTS.mutant(
    "Trials that were lost are not tried again by the next run.", (opening, "_failures")
)
def lost_is_failed(store: Any, trials: Any, outcomes: Any) -> dict[str, str]:  # noqa: ARG001
    return {id: "lost" for id in trials if outcomes.get(id) in (State.FAILED, State.LOST)}


@MUTANTS.mutant("Snapshots of trials that are not complete are dropped.", (run.Run, "_tidy"))
def tidied_too_early(self: Any) -> None:
    for id in self.trials:
        self.store.drop_progress(id)


@MUTANTS.mutant("A run goes on although its store has failed.", (run.Run, "_noting_failures"))
@contextlib.contextmanager
def failures_pass(self: Any) -> Iterator[None]:  # noqa: ARG001
    with contextlib.suppress(StoreError):
        yield


@MUTANTS.mutant("The hash of a base that was trained is not taken over.", (items.TrialItem, "end"))
def hash_of_the_base_is_forgotten(self: Any, reports: Any) -> tuple[Ending, str]:
    report = reports[self.id]
    if report.checkpoint:
        self.bench.checkpoints.setdefault(self.id, "0" * 64)
    return report.ending, report.message
