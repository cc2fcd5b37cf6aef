"""`Trial`: one network of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from orchestrator.sweep.schema import Resources
from trainers.config import Training

UNREPORTED = ("study", "unsearched")  # suffixes of the sweep's name


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A training with the names that a sweep gives it and the resources that it requests.

    Two trials with the same id are one training.
    """

    training: Training
    name: str
    """Name within the sweep: `A3B+ s2` has layers 1 to 3 from A, fine-tuned on B, in split s2.
    `A3|B s2` has them stitched to the upper layers of B."""
    sweep: str
    """Name of the sweep. A suffix marks trials that are not reported: `digits.study`."""
    argument: str
    """Name of the sweep as the user typed it."""
    split: str
    split_hash: str
    division: str
    """Population of splits that this one was drawn from: only splits of one division are pooled."""
    images_per_class: int | None
    """Limit on the target's training images; None for all."""
    source: str | None
    """Half (`A` or `B`) or named task that layers are copied from; None if none are copied."""
    target: str
    """Half (`A` or `B`) or named task that the network is trained on."""
    request: Resources
    keep_checkpoint: bool
    condition: str | None = None
    """Settings that distinguish its grid from others of the sweep, as JSON; see `conditions`."""
    tuning_unequal: bool = False
    """True if fine-tuned trials have a searched schedule but their control, `base_long`, not."""
    data_root: str | None = None
    """Folder of the target's dataset, as the sweep gives it; part of no id."""
    source_root: str | None = None
    """Folder of the source's dataset, as the sweep gives it; part of no id."""

    @property
    def id(self) -> str:
        return self.training.id

    @property
    def parent(self) -> str | None:
        """Id of the base that layers are copied from."""
        return self.training.parent

    @property
    def parents(self) -> tuple[str, ...]:
        """Ids that layers are copied from: two of a stitched network, else one or none."""
        return self.training.parents

    @property
    def treatment_name(self) -> str:
        """`transfer` or `transfer+`, as a sweep file writes it.

        Trials that are not reported say so: `base (study)`, `transfer+ (unsearched)`.
        """
        suffix = next((x for x in UNREPORTED if self.sweep.endswith(f".{x}")), "")
        name = self.training.treatment.name
        return f"{name} ({suffix})" if suffix else name

    @property
    def images(self) -> int:
        """Training images that the network sees, counting repeats."""
        recipe = self.training.recipe
        return recipe.batch * (recipe.steps or 0)

    def labels(self) -> dict[str, Any]:
        """Return the identity columns of the tables."""
        treatment = self.training.treatment
        return {
            "id": self.id,
            "name": self.name,
            "sweep": self.sweep,
            "split": self.split,
            "split_hash": self.split_hash,
            "division": self.division,
            "condition": self.condition,
            "images_per_class": self.images_per_class,
            "source": self.source,
            "target": self.target,
            "treatment": treatment.kind,
            "n": treatment.n,
            "frozen": treatment.frozen,
            "seed": self.training.seed,
            "parent": self.parent,
            "upper": self.training.upper,
            "tuning_unequal": self.tuning_unequal,
        }
