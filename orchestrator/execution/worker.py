"""The work on one assignment: read the parents, train, write checkpoint, curve and row.

The same code runs in a Ray worker (`cluster/`) and in this process (`inline.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import time
from bdb import BdbQuit
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import OF_REPORT, Assignment, Report
from orchestrator.execution.rows import (
    EMPTY_ROW,
    class_columns,
    exception_columns,
    failure_columns,
    result_columns,
    run_columns,
    study_columns,
    training_columns,
)
from orchestrator.states import Ending, State
from orchestrator.store.schemas import CLASSES, CURVE, first_labels
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from trainers.canonical import ConfigError
from trainers.checkpoint import CheckpointError
from trainers.frames import is_ours

if TYPE_CHECKING:
    from trainers.results import Failure, Result, Row, Runtime

Watcher = Callable[[str, Any], None]
Stop = Callable[[], bool]


def prepare() -> None:
    """Import what a training needs, so that no trial's time contains it."""
    importlib.import_module("trainers.loop")
    importlib.import_module("torch._dynamo")  # the first step of an optimiser would import it


def run(
    assignment: Assignment,
    *,
    record: bool = True,
    raises: bool = False,
    watch: Watcher = lambda *_: None,
    stop: Stop = lambda: False,
) -> Report:
    """Train one network and return how that ended. Nothing is written unless `record`.

    `watch` receives the trial's id and every row of the training. Once `stop` returns True, the
    training ends with a snapshot. An exception in the training, also in a user's code, is a
    failure; with `raises` it is raised, for a debugger. A failure of the store becomes a report; an
    error of this machine, which a repetition might not meet, is raised in any case.
    """
    try:
        return _run(Training(assignment, record), raises, watch, stop)
    except StoreError as error:
        return Report(assignment.labels["id"], Ending.STORE_FAILED, str(error))


def _run(work: Training, raises: bool, watch: Watcher, stop: Stop) -> Report:
    """Carry out an attempt. Raises `StoreError`."""
    from trainers.devices import free_memory
    from trainers.loop import train

    if (ended := work.ended_before()) is not None:
        return ended
    try:
        parents = work.parents()
    except BaseMissingError as error:
        return error.report
    try:
        with contextlib.closing(train(work.trained, **work.arguments(parents, stop))) as rows:
            for row in rows:
                watch(work.id, row)
                if (report := work.take(row)) is not None:
                    return report
        return work.stopped(stop)
    except Exception as error:
        return work.failed(error, raises=raises)
    finally:
        free_memory(work.runtime.device)


class BaseMissingError(Exception):
    """The checkpoint of a base is gone or damaged; `report` says which."""

    def __init__(self, report: Report):
        super().__init__(report.message)
        self.report = report


