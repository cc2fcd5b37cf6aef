"""The trials of one grid, in canonical order. Pure."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from typing import Any

from orchestrator.plan.resolve import ResolvedSweep
from orchestrator.plan.splits import OTHER, task_of
from orchestrator.plan.trial import Trial
from orchestrator.sweep.schema import FROM_SOURCE, Grid
from trainers.config import DatasetInfo, NetworkRef, Task, Training, Treatment
from trainers.detector import Detector
from trainers.recipe import Recipe, Schedule, Stage, layer_number
from trainers.splits import Split
from trainers.tasks import training_images

# Fields of a recipe by the trials that use them.
OF_FINE_TUNED = ("fresh_first", "stages")
OF_LEARNING_COPIES = ("copied_rate", "layer_decay", "l2_sp", "feature_l2")
OF_FROZEN = ("frozen_statistics", "frozen_affine", "freeze", "learn", "classifier")
# Fields that a classifier has beside its own: those of the images and, on features, first weights.
OF_PIXELS = ("pixels", "normalise", "crop", "precision")
OF_FEATURES = (*OF_PIXELS, "init", "init_random")
OF_STITCHED = ("stitch",)
OF_CLASSES = ("loss", "label_smoothing")  # fields that a detector has no use for
DEFAULTS = Recipe()
UNCHANGED = Training.adapt  # the default
FAMILIES_WITHOUT_GAMMA = ("constant", "cosine", "linear", "one_cycle")

Recipes = dict[tuple[Treatment, int], Recipe]  # by treatment and number of training images


def trials_of(resolved: ResolvedSweep, grid: Grid, splits: Iterable[Split]) -> list[Trial]:
    """Return the trials of one grid, parents before children.

    The order is: splits, seeds, images per class, bases, targets, treatments, layers.
    """
    recipes: Recipes = {}
    return [
        trial
        for split in splits
        for seed in grid.seeds
        for images_per_class in grid.images_per_class
        for trial in _Pair(resolved, grid, split, seed, images_per_class, recipes).trials()
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
        recipes: Recipes,
    ):
        self.resolved, self.grid, self.split, self.seed = resolved, grid, split, seed
        self.images_per_class, self.recipes = images_per_class, recipes
        self.targets = [letter for letter in split.halves if letter in (grid.targets or OTHER)]
        # Bases of the targets, by half (limited images, target network).
        self.bases: dict[str, Trial] = {}
        # Bases of the sources, by half (all images, source network).
        self.sources: dict[str, Trial] = {}
        # Tasks and their training images, by half and limit of images.
        self.tasks: dict[tuple[str, int | None], tuple[Task, int]] = {}

    def trials(self) -> list[Trial]:
        trials = self._bases()
        layers = tuple(self.grid.layers or range(1, self.resolved.layers.depth))
        for target in self.targets:
            for name in self.grid.treatments:
                for treatment in treatments_of(name, layers, self.resolved.layers.depth):
                    parent = self._parent(treatment.kind, target)
                    trials.append(self._trial(target, treatment, parent))
        return trials

    def _bases(self) -> list[Trial]:
        """The bases of the targets, and the sources of transfer.

        Both are one training if the targets have all images and the network of the sources.
        """
        if "base" not in self.grid.treatments:
            return []
        base = Treatment(kind="base")
        transfers = any(name in FROM_SOURCE for name in self.grid.treatments)
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
            case "selffer" | "stitched_self":
                return self.bases[target]
            case "transfer" | "stitched":
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
            argument=resolved.source.command or sweep.name,
            split=split.name,
            split_hash=split.hash,
            division=division,
            images_per_class=images_per_class,
            source=source,
            target=target,
            data_root=sweep.dataset.root if sweep.dataset else None,
            source_root=sweep.dataset.root if sweep.dataset else None,
            request=sweep.request(treatment),
            keep_checkpoint=sweep.keeps(treatment, " ".join(name)),
        )

    def _task(self, target: str, images_per_class: int | None) -> tuple[Task, int]:
        key = target, images_per_class
        if key not in self.tasks:
            task = task_of(
                self.resolved.dataset,
                self.resolved.data,
                self.split,
                target,
                self.grid.splits,
                images_per_class=images_per_class,
            )
            self.tasks[key] = task, training_images(task, self.resolved.data)
        return self.tasks[key]

    def _recipe(self, treatment: Treatment, task: Task, images: int) -> Recipe:
        """Return the recipe of a trial. Those of thousands of trials are one object."""
        key = treatment, images
        if key not in self.recipes:
            resolved = self.resolved
            depth = resolved.layers.depth
            self.recipes[key] = recipe_of(resolved.data, self.grid, treatment, task, depth)
        return self.recipes[key]

    def _training(
        self,
        target: str,
        treatment: Treatment,
        parent: Trial | None,
        is_source: bool,
        images_per_class: int | None,
    ) -> Training:
        resolved = self.resolved
        task, images = self._task(target, images_per_class)
        adapt = resolved.adapt if treatment.kind == "transfer" else UNCHANGED
        return Training(
            target=task,
            source=parent.training.target if parent else None,
            network=resolved.network if is_source else resolved.target,
            treatment=treatment,
            recipe=self._recipe(treatment, task, images),
            seed=self.seed,
            parent=parent.id if parent else None,
            upper=self.bases[target].id if treatment.is_stitched else None,
            source_network=source_network(resolved, treatment),
            adapt=adapt.within(treatment.n),
        )


@functools.lru_cache(maxsize=1024)
def treatments_of(name: str, layers: Sequence[int], depth: int) -> Sequence[Treatment]:
    """Return the treatments of a name in a sweep file beside the bases: one per n, or one in all.

    Above the last layer there is nothing to stitch.
    """
    one = Treatment.of(name)
    if one.kind == "base":
        return ()
    if one.kind in ("base_long", "pixels"):
        return (one,)
    return tuple(Treatment.of(name, n) for n in layers if n < depth or not one.is_stitched)


def source_network(resolved: ResolvedSweep, treatment: Treatment) -> NetworkRef | None:
    """Return the network that a stitched trial has layers 1..n from, if it is not the target's."""
    is_other = treatment.kind == "stitched" and resolved.network != resolved.target
    return resolved.network if is_other else None


