"""The frontier: the choice of the next item, and items whose attempts end badly."""

from __future__ import annotations

import pytest

from orchestrator.execution.frontier import (
    WORKER_DEATHS,
    Attempt,
    Frontier,
    GivenUp,
    Node,
    with_more_memory,
)
from orchestrator.states import Ending, State
from orchestrator.sweep.schema import Resources

COMPLETE, FAILED, LOST, SKIPPED = State.COMPLETE, State.FAILED, State.LOST, State.SKIPPED


CHAIN = {"base": Node(), "copy": Node(("base",)), "copy of copy": Node(("copy",)), "other": Node()}


def end(frontier: Frontier, ending: Ending, reason: str = "why") -> list[GivenUp]:
    """Take the next attempt and end it so."""
    attempt = frontier.take()
    assert attempt is not None
    return frontier.finish(attempt, ending, reason)


def take(frontier: Frontier) -> str | None:
    attempt = frontier.take()
    return attempt.item if attempt else None


def test_an_empty_plan_is_done() -> None:
    frontier = Frontier({})
    assert frontier.done
    assert frontier.take() is None


def test_a_chain_beside_a_single_trial() -> None:
    frontier = Frontier(CHAIN)
    base = frontier.take()
    assert base == Attempt("base", Resources())
    assert take(frontier) == "other"
    assert frontier.take() is None
    assert frontier.finish(base, Ending.COMPLETE, "") == []
    assert take(frontier) == "copy"
    assert not frontier.done


def test_complete_trials_of_the_store_do_not_run() -> None:
    frontier = Frontier(CHAIN, complete=["base", "other"])
    assert take(frontier) == "copy"
    assert frontier.take() is None


def test_a_child_in_the_store_does_not_wait_for_its_base() -> None:
    """The base is trained again because its checkpoint is gone; the child is complete."""
    frontier = Frontier(CHAIN, complete=["copy", "other"])
    assert frontier.state["copy of copy"] is State.READY
    assert end(frontier, Ending.FAILED) == []
    assert frontier.state["copy"] is COMPLETE
    assert take(frontier) == "copy of copy"


def test_a_failed_base_skips_everything_below() -> None:
    frontier = Frontier(CHAIN)
    assert end(frontier, Ending.FAILED, "loss is nan") == [
        GivenUp("copy", SKIPPED, "its parent base failed: loss is nan"),
        GivenUp("copy of copy", SKIPPED, "its parent copy skipped: loss is nan"),
    ]
    assert end(frontier, Ending.COMPLETE) == []
    assert frontier.done
    assert [state.value for state in frontier.state.values()] == [
        "failed", "skipped", "skipped", "complete",
    ]  # fmt: skip


def test_failed_trials_do_not_run_again() -> None:
    frontier = Frontier(CHAIN, complete=["other"], failed={"base": "loss is nan"})
    assert frontier.done
    assert frontier.take_given_up() == [
        GivenUp("copy", SKIPPED, "its parent base failed: loss is nan"),
        GivenUp("copy of copy", SKIPPED, "its parent copy skipped: loss is nan"),
    ]


def test_a_worker_that_dies_is_tried_three_times_more() -> None:
    frontier = Frontier({"a": Node()})
    for retries in range(3):
        assert end(frontier, Ending.WORKER_DIED) == []
        assert frontier.retries["a"] == retries + 1
    assert end(frontier, Ending.WORKER_DIED, "signal 9") == [
        GivenUp("a", LOST, "the worker died 4 times; last reason: signal 9")
    ]
    assert frontier.done


def test_a_damaged_base_comes_first_again() -> None:
    nodes = {"base": Node()} | {name: Node(("base",)) for name in ("one", "two", "three", "four")}
    frontier = Frontier(nodes, complete=["one"])
    end(frontier, Ending.COMPLETE)
    two, three = frontier.take(), frontier.take()
    assert two is not None
    assert three is not None
    frontier.redo("base")
    frontier.finish(two, Ending.BASE_DAMAGED, "its checkpoint is missing")
    frontier.finish(three, Ending.COMPLETE, "")
    again = frontier.take()
    assert again == Attempt("base", Resources())
    assert frontier.take() is None  # not four, which was ready, nor two
    frontier.finish(again, Ending.COMPLETE, "")
    left = [frontier.take(), frontier.take()]
    assert [attempt and attempt.item for attempt in left] == ["two", "four"]
    assert frontier.take() is None
    assert left[0] is not None
    assert left[0].retries == 1


