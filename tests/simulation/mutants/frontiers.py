"""Mutants of the frontier: what an attempt's end does to a trial and its children."""

from __future__ import annotations

from typing import Any

from orchestrator.execution import frontier
from orchestrator.states import Ending, State
from tests.simulation.mutants.declared import Mutants

MUTANTS = Mutants()
FINISH_ATTEMPT = frontier.Frontier.finish


def _as(**endings: Ending) -> Any:
    def finish(self: Any, attempt: Any, ending: Ending, *more: Any) -> Any:
        return FINISH_ATTEMPT(self, attempt, endings.get(ending.name, ending), *more)

    return finish


for name, what, endings in (
    (
        "lost_node_counts",
        "A lost node counts as a death of the worker.",
        {"NODE_LOST": Ending.WORKER_DIED},
    ),
    (
        "death_does_not_count",
        "A dead worker counts as a lost node.",
        {"WORKER_DIED": Ending.NODE_LOST},
    ),
    ("death_is_failure", "A dead worker is a failed training.", {"WORKER_DIED": Ending.FAILED}),
    ("failure_is_repeated", "A failed training is repeated.", {"FAILED": Ending.WORKER_DIED}),
    (
        "memory_counts_as_death",
        "A lack of memory is a death.",
        {"OUT_OF_MEMORY": Ending.WORKER_DIED},
    ),
):
    MUTANTS.add(name, what, (frontier.Frontier, "finish", _as(**endings)))

MUTANTS.add(
    "one_death_fewer", "A trial is lost at the third death.", (frontier, "WORKER_DEATHS", 2)
)
MUTANTS.add("one_death_more", "A trial is lost at the fifth death.", (frontier, "WORKER_DEATHS", 4))
MUTANTS.add(
    "same_memory",
    "The request is not raised.",
    (frontier, "with_more_memory", lambda request: request),
)


@MUTANTS.mutant("Retries are not counted.", (frontier.Frontier, "_repeat"))
def retries_are_not_counted(self: Any, id: str) -> None:
    self._wait(id)


@MUTANTS.mutant("Children of a failed base wait for ever.", (frontier.Frontier, "_fail_below"))
def nothing_is_skipped(self: Any, id: str) -> None: ...


@MUTANTS.mutant("Children of a failed base begin.", (frontier.Frontier, "_fail_below"))
def children_of_a_failed_base_begin(self: Any, id: str) -> None:
    self._release_below(id)


@MUTANTS.mutant(
    "Children do not wait for a base that is trained again.", (frontier.Frontier, "redo")
)
def children_do_not_wait(self: Any, id: str) -> None:
    self._set(id, State.WAITING)
    self._offer(id)