def name_of(treatment: Treatment, source: str | None, target: str, between: str = "") -> str:
    """`A3B+`: layers 1 to 3 from A, fine-tuned on B. `R` stands for random filters.

    `A3|B` has layers 1 to 3 from A, stitched to the upper layers of B. `between` stands between the
    parts; with `-` that is `mnist-3-digits+`.
    """
    match treatment.kind:
        case "base":
            return target
        case "base_long":
            return f"{target}-long"
        case "pixels":
            return f"{target} pixels"
    seam = "|" if treatment.is_stitched else between
    parts = f"{source or 'R'}{between}{treatment.n}{seam}{target}"
    return f"{parts}{'+' * treatment.fine_tuned}"


def recipe_of(
    data: DatasetInfo, grid: Grid, treatment: Treatment, target: Task, depth: int
) -> Recipe:
    """Return the recipe of a trial, with its length in steps.

    `data` is the target's dataset, `depth` the number of the network's layers. Where nothing is
    left to learn, one step does.
    """
    images = _images(target, data)
    tuned = grid.fine_tune.recipe or grid.recipe
    detects = data.has_objects
    recipe = _normal(tuned if treatment.fine_tuned else grid.recipe, images, treatment, detects)
    if treatment.kind == "base_long":
        more = _normal(tuned, images, treatment, detects)
        assert recipe.steps is not None
        assert more.steps is not None
        return dataclasses.replace(recipe, steps=recipe.steps + more.steps)
    if treatment.frozen and treatment.n == depth and not (recipe.freeze or recipe.learn):
        return dataclasses.replace(recipe, steps=1)
    return recipe


@functools.lru_cache(maxsize=16)
def _images(target: Task, data: DatasetInfo) -> int:
    return training_images(target, data)


