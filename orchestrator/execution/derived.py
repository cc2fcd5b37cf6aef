"""Work on trained networks that leaves rows of its own: what measurements and extractions share.

It is repeated, lost and skipped as a trial is. It is complete as long as its rows name the weights
that its networks have now.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol

from orchestrator.errors import StoreError
from orchestrator.execution.assignment import Report, Work
from orchestrator.execution.frontier import Attempt, Node
from orchestrator.execution.items import Bench, Unit
from orchestrator.execution.provenance import versions
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.schemas import SCHEMAS
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from trainers.canonical import ConfigError
from trainers.checkpoint import CheckpointError

Row = Mapping[str, Any]


class Derivation(Protocol):
    """A measurement or an extraction of a plan."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str:
        """Name that progress shows."""

    @property
    def networks(self) -> tuple[str, ...]:
        """Ids of the networks, and files of weights, that must be complete before."""

    @property
    def request(self) -> Resources: ...

    def flops(self, plan: Plan) -> float:
        """Return the floating-point operations, about, two per multiply-add."""


def _without_files(store: Store, rows: Sequence[Row]) -> set[str]:  # noqa: ARG001
    return {row["id"] for row in rows}


class Kind(NamedTuple):
    """One kind of such work."""

    unit: Unit
    table: str
    planned: Callable[[Plan], Mapping[str, Any]]
    """Returns those of a plan by id."""
    assign: Callable[[Any, Bench, Attempt], Work]
    """Returns the assignment of one whose networks are complete."""
    whole: Callable[[Store, Sequence[Row]], set[str]] = _without_files
    """Returns the ids of the rows whose files are all there."""


class DerivedAssignment(Work, Protocol):
    """One measurement or extraction to carry out."""

    @property
    def id(self) -> str: ...

    @property
    def name(self) -> str: ...

    @property
    def request(self) -> dict[str, Any]: ...

    @property
    def store(self) -> str: ...

    @property
    def networks(self) -> Sequence[tuple[str, str]]:
        """Id, and SHA-256 of the weights, of each network."""

    def columns(self) -> dict[str, Any]:
        """Return the columns that all of its rows share."""


def carry_out(
    assignment: DerivedAssignment,
    table: str,
    rows_of: Callable[[Store, Sequence[bytes]], Sequence[Row] | None],
) -> Report:
    """Read the weights, do the work and write the rows. Return how that ended.

    `rows_of` returns None if it was stopped. See `worker.run` for what is raised.
    """
    from trainers.datasets import DataError
    from trainers.devices import free_memory, is_out_of_memory
    from trainers.networks import NetworkError

    began = time.perf_counter()
    device = "cuda" if assignment.request["gpu"] else "cpu"
    try:
        store = Store(assignment.store)
        store.require()
        weights = []
        for place in assignment.networks:
            try:
                weights.append(store.get_checkpoint(*place, cached=True))
            except CheckpointError as error:
                return Report(assignment.id, Ending.BASE_DAMAGED, str(error), damaged_base=place)
        rows: Sequence[Row] | None
        try:
            rows, message, ending = rows_of(store, weights), "", Ending.COMPLETE
        except (NetworkError, DataError, ConfigError, CheckpointError) as error:
            message, ending = f"{assignment.name}: {error}", Ending.FAILED
            rows = [{"error_message": message}]
        if rows is None:
            return Report(assignment.id, Ending.STOPPED)
        seconds = time.perf_counter() - began
        shared = {
            **dict.fromkeys(SCHEMAS[table].names),
            **assignment.columns(),
            "id": assignment.id,
            "outcome": ending.outcome.value,
            "seconds": seconds,
            "device": device,
            "host": socket.gethostname(),
            "versions": versions(),
            "ended": datetime.now(UTC),
        }
        store.write_derived(table, [{**shared, **row} for row in rows])
        return Report(assignment.id, ending, message, seconds=seconds)
    except StoreError as error:
        return Report(assignment.id, Ending.STORE_FAILED, str(error))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return Report(assignment.id, Ending.OUT_OF_MEMORY, reason)
    finally:
        free_memory(device)


