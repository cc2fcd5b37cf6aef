"""The frontier: packs of items that are handed out together."""

from __future__ import annotations

import pytest

from orchestrator.execution.frontier import Attempt, Frontier, Node
from orchestrator.states import Ending
from orchestrator.sweep.schema import Resources

ALIKE = {
    "base": Node(cost=2.0),
    **{f"copy{i}": Node(("base",), pack=0) for i in range(10)},
    "large": Node(pack=0, request=Resources(memory_gb=4)),
    "other": Node(pack=1),
}


def items(attempts: list[Attempt]) -> list[str]:
    return [attempt.item for attempt in attempts]


def test_a_pack_has_ready_items_of_one_kind_and_one_request() -> None:
    frontier = Frontier(ALIKE)
    assert items(frontier.take_pack(8)) == ["base"]
    assert items(frontier.take_pack(8)) == ["large"]
    assert items(frontier.take_pack(8)) == ["other"]
    assert frontier.take_pack(8) == []
    frontier.finish(Attempt("base", Resources()), Ending.COMPLETE, "")
    assert items(frontier.take_pack(8)) == [f"copy{i}" for i in range(8)]
    assert items(frontier.take_pack(8)) == ["copy8", "copy9"]
    assert frontier.take_pack(8) == []


@pytest.mark.parametrize(
    ("slots", "sizes"),
    [
        (1, [16, 8]),
        (2, [12, 12]),
        (4, [6] * 4),
        (16, [2] * 8 + [1] * 8),
        (100, [1] * 24),
    ],
)
def test_ready_items_are_divided_among_idle_slots(slots: int, sizes: list[int]) -> None:
    frontier = Frontier({f"t{i:02}": Node(pack=0) for i in range(24)})
    idle, taken = slots, []
    while attempts := frontier.take_pack(16, slots, max(idle, 1)):
        taken.append(len(attempts))
        idle -= 1
    assert taken == sizes


def test_packs_are_not_too_small_while_no_slot_is_idle() -> None:
    frontier = Frontier({f"t{i:02}": Node(pack=0) for i in range(24)})
    sizes = []
    while attempts := frontier.take_pack(16, slots=2, idle=0):
        sizes.append(len(attempts))
    assert sizes == [12, 6, 4, 2]


def test_a_pack_that_failed_is_repeated_in_halves_and_a_dead_one_one_by_one() -> None:
    frontier = Frontier({f"t{i}": Node(pack=0) for i in range(4)})
    sizes = []
    for ending in (Ending.PACK_FAILED, Ending.PACK_FAILED, Ending.WORKER_DIED):
        attempts = frontier.take_pack(16)
        sizes.append(len(attempts))
        for attempt in attempts:
            frontier.finish(attempt, ending, "why")
    while attempts := frontier.take_pack(16):
        sizes.append(len(attempts))
        for attempt in attempts:
            frontier.finish(attempt, Ending.COMPLETE, "")
    assert sizes == [4, 2, 1, 1, 1, 2]
    assert frontier.done