@functools.lru_cache(maxsize=1024)
def _normal(recipe: Recipe, images: int, treatment: Treatment, detects: bool) -> Recipe:
    """The recipe in steps instead of epochs, with settings that have no effect at their default.

    Recipes that train alike become equal, and so do the ids of their trials. `images` is the number
    of training images.
    """
    recipe = _of_task(recipe, detects)
    if recipe.epochs is not None:
        steps = max(recipe.least_steps or 1, round(recipe.epochs * (images // recipe.batch)))
        recipe = dataclasses.replace(recipe, steps=steps, epochs=None)
    recipe = dataclasses.replace(recipe, least_steps=None)
    if treatment.is_stitched:  # both parts are as they are tested: without dropout
        recipe = dataclasses.replace(recipe, dropout=None)
    else:
        recipe = _without(recipe, OF_STITCHED)
    if recipe.schedule.family in FAMILIES_WITHOUT_GAMMA:
        schedule = dataclasses.replace(recipe.schedule, gamma=Schedule().gamma)
        recipe = dataclasses.replace(recipe, schedule=schedule)
    if treatment.kind != "random" or recipe.init_random == recipe.init:
        recipe = dataclasses.replace(recipe, init_random=None)
    tuned = treatment.fine_tuned and treatment.has_parent
    if recipe.classifier and treatment.kind == "pixels":
        unpooled = dataclasses.replace(recipe.classifier, pool="none")
        fields = {x: getattr(recipe, x) for x in OF_PIXELS}
        return Recipe(steps=1, batch=images, classifier=unpooled, **fields)
    is_kept = treatment.frozen and not treatment.is_stitched
    if is_kept and recipe.classifier:
        fields = {x: getattr(recipe, x) for x in ("classifier", *OF_FEATURES)}
        return Recipe(steps=1, batch=images, **fields)
    if is_kept:
        m = min(treatment.n, recipe.freeze or treatment.n)
        learn = tuple(name for name in recipe.learn if layer_number(str(name)) <= m)
        freeze = m if m < treatment.n else None
        recipe = dataclasses.replace(recipe, freeze=freeze, learn=learn)
    else:
        recipe = _without(recipe, OF_FROZEN)
    if not tuned:
        recipe = _without(recipe, OF_FINE_TUNED)
    if not tuned and not (treatment.has_parent and (recipe.freeze or recipe.learn)):
        recipe = _without(recipe, OF_LEARNING_COPIES)
    if recipe.stages:
        stages = tuple(_within(stage, treatment.n) for stage in recipe.stages)
        return dataclasses.replace(recipe, **_short_stages(stages))
    return recipe


def _of_task(recipe: Recipe, detects: bool) -> Recipe:
    """Return the recipe with a detector if the task `detects`, and without its loss of classes."""
    if not detects:
        return dataclasses.replace(recipe, detector=None)
    recipe = _without(recipe, OF_CLASSES)
    return dataclasses.replace(recipe, detector=recipe.detector or Detector())


def _without(recipe: Recipe, fields: Iterable[str]) -> Recipe:
    """Return the recipe with these fields at their default."""
    return dataclasses.replace(recipe, **{name: getattr(DEFAULTS, name) for name in fields})


def _within(stage: Stage, n: int) -> Stage:
    """Return the stage with the layers of 1..n that it lists."""
    if isinstance(stage.learn, str):
        return stage
    learn = tuple(name for name in stage.learn if layer_number(str(name)) <= n)
    return dataclasses.replace(stage, learn=learn or "fresh")


def _short_stages(stages: tuple[Stage, ...]) -> dict[str, Any]:
    """Return the fields of a recipe with these stages, in their shortest form."""
    match stages:
        case (Stage(fraction=first, learn="fresh"), second) if stages[0] == Stage(
            fraction=first, learn="fresh"
        ) and second == Stage(fraction=1 - first):
            return {"fresh_first": first, "stages": ()}
        case (Stage() as only,) if only == Stage(fraction=1.0):
            return {"stages": ()}
    return {"stages": stages}
