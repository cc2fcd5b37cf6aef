"""Mutants of packs: trials that are trained together in one process."""

from __future__ import annotations

from typing import Any

from orchestrator.execution import frontier, run, worker
from orchestrator.states import Ending, State
from tests.simulation.mutants.declared import Mutants

MUTANTS = Mutants()
FINISH_ATTEMPT = frontier.Frontier.finish


@MUTANTS.mutant(
    "A complete row that nobody reported is trained again.", (worker.Training, "ended_before")
)
def unheard_rows_are_replaced(self: Any) -> None:
    self.before = self._completed_row()


@MUTANTS.mutant(
    "A late report of a damaged base trains it once more. Fault of this project until now.",
    (run.Run, "_train_again"),
)
def late_reports_count(self: Any, base: str, checkpoint: str) -> None:
    is_newest = self.bench.checkpoints[base] == checkpoint
    if is_newest and self.frontier.state[base] is State.COMPLETE:
        self.frontier.redo(base)


@MUTANTS.mutant("A pack that fails is not halved.", (frontier.Frontier, "finish"))
def packs_are_not_halved(self: Any, attempt: Any, ending: Ending, *more: Any) -> Any:
    size = self.most[attempt.item]
    given_up = FINISH_ATTEMPT(self, attempt, ending, *more)
    if ending is Ending.PACK_FAILED:
        self.most[attempt.item] = size
    return given_up


@MUTANTS.mutant("A pack without memory raises the requests of its trials.", (run.Run, "_end"))
def packs_ask_for_more(self: Any, attempt: Any, reports: Any, can: Any, lanes: int) -> None:  # noqa: ARG001
    END_ATTEMPT(self, attempt, reports, can, 1)


END_ATTEMPT = run.Run._end


@MUTANTS.mutant(
    "A trial whose worker died shares a pack again.", (frontier.Frontier, "_count_death")
)
def deaths_are_shared(self: Any, id: str, ending: Ending, reason: str) -> None:
    size = self.most[id]
    COUNT_DEATH(self, id, ending, reason)
    self.most[id] = size


COUNT_DEATH = frontier.Frontier._count_death
