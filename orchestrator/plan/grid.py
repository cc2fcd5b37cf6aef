"""The trials of one grid, in canonical order. Pure."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from orchestrator.plan.resolve import ResolvedSweep
from orchestrator.plan.splits import OTHER, task_of
from orchestrator.plan.trial import Trial
from orchestrator.sweep.schema import Grid
from trainers.config import Adaptation, DatasetInfo, Task, Training, Treatment
from trainers.recipe import Recipe, Schedule
from trainers.splits import Split
from trainers.tasks import training_images

FAMILIES_WITHOUT_GAMMA = ("constant", "cosine", "linear", "one_cycle")


def trials_of(resolved: ResolvedSweep, grid: Grid, splits: Iterable[Split]) -> list[Trial]:
    """Return the trials of one grid, parents before children.

    The order is: splits, seeds, images per class, bases, targets, treatments, layers.
    """
    return [
        trial
        for split in splits
        for seed in grid.seeds
        for images_per_class in grid.images_per_class
        for trial in _Pair(resolved, grid, split, seed, images_per_class).trials()
    ]


class _Pair:
    """Both directions of one split and seed. They share the bases.

    `images_per_class` limits the images of targets. Sources see all images.
    """

    def __init__(
        self,
        resolved: ResolvedSweep,
        grid: Grid,
        split: Split,
        seed: int,
        images_per_class: int | None,
    ):
        self.resolved, self.grid, self.split, self.seed = resolved, grid, split, seed
        self.images_per_class = images_per_class
        self.targets = [letter for letter in split.halves if letter in (grid.targets or OTHER)]
        # Bases of the targets, by half (limited images, target network).
        self.bases: dict[str, Trial] = {}
        # Bases of the sources, by half (all images, source network).
        self.sources: dict[str, Trial] = {}

    def trials(self) -> list[Trial]:
        trials = self._bases()
        layers = self.grid.layers or range(1, self.resolved.layers.depth)
        for target in self.targets:
            for name in self.grid.treatments:
                kind, fine_tuned = name.removesuffix("+"), name.endswith("+")
                if kind == "base_long":
                    trials.append(self._trial(target, Treatment(kind="base_long")))
                elif kind != "base":
                    parent = self._parent(kind, target)
                    for n in layers:
                        treatment = Treatment(kind=kind, n=n, fine_tuned=fine_tuned)  # type: ignore[arg-type]
                        trials.append(self._trial(target, treatment, parent))
        return trials

    def _bases(self) -> list[Trial]:
        """The bases of the targets, and the sources of transfer.

        Both are one training if the targets have all images and the network of the sources.
        """
        if "base" not in self.grid.treatments:
            return []
        base = Treatment(kind="base")
        transfers = any(name.startswith("transfer") for name in self.grid.treatments)
        trials = []
        for letter in self.split.halves:
            if letter in self.targets:
                self.bases[letter] = self._trial(letter, base)
                trials.append(self.bases[letter])
            if transfers and any(target != letter for target in self.targets):
                self.sources[letter] = self._trial(letter, base, is_source=True)
                trials.append(self.sources[letter])
        return trials

    def _parent(self, kind: str, target: str) -> Trial | None:
        match kind:
            case "selffer":
                return self.bases[target]
            case "transfer":
                return self.sources[OTHER[target]]
        return None

    def _trial(
        self,
        target: str,
        treatment: Treatment,
        parent: Trial | None = None,
        *,
        is_source: bool = False,
    ) -> Trial:
        resolved, sweep, split = self.resolved, self.resolved.sweep, self.split
        images_per_class = None if is_source else self.images_per_class
        source = parent.target if parent else None
        training = self._training(target, treatment, parent, is_source, images_per_class)
        name = [name_of(treatment, source, target), split.name]
        if images_per_class is not None:
            name.append(f"k{images_per_class}")
        if len(self.grid.seeds) > 1:
            name.append(f"seed{self.seed}")
        division = split.division
        if training.network != resolved.target:  # never pooled with bases of the targets' network
            name.append("source")
            division += "-source"
        return Trial(
            training=training,
            name=" ".join(name),
            sweep=sweep.name,
            argument=resolved.source.command if resolved.source.argument else sweep.name,
            split=split.name,
            split_hash=split.hash,
            division=division,
            images_per_class=images_per_class,
            source=source,
            target=target,
            data_root=sweep.dataset.root if sweep.dataset else None,
            source_root=sweep.dataset.root if sweep.dataset else None,
            request=sweep.request(treatment),
            keep_checkpoint=sweep.keep == "all" or treatment.kind == "base",
        )

    def _training(
        self,
        target: str,
        treatment: Treatment,
        parent: Trial | None,
        is_source: bool,
        images_per_class: int | None,
    ) -> Training:
        resolved = self.resolved
        task = task_of(
            resolved.dataset,
            resolved.data,
            self.split,
            target,
            self.grid.splits,
            images_per_class=images_per_class,
        )
        adapt = resolved.adapt if treatment.kind == "transfer" else Adaptation()
        return Training(
            target=task,
            source=parent.training.target if parent else None,
            network=resolved.network if is_source else resolved.target,
            treatment=treatment,
            recipe=recipe_of(resolved.data, self.grid, treatment, task),
            seed=self.seed,
            parent=parent.id if parent else None,
            adapt=adapt.within(treatment.n),
        )


def name_of(treatment: Treatment, source: str | None, target: str, between: str = "") -> str:
    """`A3B+`: layers 1 to 3 from A, fine-tuned on B. `R` stands for random filters.

    `between` stands between the parts; with `-` that is `mnist-3-digits+`.
    """
    match treatment.kind:
        case "base":
            return target
        case "base_long":
            return f"{target}-long"
    parts = between.join((source or "R", str(treatment.n), target))
    return f"{parts}{'+' * treatment.fine_tuned}"


def recipe_of(data: DatasetInfo, grid: Grid, treatment: Treatment, target: Task) -> Recipe:
    """Return the recipe of a trial, with its length in steps. `data` is the target's dataset."""
    images = training_images(target, data)
    plain = _normal(grid.recipe, images, random=treatment.kind == "random", frozen=treatment.frozen)
    fine_tuned = _normal(
        grid.fine_tune.recipe or grid.recipe, images, tuned=treatment.tuned_layers > 0
    )
    if treatment.kind == "base_long":
        assert plain.steps is not None
        assert fine_tuned.steps is not None
        return dataclasses.replace(plain, steps=plain.steps + fine_tuned.steps)
    return fine_tuned if treatment.fine_tuned else plain