def test_a_child_that_runs_while_its_base_is_trained_again_and_fails() -> None:
    """It may complete. If it must be repeated, it is skipped."""
    nodes = {"base": Node(), "one": Node(("base",)), "two": Node(("base",))}
    frontier = Frontier(nodes)
    end(frontier, Ending.COMPLETE)
    one, two = frontier.take(), frontier.take()
    assert one is not None
    assert two is not None
    frontier.redo("base")
    assert end(frontier, Ending.FAILED, "loss is nan") == []
    assert frontier.finish(one, Ending.COMPLETE, "") == []
    assert frontier.finish(two, Ending.NODE_LOST, "gone") == [
        GivenUp("two", SKIPPED, "its parent base failed: loss is nan")
    ]
    assert frontier.done


def test_a_complete_trial_is_skipped_if_it_cannot_be_trained_again() -> None:
    """It is complete in the store, its own parent failed, and its checkpoint is damaged."""
    nodes = {"a": Node(), "b": Node(("a",)), "c": Node(("b",))}
    frontier = Frontier(nodes, complete=["b"], failed={"a": "loss is nan"})
    attempt = frontier.take()
    assert attempt is not None
    frontier.redo("b")
    assert frontier.finish(attempt, Ending.BASE_DAMAGED, "gone") == [
        GivenUp("b", SKIPPED, "its parent a failed: loss is nan"),
        GivenUp("c", SKIPPED, "its parent b skipped: loss is nan"),
    ]
    assert frontier.done


def test_a_base_that_is_damaged_again_and_again() -> None:
    frontier = Frontier(CHAIN, complete=["base"])
    for _ in range(3):
        attempt = frontier.take()
        assert attempt is not None
        assert attempt.item == "copy"
        assert frontier.finish(attempt, Ending.BASE_DAMAGED, "gone") == []
    attempt = frontier.take()
    assert attempt is not None
    [lost, _] = frontier.finish(attempt, Ending.BASE_DAMAGED, "gone")
    assert lost == GivenUp("copy", LOST, "the base was damaged 4 times; last reason: gone")


@pytest.mark.parametrize("ending", [Ending.NODE_LOST, Ending.STOPPED])
def test_lost_nodes_and_stops_are_retried_without_limit(ending: Ending) -> None:
    frontier = Frontier({"a": Node()})
    for _ in range(100):
        assert end(frontier, ending) == []
    assert frontier.take() == Attempt("a", Resources(), 100)


def test_out_of_memory_raises_the_request() -> None:
    frontier = Frontier({"a": Node(request=Resources(gpu=0.3, memory_gb=2))})
    asked = []
    while not frontier.done:
        attempt = frontier.take()
        assert attempt is not None
        asked.append((attempt.request.gpu, attempt.request.memory_gb))
        given_up = frontier.finish(attempt, Ending.OUT_OF_MEMORY, "2 GiB missing")
    assert asked == [(0.3, 2), (0.6, 4), (1.0, 8), (1.0, 16)]
    assert given_up == [GivenUp("a", LOST, "out of memory with 1 GPU and 16 GB: 2 GiB missing")]


def test_out_of_memory_with_nothing_to_raise() -> None:
    frontier = Frontier({"a": Node()})
    assert end(frontier, Ending.OUT_OF_MEMORY, "killed") == [
        GivenUp("a", LOST, "out of memory with no GPU: killed")
    ]


def test_out_of_memory_with_no_larger_node() -> None:
    frontier = Frontier({"a": Node(request=Resources(memory_gb=6))})

    def on_16_gb(request: Resources) -> bool:
        return request.memory_gb is None or request.memory_gb <= 16

    def run_out() -> list[GivenUp]:
        attempt = frontier.take()
        assert attempt is not None
        return frontier.finish(attempt, Ending.OUT_OF_MEMORY, "killed", on_16_gb)

    assert run_out() == []
    assert run_out() == [
        GivenUp(
            "a", LOST, "out of memory with no GPU and 12 GB, and no node has twice that: killed"
        )
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Resources(), Resources()),
        (Resources(gpu=0.25), Resources(gpu=0.5)),
        (Resources(gpu=0.75), Resources(gpu=1)),
        (Resources(gpu=2, memory_gb=1), Resources(gpu=2, memory_gb=2)),
        (Resources(cpu=3, custom={"fast": 1}), Resources(cpu=3, custom={"fast": 1})),
    ],
)
def test_more_memory(before: Resources, after: Resources) -> None:
    assert with_more_memory(before) == after