@dataclass
class DerivedItem:
    """One measurement or extraction of trained networks."""

    one: Derivation
    kind: Kind
    node: Node
    bench: Bench
    is_shown: bool = True
    part_of: str | None = None

    @property
    def id(self) -> str:
        return self.one.id

    @property
    def name(self) -> str:
        return self.one.name

    @property
    def unit(self) -> Unit:
        return self.kind.unit

    def begin(self, attempt: Attempt) -> Sequence[Work]:
        """Return the assignment, unless a network that was trained again has its old weights."""
        store = self.bench.store
        row = store.derived(self.kind.table, [self.id]).get(self.id)
        if (
            row is not None
            and row["outcome"] == State.COMPLETE
            and _is_current(self.one, row, self.bench.checkpoints)
            and self.kind.whole(store, [row])
        ):
            return []
        return [self.kind.assign(self.one, self.bench, attempt)]

    def tell(self, report: Report) -> bool:  # noqa: ARG002
        return False

    def end(self, reports: Mapping[str, Report]) -> tuple[Ending, str]:
        report = reports.get(self.id, Report(self.id, Ending.COMPLETE))
        return report.ending, report.message

    def give_up(self, state: State, reason: str) -> None:
        """Do nothing: the next run tries again, and rows say why networks are missing."""


class DerivedRun:
    """The measurements or extractions of a run, and what of them the store holds already."""

    def __init__(
        self,
        kind: Kind,
        plan: Plan,
        store: Store,
        trials: Collection[str],
        complete: Iterable[str],
        *,
        retry_failed: bool = False,
    ):
        """Take those whose networks are all among `trials`, of which some are complete."""
        self.kind, self.plan = kind, plan
        known = {*trials, *plan.weights}
        self.members: dict[str, Any] = {
            id: x for id, x in kind.planned(plan).items() if known.issuperset(x.networks)
        }
        """The measurements or extractions by id."""
        networks = {id for x in self.members.values() for id in x.networks}
        current = {id: plan.weights[id].sha256 for id in networks & plan.weights.keys()}
        current |= store.checkpoints(sorted(networks & set(complete)))
        rows = store.derived(kind.table, self.members)
        rows = {id: x for id, x in rows.items() if _is_current(self.members[id], x, current)}
        whole = kind.whole(store, list(rows.values()))
        self.rows = {id: row for id, row in rows.items() if id in whole}
        """A row of each that has rows of the weights that its networks have now."""
        settled = self.complete() | (set() if retry_failed else self.failed().keys())
        open_ones = self.members.keys() - settled
        self.is_open = bool(open_ones)
        """True if there is something to do."""
        self.networks = {id for one in open_ones for id in self.members[one].networks}
        """Ids of the networks whose weights are needed."""
        of_trials = sorted(self.networks - plan.weights.keys())
        self.lacking = store.check_weights(of_trials)
        """Paths of their missing weights, by id. These networks must be trained again."""
        self.checkpoints = {
            id: current[id] for id in of_trials if id in current and id not in self.lacking
        }

    def items(self, bench: Bench) -> dict[str, DerivedItem]:
        """Return them as work items, by id. One that has rows waits for no network."""
        items = {}
        for id, one in self.members.items():
            needs = one.networks if self.networks.issuperset(one.networks) else ()
            node = Node(needs, one.flops(self.plan), one.request)
            items[id] = DerivedItem(one, self.kind, node, bench)
        return items

    def complete(self) -> set[str]:
        """Ids of those that need not be repeated."""
        return {id for id, row in self.rows.items() if row["outcome"] == State.COMPLETE}

    def failed(self) -> dict[str, str]:
        """Ids of those that failed in an earlier run, and why."""
        return {
            id: row["error_message"]
            for id, row in self.rows.items()
            if row["outcome"] == State.FAILED
        }


def _is_current(one: Derivation, row: Row, checkpoints: Mapping[str, str]) -> bool:
    """Return whether a row is of the weights that the networks have, and of no earlier ones."""
    weights = (row["checkpoint"], row.get("other_checkpoint"))
    return all(
        sha256 == checkpoints.get(network)
        for network, sha256 in zip(one.networks, weights, strict=False)
    )