class Training:
    """One attempt at an assignment, with its row so far."""

    def __init__(
        self,
        assignment: Assignment,
        record: bool = True,
        clock: Callable[[], float] | None = None,
        lanes: int | None = None,
    ):
        """`clock` returns the seconds of this attempt; `lanes` is the size of its pack."""
        from trainers.results import Runtime

        self.assignment, self.record = assignment, record
        self.store = Store(assignment.store)
        if record:
            self.store.require()
        self.training, self.trained = training_from(assignment.training), assignment.trained()
        self.id = self.training.id
        self.attempt, self.clock = secrets.token_hex(4), clock or time.perf_counter
        self.began = self.clock()
        self.runtime: Runtime = Runtime(
            device="cuda" if assignment.request["gpu"] else "cpu",
            threads=max(1, int(assignment.request["cpu"])),
            checkpoint_seconds=assignment.checkpoint_seconds if record else float("inf"),
            data_root=assignment.data_root,
            source_root=assignment.source_root,
            in_lanes=lanes is not None,
            clock=self.clock,
        )
        self.curve: list[dict[str, Any]] = []
        self.classes: list[dict[str, Any]] = []
        self.row = (
            EMPTY_ROW
            | first_labels(assignment.labels)
            | training_columns(self.training, self.trained.recipe)
            | study_columns(assignment, self.training)
            | run_columns(assignment, self.runtime)
            | {"attempt": self.attempt, "started": datetime.now(UTC), "lanes": lanes or 1}
        )
        self.before: dict[str, Any] | None = None
        """What `_completed_row` gave when this began: the checkpoint of that attempt was lost."""

    def ended_before(self) -> Report | None:
        """Return the report of the attempt that has completed this trial, if the run knows of none.

        It is one of a second run, or of a worker that died before it could report.
        """
        self.before = self._completed_row()
        known = self.assignment.replaces
        if self.before is None or known is None or self.before["attempt"] == known:
            return None
        return self._known(self.before)

    def parents(self) -> dict[str, bytes]:
        """Return the checkpoints of the bases by id. Raises `BaseMissingError`, `StoreError`."""
        parents = {}
        for id in self.training.parents:
            sha256 = self.assignment.checkpoints[id]
            try:
                parents[id] = self.store.get_checkpoint(id, sha256, cached=True)
            except CheckpointError as error:
                place = (id, sha256)
                report = Report(self.id, Ending.BASE_DAMAGED, str(error), damaged_base=place)
                raise BaseMissingError(report) from error
        return parents

    def arguments(self, parents: Mapping[str, bytes], stop: Stop) -> dict[str, Any]:
        """Return the arguments of `trainers.loop.train`, from the newest snapshot on."""
        return {
            "parent": parents.get(self.training.parent or ""),
            "upper": parents.get(self.training.upper or ""),
            "resume": next(self.store.progress(self.id), None) if self.record else None,
            "runtime": self.runtime,
            "stop": stop,
        }

    def take(self, row: Row) -> Report | None:
        """Write what a row of the training says. Return the report of the last one."""
        from trainers.results import Failure, Result, Snapshot

        match row:
            case Snapshot():
                if not self.store.put_progress(self.id, self.attempt, row.step, row.data):
                    return self._ended_elsewhere()  # or this is the first one
            case Result():
                self._write_result(row)
                return self._finish(Ending.COMPLETE, result_columns(self.training, row))
            case Failure():
                self._take_curve(row)
                columns = failure_columns(self.assignment, self.training, row)
                return self._finish(Ending.FAILED, columns)
        return None

    def stopped(self, stop: Stop) -> Report:
        """Return the report of a training whose last row was a snapshot."""
        assert stop(), "a training ends with a result or a failure, or is stopped"
        return self.report(Ending.STOPPED)

    def failed(self, error: Exception, *, raises: bool = False) -> Report:
        """Return the report of a training that an exception ended, or raise the exception.

        Raised are failures of the store, exceptions of this machine and faults of layerwise; with
        `raises` also those of a user's code.
        """
        from trainers.datasets import DataError
        from trainers.devices import is_of_machine, is_out_of_memory
        from trainers.networks import NetworkError

        match error:
            case CheckpointError():  # an intact snapshot of another training
                self._drop_snapshots()
                message = f"{error}; the training starts again from step 0"
                return self.report(Ending.WORKER_DIED, message)
            case NetworkError() | DataError() | ConfigError():
                message = f"trial {self.id} ({self.assignment.labels['name']}): {error}"
                columns = {"error_type": type(error).__name__, "error_message": message}
                return self._finish(Ending.FAILED, columns)
            case StoreError():
                raise error
            case BdbQuit():  # the user left the debugger that `breakpoint()` opened
                raise KeyboardInterrupt from None
        if is_out_of_memory(error):
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            return self.report(Ending.OUT_OF_MEMORY, reason)
        if raises or is_of_machine(error) or not is_ours(error, "trainers"):
            raise error
        columns = exception_columns(self.assignment, self.training, error)
        return self._finish(Ending.FAILED, columns)

    def _ended_elsewhere(self) -> Report | None:
        """Return the report of the attempt that has completed this trial meanwhile, if one did.

        It is one of a second run, or a retry that was made while this process was frozen.
        """
        after = self._completed_row()
        if not after or (self.before and after["attempt"] == self.before["attempt"]):
            return None
        return self._known(after)

    def _known(self, row: Mapping[str, Any]) -> Report:
        """Return the report of a row that another attempt has written."""
        self.store.keep_rows()
        self._drop_snapshots()
        return Report.of_row(row)

    def _completed_row(self) -> dict[str, Any] | None:
        """Return attempt, end and columns of a report of the row that completed this trial."""
        return self.store.row(self.id, (State.COMPLETE,), [*OF_REPORT, "attempt", "ended"])

    def _finish(self, ending: Ending, columns: dict[str, Any]) -> Report:
        """Write the row with curve and counts, after the checkpoint, and drop the snapshots."""
        now = datetime.now(UTC)
        if self.before and (ended := self.before["ended"]):  # whatever the clocks say
            now = max(now, ended + timedelta(microseconds=1))
        self.row |= columns | {"outcome": ending.outcome, "ended": now}
        self.row["seconds_total"] = self.clock() - self.began
        if self.record:
            self.store.write_row(self.row, self.curve, self.classes)
            self._drop_snapshots()
        return Report.of_row(self.row)

    def _write_result(self, result: Result) -> None:
        """Write the checkpoint. Take the curve and the counts per class."""
        self._take_curve(result)
        if self.record and self.assignment.keep_checkpoint:
            self.store.put_checkpoint(self.id, result.checkpoint)
        scores = [("validation", result.validation)]
        scores += [("test", result.test)] if result.test is not None else []
        key: dict[str, Any] = {"id": self.id, "attempt": self.attempt}
        self.classes = [
            key | {"subset": subset, "class_index": index} | class_columns(of_class)
            for subset, score in scores
            for index, of_class in zip(self.training.target.labels, score.per_class, strict=True)
        ]
        assert all(name in self.classes[0] for name, _, _ in CLASSES)

    def _take_curve(self, ended: Result | Failure) -> None:
        key = {"id": self.id, "attempt": self.attempt}
        self.curve = [key | vars(point) for point in ended.curve]
        assert not self.curve or all(name in self.curve[0] for name, _, _ in CURVE)

    def report(self, ending: Ending, message: str = "") -> Report:
        """Return the report of an attempt that leaves no row."""
        return Report(self.id, ending, message)

    def _drop_snapshots(self) -> None:
        self.store.drop_progress(self.id)