def test_long_paths_start_first() -> None:
    frontier = Frontier(
        {
            "short": Node(cost=3),
            "base": Node(cost=1),
            "alone": Node(cost=4),
            "copy": Node(("base",), cost=5),
            "equal": Node(cost=3),
        }
    )
    order = [take(frontier) for _ in range(5)]
    assert order == ["base", "alone", "short", "equal", None]
    assert sorted(frontier.nodes, key=frontier.rank) == ["base", "copy", "alone", "short", "equal"]


def test_everything_is_taken_until_something_is_to_be_tried_again() -> None:
    frontier = Frontier({"base": Node(), "copy": Node(("base",))})
    assert not frontier.all_taken
    base = frontier.take()
    assert base is not None
    assert not frontier.all_taken  # its copy waits
    frontier.finish(base, Ending.COMPLETE, "")
    copy = frontier.take()
    assert copy is not None
    assert frontier.all_taken
    assert not frontier.done
    frontier.finish(copy, Ending.NODE_LOST, "")
    assert not frontier.all_taken
    assert end(frontier, Ending.COMPLETE) == []
    assert frontier.all_taken
    assert frontier.done


def test_a_trial_with_two_parents_waits_for_both() -> None:
    frontier = Frontier({"a": Node(), "b": Node(), "c": Node(("a", "b"))})
    end(frontier, Ending.COMPLETE)
    assert take(frontier) == "b"
    assert frontier.take() is None


def test_parents_must_come_first() -> None:
    with pytest.raises(ValueError, match=r"^copy comes before its parent base$"):
        Frontier({"copy": Node(("base",)), "base": Node()})
    with pytest.raises(ValueError, match=r"^copy comes before its parent base$"):
        Frontier({"copy": Node(("base",))})


OPTIONAL = {
    "a": Node(may_fail=True),
    "b": Node(("a",), may_fail=True),
    "c": Node(("b",)),
    "d": Node(("c",)),
}


def test_children_start_after_a_parent_that_may_fail() -> None:
    frontier = Frontier(OPTIONAL)
    assert take(frontier) == "a"
    attempt = Attempt("a", Resources())
    assert frontier.finish(attempt, Ending.FAILED, "why") == []
    assert end(frontier, Ending.FAILED) == []
    assert [given.item for given in end(frontier, Ending.FAILED)] == ["d"]
    assert frontier.done


def test_children_start_after_a_lost_parent_that_may_fail() -> None:
    frontier = Frontier(OPTIONAL)
    for _ in range(WORKER_DEATHS):
        assert end(frontier, Ending.WORKER_DIED) == []
    [lost] = end(frontier, Ending.WORKER_DIED)
    assert (lost.item, lost.state) == ("a", State.LOST)
    assert take(frontier) == "b"


def test_children_start_if_a_parent_that_may_fail_failed_before() -> None:
    frontier = Frontier(OPTIONAL, complete=["b"], failed={"a": "why"})
    assert frontier.take_given_up() == []
    assert take(frontier) == "c"


def test_an_item_that_may_fail_is_skipped_with_its_descendants_if_its_parent_failed() -> None:
    frontier = Frontier({"base": Node(), "a": Node(("base",), may_fail=True), "b": Node(("a",))})
    assert [given.item for given in end(frontier, Ending.FAILED)] == ["a", "b"]
    assert frontier.done


def test_a_job_ends_once() -> None:
    frontier = Frontier({"a": Node()})
    attempt = frontier.take()
    assert attempt is not None
    frontier.finish(attempt, Ending.COMPLETE, "")
    with pytest.raises(AssertionError, match="a is complete"):
        frontier.finish(attempt, Ending.COMPLETE, "")
