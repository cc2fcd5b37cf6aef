"""A simulated cluster: nodes with workers, and a driver that uses them as Ray Tune does.

The driver is what the command `layerwise run` does, without a terminal: it holds a lease, opens a
run, hands its attempts to workers on nodes, and reports to the run how they ended.
"""

from __future__ import annotations

import functools
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import StoreError
from orchestrator.execution import work as works
from orchestrator.execution.assignment import Report
from orchestrator.execution.run import Job, Run
from orchestrator.plan.plan import Plan
from orchestrator.states import Ending, State
from orchestrator.store.leases import in_use
from orchestrator.store.store import Store
from tests.simulation.world import Process, World

WORKER_DEATHS = 3  # after which a trial is still tried again
MEMORY_RAISES = 3  # likewise
NODES, SLOTS = 2, 2  # of a cluster, and per node
PATIENCE = 10.0  # seconds that a run goes on after a failure of its store


@functools.lru_cache(maxsize=4000)
def work_of(text: str) -> works.Work:
    """Return the work that a text describes, once per text: nobody changes it."""
    return works.from_text(text)


class Silence:
    """The `Progress` that shows nothing."""

    def started(self, item: Any) -> None: ...

    def ended(self, item: Any, ending: Any, message: str, accuracy: Any = None) -> None: ...

    def given_up(self, item: Any, state: Any, reason: str) -> None: ...

    def again(self, item: Any) -> None: ...


@dataclass(eq=False)
class Worker:
    """A process that carries out the attempts of a job."""

    job: Job
    process: Process
    node: str
    reports: dict[str, Report] = field(default_factory=dict)
    leaves: bool = False
    """Its node is about to be taken away."""

    @property
    def items(self) -> tuple[str, ...]:
        return tuple(attempt.item for attempt in self.job.attempts)


