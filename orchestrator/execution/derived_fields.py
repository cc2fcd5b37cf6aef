"""The fields that assignments of measurements and of extractions share, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from orchestrator.execution.derived import Derivation
from orchestrator.execution.frontier import Attempt
from orchestrator.execution.items import Bench
from orchestrator.execution.provenance import git_commit
from trainers.datasets.places import portable

if TYPE_CHECKING:
    from trainers.results import Runtime


class Rooted(Protocol):
    """A network of a plan, with the places of the images that it sees."""

    @property
    def data_root(self) -> str | None: ...

    @property
    def source_root(self) -> str | None: ...


@dataclass(frozen=True, kw_only=True)
class DerivedFields:
    """Fields of an assignment on trained networks, as JSON values."""

    id: str
    name: str
    layers: list[int]
    request: dict[str, Any]
    store: str
    git_commit: str | None
    data_root: str | None = None
    source_root: str | None = None

    @staticmethod
    def shared(one: Derivation, network: Rooted, bench: Bench, attempt: Attempt) -> dict[str, Any]:
        """Return the shared fields, without `layers`, for an attempt in a run."""
        return {
            "id": one.id,
            "name": one.name,
            "request": attempt.request.model_dump(),
            "store": bench.store.root,
            "git_commit": git_commit(),
            "data_root": portable(network.data_root),
            "source_root": portable(network.source_root),
        }

    @property
    def ids(self) -> Sequence[str]:
        return (self.id,)

    @property
    def runtime(self) -> Runtime:
        """Device, threads and places of the images on the worker."""
        from trainers.results import Runtime

        return Runtime(
            device="cuda" if self.request["gpu"] else "cpu",
            threads=max(1, int(self.request["cpu"])),
            data_root=self.data_root,
            source_root=self.source_root,
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        return cls(**json.loads(text))
