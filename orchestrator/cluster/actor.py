"""The actor that carries out attempts, in a process that is reused for the next attempt."""

from __future__ import annotations

import sys
from typing import Any

import ray
from ray import tune

from orchestrator.cluster.draining import Drain, NodeLeavesError
from orchestrator.cluster.shipment import arrive
from orchestrator.execution import work, worker
from orchestrator.execution.assignment import Report, Work
from orchestrator.execution.worker import Stop
from orchestrator.states import Ending
from trainers.frames import refuse_breakpoint


class Worker(tune.Trainable):  # type: ignore[misc]
    """An actor that carries out one attempt after the other, one assignment per step."""

    def prepare(self) -> None:
        """Import what trainings need, before the first one."""
        arrive()
        worker.prepare()

    def carry_out(self, assignment: Work, stop: Stop) -> Report:
        return work.carry_out(assignment, stop=stop)

    def setup(self, config: dict[str, Any]) -> None:
        self.prepare()
        sys.breakpointhook = refuse_breakpoint  # Ray's would wait for a client without end
        self.assignments = [work.unpack(text) for text in config["assignments"]]
        node = ray.get_runtime_context().get_node_id()
        self.drain = Drain(key=config["drain"], node=node)

    def step(self) -> dict[str, Any]:
        assignment = self.assignments.pop(0)
        if self.drain():
            report = Report(assignment.id, Ending.STOPPED)
        else:
            report = self.carry_out(assignment, self.drain)
        if report.ending is Ending.STOPPED and self.drain.node_leaves:
            raise NodeLeavesError  # so that this process is given no other attempt
        return {"report": report, "done": not self.assignments}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the store has the checkpoints."""