class Driver:
    """One run of the command, with a cluster of its own."""

    number = 0

    def __init__(
        self, world: World, plan: Plan, root: str, name: str, *, retry_failed: bool = False
    ):
        self.retry_failed = retry_failed
        self.world, self.plan, self.root, self.name = world, plan, root, name
        self.nodes = [f"{name}.{number}" for number in range(NODES)]
        self.nodes_made = NODES
        self.workers: list[Worker] = []
        self.events: deque[tuple[Worker, Report | Ending, str]] = deque()
        self.draining = self.is_done = False
        self.run: Run | None = None
        self.refused = ""
        """Reason why the command ended before its run."""
        self.complete: set[str] = set()
        """Trials that it found complete, or was told to be."""
        self.counting: tuple[str, ...] = ()
        """Items of the job whose end is being noted. It may die meanwhile."""
        self.deaths: dict[str, int] = {}
        self.raises: dict[str, int] = {}
        self.process = world.spawn(name, self.main)

    # The driver's process -------------------------------------------------------------------------

    def main(self) -> None:
        try:
            store = Store(self.root)
            with in_use(store, self.plan.sweep.name):
                self.run = Run.open(self.plan, store, Silence(), retry_failed=self.retry_failed)
                states = self.run.frontier.state
                self.complete |= {id for id, one in states.items() if one is State.COMPLETE}
                self.run.slots = NODES * SLOTS
                self.carry_out(self.run)
                self.run.compact()
            self.is_done = self.run.done
        except StoreError as error:
            self.refused = str(error)
        if self.world.trace:
            reason = self.refused or (self.run and self.run.store_failure) or "no failure"
            self.world.trace(f"{self.world.now:9.3f} {self.name:22} ends: {reason}")

    def carry_out(self, run: Run) -> None:
        failed_at = None
        while True:
            while not self.draining and len(self.workers) < NODES * SLOTS:
                taken = run.take()
                if taken is None:
                    break
                self.start(run, taken)
            if run.store_failure and failed_at is None:
                failed_at, self.draining = self.world.now, True
                self.world.make_due(self.process, PATIENCE)
            if failed_at is not None and self.world.now >= failed_at + PATIENCE:
                break
            if not self.workers:
                break
            if not self.events:
                self.world.wait()
            while self.events:
                self.told(run, *self.events.popleft())
        self.world.kill(*(worker.process for worker in self.workers))

    def start(self, run: Run, job: Job) -> None:
        """Start a worker on the node with most room."""
        first = job.attempts[0]
        texts = [works.to_text(one) for one in job.works]
        busy = [worker.node for worker in self.workers]
        node = min(self.nodes, key=busy.count)
        lanes = f"+{len(job.attempts) - 1}" if len(job.attempts) > 1 else ""
        name = f"{self.name} {first.item[:6]}{lanes}.{first.retries}"

        def body() -> None:
            try:
                for text in texts:
                    one = work_of(text)
                    if self.stops(worker):
                        reports = [Report(id, Ending.STOPPED) for id in one.ids]
                    else:
                        reports = works.carry_out(one, stop=lambda: self.stops(worker))
                    stopped = any(report.ending is Ending.STOPPED for report in reports)
                    if stopped and worker.leaves and not self.draining:
                        self.send(worker, Ending.NODE_LOST, "it leaves")
                        return
                    for report in reports:
                        self.send(worker, report)
                self.send(worker, Ending.COMPLETE, "")
            except Exception as error:
                self.send(worker, Ending.WORKER_DIED, f"{type(error).__name__}: {error}")

        items = tuple(attempt.item for attempt in job.attempts)
        process = self.world.spawn(name, body, node=node, items=items)
        worker = Worker(job, process, node)
        self.workers.append(worker)
        run.started(job)

    def stops(self, worker: Worker) -> bool:
        return self.draining or worker.leaves

    def told(self, run: Run, worker: Worker, what: Report | Ending, message: str) -> None:
        """Take note of a report, or of the end of a job."""
        if worker not in self.workers:
            return  # it was taken for dead
        if isinstance(what, Report):
            worker.reports[what.trial] = what
            if not run.tell(worker.job, what):
                return
        elif what is not Ending.COMPLETE:
            for item in worker.items:
                worker.reports.setdefault(item, Report(item, what, message))
        self.workers.remove(worker)
        self.counting = worker.items
        for item in worker.items:
            self.count(worker, item)
        run.end(worker.job, worker.reports)
        self.counting = ()
        reports = [worker.reports[item] for item in worker.items]
        self.complete |= {one.trial for one in reports if one.ending is Ending.COMPLETE}

    def count(self, worker: Worker, item: str) -> None:
        """Count what an attempt has cost an item."""
        ending = worker.reports[item].ending
        if ending in (Ending.WORKER_DIED, Ending.BASE_DAMAGED):
            self.deaths[item] = self.deaths.get(item, 0) + 1
        if ending is Ending.OUT_OF_MEMORY and len(worker.items) == 1:  # else the pack is halved
            self.raises[item] = self.raises.get(item, 0) + 1

    def send(self, worker: Worker, what: Report | Ending, message: str = "") -> None:
        """Send something to the driver."""
        self.events.append((worker, what, message))
        if self.process.alive and not self.process.is_due:
            self.world.make_due(self.process, 0.001)

    @property
    def failure(self) -> str:
        """Reason why the store ended the run; empty if it did not."""
        return self.refused or (self.run.store_failure if self.run else "")

    def miscounted(self) -> list[str]:
        """Return the trials that were given up too early or too late."""
        problems = []
        states = self.run.frontier.state if self.run else {}
        for item, state in states.items():
            if item in self.counting:
                continue
            deaths, raises = self.deaths.get(item, 0), self.raises.get(item, 0)
            if (deaths > WORKER_DEATHS or raises > MEMORY_RAISES) != (state is State.LOST):
                counts = f"{deaths} deaths of its worker, and {raises} without memory"
                problems.append(f"{item} is {state} after {counts}")
        return problems

    # Faults ---------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self.process.alive

    def kill_worker(self, worker: Worker, ending: Ending = Ending.WORKER_DIED) -> None:
        self.send(worker, ending, "killed")
        self.world.kill(worker.process)

    def lose(self, node: str, *, frozen: bool = False) -> None:
        """Lose a node. Another one takes its place. A frozen one may be woken later."""
        self.replace(node)
        there = [one for one in self.workers if one.node == node]
        for worker in there:
            self.send(worker, Ending.NODE_LOST, "the node is gone")
            worker.process.frozen = frozen
        if not frozen:
            self.world.kill(*(worker.process for worker in there))

    def replace(self, node: str) -> None:
        self.nodes.remove(node)
        self.nodes.append(f"{self.name}.{self.nodes_made}")
        self.nodes_made += 1

    def leave(self, node: str) -> None:
        """Announce that a node will be taken away."""
        self.replace(node)
        for worker in self.workers:
            if worker.node == node:
                worker.leaves = True

    def kill(self, *, with_workers: bool = True) -> None:
        """Kill the driver. Ray ends its workers too; without, they go on for themselves."""
        own = [one.process for one in self.workers] if with_workers else []
        self.world.kill(self.process, *own)
