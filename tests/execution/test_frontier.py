"""The frontier: the choice of the next item, and items whose attempts end badly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execution.frontier import (
    MEMORY_RAISES,
    WORKER_DEATHS,
    Attempt,
    Frontier,
    GivenUp,
    Node,
    with_more_memory,
)
from orchestrator.states import OUTCOMES, Ending, State
from orchestrator.sweep.schema import Resources

COMPLETE, FAILED, LOST, SKIPPED = State.COMPLETE, State.FAILED, State.LOST, State.SKIPPED


# Any graph, any endings -------------------------------------------------------------------------


@dataclass
class Case:
    """A graph, what is known of it, the number of slots, and the endings of attempts in turn."""

    nodes: dict[str, Node]
    complete: set[str]
    failed: dict[str, str]
    slots: int
    endings: list[Ending]


@st.composite
def cases(draw: st.DrawFn) -> Case:
    nodes: dict[str, Node] = {}
    for number in range(draw(st.integers(0, 10))):
        parents = draw(st.sets(st.sampled_from(sorted(nodes)), max_size=3)) if nodes else set()
        request = Resources(
            gpu=draw(st.sampled_from([0.0, 0.25, 1.0])),
            memory_gb=draw(st.sampled_from([None, 1.0])),
        )
        cost = draw(st.integers(0, 5))
        nodes[f"t{number}"] = Node(tuple(sorted(parents)), float(cost), request)
    known = st.sets(st.sampled_from(sorted(nodes))) if nodes else st.just(set())
    return Case(
        nodes=nodes,
        complete=draw(known),
        failed=dict.fromkeys(sorted(draw(known)), "it failed before"),
        slots=draw(st.integers(1, 4)),
        endings=draw(st.lists(st.sampled_from(list(Ending)), max_size=60)),
    )


@dataclass
class History:
    """Events of one run of a case."""

    frontier: Frontier
    taken: list[Attempt] = field(default_factory=list)
    ended: list[tuple[str, Ending]] = field(default_factory=list)
    given_up: list[GivenUp] = field(default_factory=list)


def carry_out(
    case: Case, watch: Callable[[Frontier, Attempt], None] = lambda *_: None, redo: bool = False
) -> History:
    """Run a case to its end; attempts beyond the listed endings complete.

    With `redo` a base that was damaged is handed out again, if it is complete.
    """
    frontier = Frontier(case.nodes, case.complete, case.failed)
    history = History(frontier, given_up=frontier.take_given_up())
    endings: Iterator[Ending] = iter(case.endings)
    running: list[Attempt] = []
    while True:
        while len(running) < case.slots:
            ready = {id for id, state in frontier.state.items() if state is State.READY}
            attempt = frontier.take()
            assert (attempt is None) == (not ready)
            if attempt is None:
                break
            assert attempt.item in ready
            watch(frontier, attempt)
            history.taken.append(attempt)
            running.append(attempt)
        if not running:
            return history
        attempt = running.pop(0)
        id = attempt.item
        ending = next(endings, Ending.COMPLETE)
        history.ended.append((id, ending))
        for parent in case.nodes[id].parents:
            if redo and ending is Ending.BASE_DAMAGED and frontier.state[parent] is COMPLETE:
                frontier.redo(parent)
        history.given_up += frontier.finish(attempt, ending, "why")


@given(cases())
def test_parents_are_complete_before_a_child_is_handed_out(case: Case) -> None:
    def watch(frontier: Frontier, attempt: Attempt) -> None:
        id = attempt.item
        assert frontier.state[id] is State.RUNNING
        assert all(frontier.state[parent] is COMPLETE for parent in case.nodes[id].parents)

    carry_out(case, watch)
    assert carry_out(case, watch, redo=True).frontier.done


@given(cases())
def test_every_trial_ends(case: Case) -> None:
    history = carry_out(case)
    frontier = history.frontier
    assert frontier.done
    assert set(frontier.state.values()) <= set(OUTCOMES)
    assert {state: n for state, n in frontier.tally.items() if n} == Counter(
        frontier.state.values()
    )
    known = case.complete | set(case.failed)
    for id, state in frontier.state.items():
        spoilt = any(frontier.state[parent] is not COMPLETE for parent in case.nodes[id].parents)
        if id in case.complete:
            assert state is COMPLETE
        elif id in case.failed:
            assert state is FAILED
        else:
            assert (state is SKIPPED) == spoilt
    assert not known & {attempt.item for attempt in history.taken}


@given(cases())
def test_nothing_is_handed_out_again_but_for_a_retry(case: Case) -> None:
    history = carry_out(case)
    attempts = Counter(attempt.item for attempt in history.taken)
    endings: dict[str, list[Ending]] = {id: [] for id in case.nodes}
    for id, ending in history.ended:
        endings[id].append(ending)
    for id, ended in endings.items():
        assert attempts[id] == len(ended)
        assert all(ending not in (Ending.COMPLETE, Ending.FAILED) for ending in ended[:-1])
        assert ended.count(Ending.WORKER_DIED) <= WORKER_DEATHS + 1
        assert ended.count(Ending.OUT_OF_MEMORY) <= MEMORY_RAISES + 1
        state = history.frontier.state[id]
        if ended and ended[-1] is Ending.COMPLETE:
            assert state is COMPLETE
        elif ended and ended[-1] is Ending.FAILED:
            assert state is FAILED
        elif ended:
            assert state is LOST
            assert ended[-1] is not Ending.NODE_LOST
    for number, attempt in enumerate(history.taken):
        earlier = [other for other in history.taken[:number] if other.item == attempt.item]
        assert attempt.retries == len(earlier)


@given(cases())
def test_each_item_is_given_up_once(case: Case) -> None:
    history = carry_out(case)
    states = {item.item: item.state for item in history.given_up}
    assert len(states) == len(history.given_up)
    assert states == {id: s for id, s in history.frontier.state.items() if s in (LOST, SKIPPED)}
    assert all(item.reason.endswith(("why", "it failed before")) for item in history.given_up)
    assert history.frontier.take_given_up() == []


@given(cases())
def test_the_longest_path_goes_first(case: Case) -> None:
    def below(id: str) -> float:
        children = [child for child, node in case.nodes.items() if id in node.parents]
        return case.nodes[id].cost + max(map(below, children), default=0)

    def watch(frontier: Frontier, attempt: Attempt) -> None:
        id = attempt.item
        waiting = [other for other, state in frontier.state.items() if state is State.READY]
        assert all(below(id) >= below(other) for other in waiting)

    carry_out(case, watch)


@given(cases())
def test_the_same_again_is_the_same(case: Case) -> None:
    first, second = carry_out(case), carry_out(case)
    assert first.taken == second.taken
    assert first.given_up == second.given_up
    assert first.frontier.state == second.frontier.state


@given(cases())
def test_requests_only_rise(case: Case) -> None:
    last: dict[str, Resources] = {}
    for attempt in carry_out(case).taken:
        id = attempt.item
        before = last.get(id, case.nodes[id].request)
        assert attempt.request.gpu >= before.gpu
        assert (attempt.request.memory_gb or 0) >= (before.memory_gb or 0)
        last[id] = attempt.request


# Plain examples ---------------------------------------------------------------------------------

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


# Packs ------------------------------------------------------------------------------------------

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
