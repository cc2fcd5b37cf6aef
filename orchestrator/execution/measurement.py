"""Measurements of trained networks: the assignment of one, and the work on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.execution import derived
from orchestrator.execution.assignment import Report
from orchestrator.execution.derived_fields import DerivedFields
from orchestrator.execution.frontier import Attempt
from orchestrator.execution.items import Bench
from orchestrator.plan.measurement import Measurement, measurements_of
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from trainers.canonical import canonical, digest


@dataclass(frozen=True, kw_only=True)
class MeasurementAssignment(DerivedFields):
    """One measurement to carry out."""

    measure: str
    subjects: list[dict[str, Any]]
    """`id`, `checkpoint` (SHA-256), `training` and `seen` (canonical JSON or None) of each."""

    @classmethod
    def of(cls, measurement: Measurement, bench: Bench, attempt: Attempt) -> MeasurementAssignment:
        """Return the assignment of a measurement whose networks are complete."""
        return cls(
            **cls.shared(measurement, measurement.trial, bench, attempt),
            measure=measurement.measure,
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
        )

    @property
    def networks(self) -> list[tuple[str, str]]:
        return [(subject["id"], subject["checkpoint"]) for subject in self.subjects]

    def columns(self) -> dict[str, Any]:
        """Return the columns that all of its rows share."""
        first, *others = self.subjects
        seen = training_from(first["seen"]) if first["seen"] else None
        return {
            "measure": self.measure,
            "trial": first["id"],
            "other": others[0]["id"] if others else None,
            "task": digest(seen.target) if seen else None,
            "checkpoint": first["checkpoint"],
            "other_checkpoint": others[0]["checkpoint"] if others else None,
            "git_commit": self.git_commit,
        }


KIND = derived.Kind("measurement", "measurements", measurements_of, MeasurementAssignment.of)


def run(assignment: MeasurementAssignment, stop: Callable[[], bool] = lambda: False) -> Report:
    """Measure and write the rows. Return how that ended; see `worker.run` for what is raised.

    A measurement that is stopped writes nothing, and is carried out again.
    """

    def rows_of(store: Store, weights: Sequence[bytes]) -> list[dict[str, Any]] | None:  # noqa: ARG001
        return _rows(assignment, weights, stop)

    return derived.carry_out(assignment, KIND.table, rows_of)


def _rows(
    assignment: MeasurementAssignment, weights: Sequence[bytes], stop: Callable[[], bool]
) -> list[dict[str, Any]] | None:
    """Return a row per value; None if it was stopped."""
    from trainers.measures import Subject as Network
    from trainers.measures import measure

    networks = [
        Network(
            training=training_from(x["training"]) if x["training"] else None,
            seen=training_from(x["seen"]) if x["seen"] else None,
            weights=data,
        )
        for x, data in zip(assignment.subjects, weights, strict=True)
    ]
    values = measure(assignment.measure, networks, assignment.layers, assignment.runtime, stop)
    return None if values is None else [value._asdict() for value in values]
