"""`Assignment`, which travels to a worker, and `Report`, which comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from orchestrator.execution.frontier import Attempt
from orchestrator.execution.provenance import git_commit
from orchestrator.plan.trial import Trial
from orchestrator.states import Ending
from orchestrator.store.store import Store
from orchestrator.sweep.records import recipe_from, training_from
from orchestrator.sweep.schema import Sweep
from trainers.canonical import canonical, to_json
from trainers.config import Training
from trainers.datasets.places import portable
from trainers.recipe import Recipe


class Work(Protocol):
    """Work that a worker carries out, as JSON values, so that it can be sent to any worker."""

    @property
    def ids(self) -> Sequence[str]:
        """Ids that the reports on it have: of a pack several, else one."""

    def to_json(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """One network to train."""

    training: str
    """Canonical JSON of the training."""
    labels: dict[str, Any]
    """Identity columns of the row."""
    argument: str
    """Name of the sweep on the command line, for the hint in an error message."""
    request: dict[str, Any]
    retries: int
    raises: int = 0
    checkpoints: dict[str, str]
    """SHA-256 of the checkpoints of the parents, by their ids."""
    keep_checkpoint: bool
    checkpoint_seconds: float
    """Seconds between snapshots."""
    store: str
    git_commit: str | None
    data_root: str | None = None
    """Folder of the dataset; `~` and environment variables are expanded on the worker."""
    source_root: str | None = None
    """Folder of the source's dataset, expanded likewise."""
    schedule: tuple[dict[str, Any], int] | None = None
    """Recipe that a study chose in place of the training's own, and the number of its trial."""
    replaces: str | None = None
    """Attempt whose complete row is to be replaced, "" for none. Another complete row ends the work
    before it begins. None to train in any case."""

    @property
    def id(self) -> str:
        trial: str = self.labels["id"]
        return trial

    @property
    def ids(self) -> Sequence[str]:
        return (self.id,)

    @classmethod
    def of(
        cls,
        trial: Trial,
        sweep: Sweep,
        store: Store,
        *,
        checkpoints: Mapping[str, str],
        attempt: Attempt | None = None,
        schedule: tuple[Recipe, int] | None = None,
        replaces: str | None = None,
    ) -> Assignment:
        """Return the assignment of an attempt at a trial; by default of its first attempt."""
        attempt = attempt or Attempt(trial.id, trial.request)
        return cls(
            training=canonical(trial.training),
            labels=trial.labels(),
            argument=trial.argument,
            request=attempt.request.model_dump(),
            retries=attempt.retries,
            raises=attempt.raises,
            checkpoints=dict(checkpoints),
            keep_checkpoint=trial.keep_checkpoint,
            checkpoint_seconds=sweep.checkpoint_seconds,
            store=store.root,
            git_commit=git_commit(),
            data_root=portable(trial.data_root),
            source_root=portable(trial.source_root),
            schedule=(to_json(schedule[0]), schedule[1]) if schedule else None,
            replaces=replaces,
        )

    def trained(self) -> Training:
        """Return the training with the recipe that is used: the chosen one, if there is one."""
        training = training_from(self.training)
        if self.schedule is None:
            assert training.schedule_from is None
            return training
        return replace(training, recipe=recipe_from(self.schedule[0]))

    def to_json(self) -> str:
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> Assignment:
        return cls(**json.loads(text))


OF_REPORT = (  # columns of a row that a report repeats, in the order of its fields
    *("id", "outcome", "error_message", "checkpoint", "seconds_total"),
    *("top1", "val_top1", "map50"),
)


@dataclass(frozen=True)
class Report:
    """End of an attempt at one assignment. The row in the store has the details."""

    trial: str
    """Id of the assignment: that of a trial or of a measurement."""
    ending: Ending
    message: str = ""
    checkpoint: str | None = None
    """SHA-256 of the final weights."""
    seconds: float = 0.0
    top1: float | None = None
    val_top1: float | None = None
    map50: float | None = None
    """Test mAP of a detector."""
    damaged_base: tuple[str, str] | None = None
    """Id of the base whose checkpoint could not be read, and the SHA-256 that it should have."""

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Report:
        """Return the report of a trial whose row, or its columns of `OF_REPORT`, is written."""
        id, outcome, message, *numbers = (row[name] for name in OF_REPORT)
        return cls(id, Ending(outcome), message or "", *numbers)