@functools.lru_cache(maxsize=256)
def _normal(
    recipe: Recipe,
    images: int,
    *,
    random: bool = False,
    frozen: bool = False,
    tuned: bool = False,
) -> Recipe:
    """The recipe in steps instead of epochs, with settings that have no effect at their default.

    Recipes that train alike become equal, and so do the ids of their trials. `images` is the number
    of training images; the flags say which layers the trial has.
    """
    if recipe.epochs is not None:
        steps = max(recipe.least_steps or 1, round(recipe.epochs * (images // recipe.batch)))
        recipe = dataclasses.replace(recipe, steps=steps, epochs=None)
    recipe = dataclasses.replace(recipe, least_steps=None)
    if recipe.schedule.family in FAMILIES_WITHOUT_GAMMA:
        schedule = dataclasses.replace(recipe.schedule, gamma=Schedule().gamma)
        recipe = dataclasses.replace(recipe, schedule=schedule)
    if not random or recipe.init_random == recipe.init:
        recipe = dataclasses.replace(recipe, init_random=None)
    if not frozen:
        recipe = dataclasses.replace(recipe, frozen_statistics=True, frozen_affine=True)
    if not tuned:
        recipe = dataclasses.replace(recipe, copied_rate=1.0, layer_decay=1.0, fresh_first=0.0)
    return recipe
