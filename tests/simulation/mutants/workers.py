"""Mutants of the worker: what it writes, in which order, and what it reports."""

from __future__ import annotations

from typing import Any

from orchestrator.execution import run, worker
from orchestrator.execution.assignment import Report
from orchestrator.states import Ending
from tests.simulation.mutants.declared import Mutants, nothing

MUTANTS = Mutants()


@MUTANTS.mutant("The snapshots go before the row is written.", (worker.Training, "_finish"))
def snapshots_go_before_the_row(self: Any, ending: Ending, columns: dict[str, Any]) -> Report:
    self._drop_snapshots()
    return FINISH(self, ending, columns)


def _row_before_weights(self: Any, ending: Ending, columns: dict[str, Any]) -> Report:
    report = FINISH(self, ending, columns)
    if late := getattr(self, "late", None):
        self.store.put_checkpoint(self.id, late)
    return report


FINISH = worker.Training._finish
WRITE_RESULT = worker.Training._write_result


def _without_weights(self: Any, result: Any) -> None:
    self.late = result.checkpoint if self.assignment.keep_checkpoint else None
    real, self.store.put_checkpoint = self.store.put_checkpoint, nothing
    WRITE_RESULT(self, result)
    self.store.put_checkpoint = real


MUTANTS.add(
    "row_before_weights", "The row is written before the weights that it names.",
    (worker.Training, "_finish", _row_before_weights),
    (worker.Training, "_write_result", _without_weights),
)  # fmt: skip


@MUTANTS.mutant("The row is written without its curve.", (worker.Training, "_take_curve"))
def no_curve(self: Any, ended: Any) -> None: ...


@MUTANTS.mutant(
    "A worker that wakes trains on and leaves a snapshot (d39f7e1).",
    (worker.Training, "_completed_row"),
)
def no_look_at_the_row(self: Any) -> None:  # noqa: ARG001
    return None


MUTANTS.add(
    "late_snapshots_stay", "A snapshot of a worker that wakes and dies stays (fdb181d).",
    (run.Run, "_tidy", nothing),
)  # fmt: skip


def _own_row_ends_it(self: Any) -> Any:
    row = COMPLETED_ROW(self)
    return row | {"attempt": "another"} if row and self.before is None else row


COMPLETED_ROW = worker.Training._completed_row
MUTANTS.add(
    "its_own_row_ends_it", "A base that is trained again ends at its old row (db9ce3e).",
    (worker.Training, "_completed_row", _own_row_ends_it),
)  # fmt: skip


@MUTANTS.mutant("A failure of the store counts as the death of a worker.", (worker, "run"))
def store_failure_is_a_death(assignment: Any, **options: Any) -> Report:
    report = RUN(assignment, **options)
    if report.ending is Ending.STORE_FAILED:
        return Report(report.trial, Ending.WORKER_DIED, report.message)
    return report


RUN = worker.run


@MUTANTS.mutant("A stopped training counts as complete.", (worker.Training, "report"))
def stopped_is_complete(self: Any, ending: Ending, message: str = "") -> Report:
    real = Ending.COMPLETE if ending is Ending.STOPPED else ending
    return Report(self.id, real, message)


@MUTANTS.mutant(
    "A base that is damaged counts as a death of its child.", (worker.Training, "parents")
)
def damaged_base_is_a_death(self: Any) -> dict[str, bytes]:
    try:
        return PARENTS(self)
    except worker.BaseMissingError as error:
        died = Report(self.id, Ending.WORKER_DIED, error.report.message)
        raise worker.BaseMissingError(died) from error


PARENTS = worker.Training.parents
