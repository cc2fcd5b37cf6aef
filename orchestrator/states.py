"""Endings of an attempt at a work item, and states of a trial."""

from __future__ import annotations

import enum


class Ending(enum.Enum):
    """Ending of one attempt at a work item."""

    COMPLETE = "complete"
    """Training to the end; the row is written."""
    FAILED = "failed"
    """Failure of the training, for example a loss that is not a number. Not repeated."""
    NODE_LOST = "node lost"
    """Loss of the node, which disappeared or was taken away. Repeated without limit."""
    WORKER_DIED = "worker died"
    """Death of the worker on a living node. Repeated three times."""
    OUT_OF_MEMORY = "out of memory"
    """Lack of memory. Repeated with twice the memory and GPU share."""
    BASE_DAMAGED = "base damaged"
    """Damage to the checkpoint of its base, which is trained again first."""
    STORE_FAILED = "store failed"
    """Failure of the store, which ends the run and counts for no trial."""
    PACK_FAILED = "pack failed"
    """Failure of a pack of trials, for example for lack of memory. Repeated in smaller packs."""
    STOPPED = "stopped"
    """Requested stop. The next attempt resumes from its snapshot."""

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
