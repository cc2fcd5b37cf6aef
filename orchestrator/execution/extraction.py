"""Extractions: the assignment of one, which writes outputs of layers to the store, and the work."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.execution import derived, feature_parts
from orchestrator.execution.assignment import Report
from orchestrator.execution.derived_fields import DerivedFields
from orchestrator.execution.feature_parts import Parts
from orchestrator.execution.frontier import Attempt
from orchestrator.execution.items import Bench
from orchestrator.plan.extraction import Extraction, extractions_of
from orchestrator.store.names import FeaturesFolder, PartFile
from orchestrator.store.store import Store
from orchestrator.sweep.records import training_from
from trainers.canonical import canonical, digest
from trainers.feature_form import FeatureForm

if TYPE_CHECKING:
    from trainers.features import Extractor

FOLDER = "features"  # below the root of a store


@dataclass(frozen=True, kw_only=True)
class ExtractionAssignment(DerivedFields):
    """One extraction to carry out."""

    network: str
    """Id of the trial, or of the file of weights."""
    network_name: str
    checkpoint: str
    """SHA-256 of its weights."""
    classes: int
    seen: str
    """Canonical JSON of the training whose network it is, and whose images it sees."""
    target: str
    """Name of the task of the images."""
    pool: str
    most: int | None

    @classmethod
    def of(cls, extraction: Extraction, bench: Bench, attempt: Attempt) -> ExtractionAssignment:
        """Return the assignment of an extraction whose network is complete."""
        origin = extraction.origin
        return cls(
            **cls.shared(extraction, origin, bench, attempt),
            network=origin.id,
            network_name=origin.name,
            checkpoint=bench.checkpoints[origin.id],
            classes=origin.classes,
            seen=canonical(origin.training),
            target=origin.task,
            layers=list(extraction.form.layers),
            pool=extraction.form.pool,
            most=extraction.form.most,
        )

    @property
    def networks(self) -> list[tuple[str, str]]:
        return [(self.network, self.checkpoint)]

    @property
    def form(self) -> FeatureForm:
        pool: Any = self.pool
        return FeatureForm(layers=tuple(self.layers), pool=pool, most=self.most)

    @property
    def folder(self) -> str:
        """Name of the folder of its files."""
        return FeaturesFolder(self.id, self.checkpoint).name

    def columns(self) -> dict[str, Any]:
        """Return the columns of its row that are known before."""
        return {
            "trial": self.network,
            "name": self.network_name,
            "target": self.target,
            "task": digest(training_from(self.seen).target),
            "layers": self.layers,
            "pool": self.pool,
            "most": self.most,
            "folder": f"{FOLDER}/{self.folder}",
            "checkpoint": self.checkpoint,
            "git_commit": self.git_commit,
        }


def whole(store: Store, rows: Sequence[Mapping[str, Any]]) -> set[str]:
    """Return the ids of the rows whose files are all there, by their number and size.

    A row of a failure has no files. One folder is listed alone, and several in one listing.
    """
    below = [FOLDER] if len(rows) > 1 else [str(row["folder"]) for row in rows]
    files: dict[str, list[int]] = {}
    for folder in below:
        for entry in store.files.walk(store.path(*folder.split("/"))):
            place, _, name = store.relative(entry.path).rpartition("/")
            if PartFile.parse(name):
                files.setdefault(place, []).append(entry.size)
    return {
        row["id"]
        for row in rows
        if row["parts"] is None
        or (len(sizes := files.get(row["folder"], [])), sum(sizes)) == (row["parts"], row["bytes"])
    }


KIND = derived.Kind("extraction", "extractions", extractions_of, ExtractionAssignment.of, whole)


def run(assignment: ExtractionAssignment, stop: Callable[[], bool] = lambda: False) -> Report:
    """Write the features and their row. Return how that ended; see `worker.run` for what is raised.

    An extraction that is stopped leaves whole parts, and goes on after them.
    """

    def rows_of(store: Store, weights: Sequence[bytes]) -> list[dict[str, Any]] | None:
        place = store.path(FOLDER, assignment.folder)
        parts = Parts(store.files, place, assignment.folder)
        extractor = _extractor(assignment, weights[0])
        labels = training_from(assignment.seen).target.labels
        written = feature_parts.write(parts, extractor, labels, assignment.network, stop=stop)
        if written is None:
            return None
        sizes = {
            "values": sum(extractor.sizes.values()),
            "images": sum(map(len, extractor.images.values())),
        }
        return [sizes | written._asdict()]

    return derived.carry_out(assignment, KIND.table, rows_of)


def _extractor(assignment: ExtractionAssignment, weights: bytes) -> Extractor:
    from trainers.features import Extractor, Trained

    seen = training_from(assignment.seen)
    trained = Trained(seen.network, assignment.classes, weights)
    return Extractor(trained, seen, assignment.form, assignment.runtime)
