"""Measurements as work items, and the work on one: read the networks, measure, write the rows.

A measurement has rows of its own, and is repeated, lost and skipped as a trial is. It is complete
as long as its rows name the weights that its networks have now.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Report
from orchestrator.execution.frontier import Attempt, Node
from orchestrator.execution.items import Bench, Unit
from orchestrator.execution.provenance import git_commit, versions
from orchestrator.plan.measurement import Measurement, measurements_of
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.names import MeasurementFile
from orchestrator.store.schemas import MEASUREMENTS
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from trainers.canonical import ConfigError, canonical, digest
from trainers.checkpoint import CheckpointError
from trainers.datasets.places import portable

if TYPE_CHECKING:
    from trainers.measures import Value

EMPTY_ROW: dict[str, Any] = dict.fromkeys(MEASUREMENTS.names)


@dataclass(frozen=True, kw_only=True)
class MeasurementAssignment:
    """One measurement to carry out."""

    id: str
    measure: str
    name: str
    subjects: list[dict[str, Any]]
    """`id`, `checkpoint` (SHA-256), `training` and `seen` (canonical JSON or None) of each."""
    layers: list[int]
    request: dict[str, Any]
    store: str
    git_commit: str | None
    data_root: str | None = None
    source_root: str | None = None

    @classmethod
    def of(cls, measurement: Measurement, bench: Bench, attempt: Attempt) -> MeasurementAssignment:
        """Return the assignment of a measurement whose networks are complete."""
        trial = measurement.trial
        return cls(
            id=measurement.id,
            measure=measurement.measure,
            name=measurement.name,
            subjects=[
                {
                    "id": subject.id,
                    "checkpoint": bench.checkpoints[subject.id],
                    "training": subject.training and canonical(subject.training),
                    "seen": subject.seen and canonical(subject.seen),
                }
                for subject in measurement.subjects
            ],
            layers=list(measurement.layers),
            request=attempt.request.model_dump(),
            store=bench.store.root,
            git_commit=git_commit(),
            data_root=portable(trial.data_root),
            source_root=portable(trial.source_root),
        )

    @property
    def ids(self) -> Sequence[str]:
        return (self.id,)

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> MeasurementAssignment:
        return cls(**json.loads(text))


def run(assignment: MeasurementAssignment) -> Report:
    """Measure and write the rows. Return how that ended; see `worker.run` for what is raised."""
    from trainers.datasets import DataError
    from trainers.devices import free_memory, is_out_of_memory
    from trainers.networks import NetworkError

    began = time.perf_counter()
    device = "cuda" if assignment.request["gpu"] else "cpu"
    try:
        store = Store(assignment.store)
        store.require()
        weights = []
        for subject in assignment.subjects:
            place = subject["id"], subject["checkpoint"]
            try:
                weights.append(store.get_checkpoint(*place, cached=True))
            except CheckpointError as error:
                return Report(assignment.id, Ending.BASE_DAMAGED, str(error), damaged_base=place)
        try:
            values = _values(assignment, weights, device)
        except (NetworkError, DataError, ConfigError, CheckpointError) as error:
            message = f"{assignment.name}: {error}"
            rows = _rows(assignment, device, State.FAILED, [{"error_message": message}])
            ending = Ending.FAILED
        else:
            message, ending = "", Ending.COMPLETE
            rows = _rows(assignment, device, State.COMPLETE, [x._asdict() for x in values])
        seconds = time.perf_counter() - began
        store.write_measurement([row | {"seconds": seconds} for row in rows])
        return Report(assignment.id, ending, message, seconds=seconds)
    except StoreError as error:
        return Report(assignment.id, Ending.STORE_FAILED, str(error))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return Report(assignment.id, Ending.OUT_OF_MEMORY, reason)
    finally:
        free_memory(device)


def _values(
    assignment: MeasurementAssignment, weights: Sequence[bytes], device: str
) -> list[Value]:
    from trainers.measures import Subject as Network
    from trainers.measures import measure
    from trainers.results import Runtime

    runtime = Runtime(
        device=device,
        threads=max(1, int(assignment.request["cpu"])),
        data_root=assignment.data_root,
        source_root=assignment.source_root,
    )
    networks = [
        Network(
            training=training_from(x["training"]) if x["training"] else None,
            seen=training_from(x["seen"]) if x["seen"] else None,
            weights=data,
        )
        for x, data in zip(assignment.subjects, weights, strict=True)
    ]
    return measure(assignment.measure, networks, assignment.layers, runtime)


def _rows(
    assignment: MeasurementAssignment,
    device: str,
    outcome: State,
    values: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Return a row per value, without the time."""
    first, *others = assignment.subjects
    seen = training_from(first["seen"]) if first["seen"] else None
    shared = {
        "id": assignment.id,
        "measure": assignment.measure,
        "outcome": outcome.value,
        "trial": first["id"],
        "other": others[0]["id"] if others else None,
        "task": digest(seen.target) if seen else None,
        "checkpoint": first["checkpoint"],
        "other_checkpoint": others[0]["checkpoint"] if others else None,
        "device": device,
        "host": socket.gethostname(),
        "versions": versions(),
        "git_commit": assignment.git_commit,
        "ended": datetime.now(UTC),
    }
    return [{**EMPTY_ROW, **shared, **value} for value in values]


