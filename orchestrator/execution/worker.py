"""The work on one assignment: read the parents, train, write checkpoint, curve and row.

The same code runs in a Ray worker (`cluster/`) and in this process (`inline.py`).
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import time
from bdb import BdbQuit
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Assignment, Report
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
    from trainers.results import Failure, Result, Runtime

Watcher = Callable[[Any], None]
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
    watch: Watcher = lambda _: None,
    stop: Stop = lambda: False,
) -> Report:
    """Train one network and return how that ended. Nothing is written unless `record`.

    `watch` receives every row of the training. Once `stop` returns True, the training ends with a
    snapshot. An exception in the training, also in a user's code, is a failure; with `raises` it
    is raised, for a debugger. A failure of the store becomes a report; an error of this machine,
    which a repetition might not meet, is raised in any case.
    """
    try:
        return _run(_Work(assignment, record), raises, watch, stop)
    except StoreError as error:
        return Report(assignment.labels["id"], Ending.STORE_FAILED, str(error))


def _run(work: _Work, raises: bool, watch: Watcher, stop: Stop) -> Report:
    """Carry out an attempt. Raises `StoreError`."""
    from trainers.datasets import DataError
    from trainers.devices import free_memory, is_of_machine, is_out_of_memory
    from trainers.networks import NetworkError

    parents: dict[str, bytes] = {}
    for id in work.training.parents:
        try:
            parents[id] = work.load_parent(id)
        except CheckpointError as error:
            return work.without_base(id, error)
    try:
        return work.train(parents, watch, stop)
    except CheckpointError as error:  # an intact snapshot of another training
        work.drop_snapshots()
        return work.report(Ending.WORKER_DIED, f"{error}; the training starts again from step 0")
    except (NetworkError, DataError, ConfigError) as error:
        message = f"trial {work.id} ({work.assignment.labels['name']}): {error}"
        columns = {"error_type": type(error).__name__, "error_message": message}
        return work.finish(Ending.FAILED, columns)
    except StoreError:
        raise
    except BdbQuit:  # the user left the debugger that `breakpoint()` opened
        raise KeyboardInterrupt from None
    except Exception as error:
        if is_out_of_memory(error):
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            return work.report(Ending.OUT_OF_MEMORY, reason)
        if raises or is_of_machine(error) or not is_ours(error, "trainers"):
            raise
        columns = exception_columns(work.assignment, work.training, error)
        return work.finish(Ending.FAILED, columns)
    finally:
        free_memory(work.runtime.device)


class _Work:
    """One attempt at an assignment, with its row so far."""

    def __init__(self, assignment: Assignment, record: bool):
        from trainers.results import Runtime

        self.assignment, self.record = assignment, record
        self.store = Store(assignment.store)
        if record:
            self.store.require()
        self.training, self.trained = training_from(assignment.training), assignment.trained()
        self.id = self.training.id
        self.attempt, self.clock = secrets.token_hex(4), time.perf_counter()
        self.runtime: Runtime = Runtime(
            device="cuda" if assignment.request["gpu"] else "cpu",
            threads=max(1, int(assignment.request["cpu"])),
            checkpoint_seconds=assignment.checkpoint_seconds if record else float("inf"),
            data_root=assignment.data_root,
            source_root=assignment.source_root,
        )
        self.before: dict[str, Any] | None = None
        self.curve: list[dict[str, Any]] = []
        self.classes: list[dict[str, Any]] = []
        self.row = (
            EMPTY_ROW
            | first_labels(assignment.labels)
            | training_columns(self.training, self.trained.recipe)
            | study_columns(assignment, self.training)
            | run_columns(assignment, self.runtime)
            | {"attempt": self.attempt, "started": datetime.now(UTC)}
        )

    def load_parent(self, id: str) -> bytes:
        """Return the checkpoint of a base. Raises `CheckpointError` if it is gone or damaged."""
        return self.store.get_checkpoint(id, self.assignment.checkpoints[id], cached=True)

    def train(self, parents: Mapping[str, bytes], watch: Watcher, stop: Stop) -> Report:
        """Train from the newest snapshot to a result, a failure or a stop."""
        from trainers.results import Failure, Result, Snapshot

        self.before = before = self._completed_row()  # of a trial whose checkpoint was lost
        for row in self._rows(parents, stop):
            watch(row)
            match row:
                case Snapshot():
                    self.store.put_progress(self.id, self.attempt, row.step, row.data)
                    after = self._completed_row()
                    if after and (not before or after["attempt"] != before["attempt"]):
                        # by a second run, or by a retry while this process was frozen
                        self.drop_snapshots()
                        return Report.of_row(after)
                case Result():
                    self._write_result(row)
                    return self.finish(Ending.COMPLETE, result_columns(self.training, row))
                case Failure():
                    self._take_curve(row)
                    columns = failure_columns(self.assignment, self.training, row)
                    return self.finish(Ending.FAILED, columns)
        assert stop(), "a training ends with a result or a failure, or is stopped"
        return self.report(Ending.STOPPED)

    def _rows(self, parents: Mapping[str, bytes], stop: Stop) -> Iterator[Any]:
        from trainers.loop import train

        resume = next(self.store.progress(self.id), None) if self.record else None
        parent, upper = (
            parents[id] if id else None for id in (self.training.parent, self.training.upper)
        )
        rows = train(
            self.trained,
            parent=parent,
            upper=upper,
            resume=resume,
            runtime=self.runtime,
            stop=stop,
        )
        with contextlib.closing(rows):
            yield from rows

    def _completed_row(self) -> dict[str, Any] | None:
        """Row of the attempt that completed this trial, if one did."""
        return self.store.row(self.id, (State.COMPLETE,))

    def finish(self, ending: Ending, columns: dict[str, Any]) -> Report:
        """Write the row with curve and counts, after the checkpoint, and drop the snapshots."""
        now = datetime.now(UTC)
        if self.before and (ended := self.before["ended"]):  # whatever the clocks say
            now = max(now, ended + timedelta(microseconds=1))
        self.row |= columns | {"outcome": ending.outcome, "ended": now}
        self.row["seconds_total"] = time.perf_counter() - self.clock
        if self.record:
            self.store.write_row(self.row, self.curve, self.classes)
            self.drop_snapshots()
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
        self.curve = [key | asdict(point) for point in ended.curve]
        assert not self.curve or all(name in self.curve[0] for name, _, _ in CURVE)

    def without_base(self, id: str, error: CheckpointError) -> Report:
        """Return the report of an attempt that could not begin without this base."""
        return Report(
            self.id,
            Ending.BASE_DAMAGED,
            str(error),
            damaged_base=(id, self.assignment.checkpoints[id]),
        )

    def report(self, ending: Ending, message: str = "") -> Report:
        """Return the report of an attempt that leaves no row."""
        return Report(self.id, ending, message)

    def drop_snapshots(self) -> None:
        self.store.drop_progress(self.id)
