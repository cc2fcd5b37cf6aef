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
    """An actor that carries out one job after the other, one piece of work per step."""

    def prepare(self) -> None:
        """Import what trainings need, before the first one."""
        arrive()
        worker.prepare()

    def carry_out(self, one: Work, stop: Stop) -> list[Report]:
        return work.carry_out_watched(one, stop=stop)

    def setup(self, config: dict[str, Any]) -> None:
        self.prepare()
        sys.breakpointhook = refuse_breakpoint  # Ray's would wait for a client without end
        self.works = [work.from_text(text) for text in config["works"]]
        node = ray.get_runtime_context().get_node_id()
        self.drain = Drain(key=config["drain"], node=node)

    def step(self) -> dict[str, Any]:
        one = self.works.pop(0)
        if self.drain():
            reports = [Report(id, Ending.STOPPED) for id in one.ids]
        else:
            reports = self.carry_out(one, self.drain)
        if self.drain.node_leaves and any(x.ending is Ending.STOPPED for x in reports):
            raise NodeLeavesError  # so that this process is given no other attempt
        return {"reports": reports, "done": not self.works}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save nothing: the store has the checkpoints."""