@dataclass
class MeasurementItem:
    """One measurement of trained networks."""

    measurement: Measurement
    node: Node
    bench: Bench
    is_shown: bool = True
    unit: Unit = "measurement"

    @property
    def id(self) -> str:
        return self.measurement.id

    @property
    def name(self) -> str:
        return self.measurement.name

    def begin(self, attempt: Attempt) -> Sequence[MeasurementAssignment]:
        """Return the assignment, unless a network that was trained again has its old weights."""
        row = self.bench.store.measurement(_file(self.measurement))
        is_complete = row is not None and row["outcome"] == State.COMPLETE
        if row and is_complete and _is_current(self.measurement, row, self.bench.checkpoints):
            return []
        return [MeasurementAssignment.of(self.measurement, self.bench, attempt)]

    def tell(self, report: Report) -> bool:  # noqa: ARG002
        return False

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        report = reports.get(self.id, Report(self.id, Ending.COMPLETE))
        return report.ending, report.message

    def give_up(self, state: State, reason: str) -> None:
        """Do nothing: the next run tries again, and rows say why networks are missing."""


class MeasurementRun:
    """The measurements of a run, and what of them the store holds already."""

    def __init__(
        self,
        plan: Plan,
        store: Store,
        trials: Collection[str],
        complete: Iterable[str],
        *,
        retry_failed: bool = False,
    ):
        """Take those whose networks are all among `trials`, of which some are complete."""
        self.plan = plan
        known = {*trials, *plan.weights}
        self.measurements = {
            id: x for id, x in measurements_of(plan).items() if known.issuperset(x.networks)
        }
        networks = {id for x in self.measurements.values() for id in x.networks}
        current = {id: plan.weights[id].sha256 for id in networks & plan.weights.keys()}
        current |= store.checkpoints(sorted(networks & set(complete)))
        rows = store.measurements([_file(x) for x in self.measurements.values()])
        self.rows = {
            id: row for id, row in rows.items() if _is_current(self.measurements[id], row, current)
        }
        """A row of each measurement that has rows of the weights that its networks have now."""
        settled = self.complete() | (set() if retry_failed else self.failed().keys())
        open_ones = self.measurements.keys() - settled
        self.networks = {id for one in open_ones for id in self.measurements[one].networks}
        """Ids of the networks whose weights are needed."""
        of_trials = sorted(self.networks - plan.weights.keys())
        self.lacking = store.check_weights(of_trials)
        """Paths of their missing weights, by id. These networks must be trained again."""
        self.checkpoints = {
            id: current[id] for id in of_trials if id in current and id not in self.lacking
        }

    def items(self, bench: Bench) -> dict[str, MeasurementItem]:
        """The measurements as work items, by id. One that has rows waits for no network."""
        items = {}
        for id, one in self.measurements.items():
            needs = one.networks if self.networks.issuperset(one.networks) else ()
            node = Node(needs, one.flops(self.plan), one.request)
            items[id] = MeasurementItem(one, node, bench)
        return items

    def complete(self) -> set[str]:
        """Ids of the measurements that need not be repeated."""
        return {id for id, row in self.rows.items() if row["outcome"] == State.COMPLETE}

    def failed(self) -> dict[str, str]:
        """Ids of the measurements that failed in an earlier run, and why."""
        return {
            id: row["error_message"]
            for id, row in self.rows.items()
            if row["outcome"] == State.FAILED
        }


def _file(measurement: Measurement) -> MeasurementFile:
    return MeasurementFile(measurement.first.id, measurement.id)


def _is_current(
    measurement: Measurement, row: Mapping[str, Any], checkpoints: Mapping[str, str]
) -> bool:
    """Return whether a row is of the weights that the networks have, and of no earlier ones."""
    measured = (row["checkpoint"], row["other_checkpoint"])
    return all(
        sha256 == checkpoints.get(network)
        for network, sha256 in zip(measurement.networks, measured, strict=False)
    )
