"""Endings of an attempt at a work item, and states of a trial."""

from __future__ import annotations

import enum


class Ending(enum.Enum):
    """Ending of one attempt at a work item."""

    COMPLETE = "complete"
    """It trained to the end, and its row is written."""
    FAILED = "failed"
    """Its training failed, for example with a loss that is not a number. It is not repeated."""
    NODE_LOST = "node lost"
    """Its node disappeared or was taken away. It is repeated without limit."""
    WORKER_DIED = "worker died"
    """Its worker died on a living node. It is repeated three times."""
    OUT_OF_MEMORY = "out of memory"
    """It ran out of memory. It is repeated with twice the memory and GPU share."""
    BASE_DAMAGED = "base damaged"
    """It could not start, because the checkpoint of its base is gone. The base is trained again."""
    STORE_FAILED = "store failed"
    """The store could not be read or written. That ends the run, and counts for no trial."""
    STOPPED = "stopped"
    """It was asked to stop and left a snapshot. It goes on from there."""

    @property
    def is_outcome(self) -> bool:
        """True if the training itself ended, so that a repetition would end in the same way."""
        return self in (Ending.COMPLETE, Ending.FAILED)

    @property
    def outcome(self) -> State:
        """State of a trial after an ending that is an outcome."""
        return State(self.value)


class State(enum.StrEnum):
    """State of a trial, or of a work item."""

    COMPLETE = "complete"
    """Trained to the end."""
    FAILED = "failed"
    """Its training failed."""
    LOST = "lost"
    """Given up, because its workers died or ran out of memory again and again."""
    SKIPPED = "skipped"
    """Never started, because the base that it copies failed, was lost or was skipped."""
    PRUNED = "pruned"
    """A trial of a study only: stopped early by the study's pruner."""
    WAITING = "waiting"
    """In a run: some of its parents have not ended."""
    READY = "ready"
    """In a run: it can be handed out."""
    RUNNING = "running"
    """In a run: it was handed out."""
    MISSING = "missing"
    """In a store: it has no row."""


OUTCOMES = (State.COMPLETE, State.FAILED, State.LOST, State.SKIPPED)
"""States that a row of the table `trials` can record, the most useful to a reader first."""

BAD_OUTCOMES = OUTCOMES[1:]
"""Outcomes without a result."""

STUDY_OUTCOMES = (State.COMPLETE, State.PRUNED, State.FAILED)
"""States that a row of the table `studies` can record."""
