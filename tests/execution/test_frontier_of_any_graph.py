"""Properties of the frontier that hold for any graph and any endings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.execution.frontier import (
    MEMORY_RAISES,
    WORKER_DEATHS,
    Attempt,
    Frontier,
    GivenUp,
    Node,
)
from orchestrator.states import OUTCOMES, Ending, State
from orchestrator.sweep.schema import Resources

COMPLETE, FAILED, LOST, SKIPPED = State.COMPLETE, State.FAILED, State.LOST, State.SKIPPED


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
