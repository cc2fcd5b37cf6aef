"""The actor that carries out jobs, in a process that is reused for the next one."""

from __future__ import annotations

from typing import Any

import ray
from ray import tune

from orchestrator import worker
from orchestrator.frontier import Ending
from orchestrator.launch.draining import Drain, NodeLeavesError
from orchestrator.worker import Assignment, Report, Stop


class Worker(tune.Trainable):  # type: ignore[misc]
    """An actor that carries out jobs, one trial a step; it is reused for the next job."""

    def prepare(self) -> None:
        """Import what trials need, before the first one."""
        worker.prepare()

    def carry_out(self, assignment: Assignment, stop: Stop) -> Report:
        return worker.run(assignment, stop=stop)

    def setup(self, config: dict[str, Any]) -> None:
        self.prepare()
        self.assignments = [Assignment.from_json(text) for text in config["trials"]]
        node = ray.get_runtime_context().get_node_id()
        self.drain = Drain(key=config["drain"], node=node)

    def step(self) -> dict[str, Any]:
        assignment = self.assignments.pop(0)
        if self.drain():
            report = Report(assignment.labels["id"], Ending.STOPPED)
        else:
            report = self.carry_out(assignment, self.drain)
        if report.ending is Ending.STOPPED and self.drain.node_leaves:
            raise NodeLeavesError  # and this process is given no other trial
        return {"report": report, "done": not self.assignments}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:  # noqa: ARG002 - the store has them
        return None
