"""`Plan`: the trials of a sweep and which depend on which. No disk, no clock, no Ray."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.experiment import Experiment
from orchestrator.spec import Grid, Resources, Sweep
from orchestrator.splitting import task_of
from orchestrator.yaml_source import Source
from trainers.config import (
    Adaptation,
    DatasetInfo,
    NetworkInfo,
    NetworkRef,
    Recipe,
    Schedule,
    Task,
    Training,
    Treatment,
    training_macs,
)
from trainers.splits import Split
from trainers.tasks import training_images

if TYPE_CHECKING:
    from orchestrator.search.study import Study

OTHER = {"A": "B", "B": "A"}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One network of a sweep: what it is, what the sweep calls it, and what it asks for.

    `argument` is what the user called the sweep on the command line. `tuning_unequal` says that its
    schedule was searched and that of `base_long`, its control, was not, or the reverse.
    Two trials with the same id are one training.
    """

    training: Training
    name: str
    sweep: str
    argument: str
    split: str
    split_hash: str
    division: str
    images_per_class: int | None
    source: str | None
    target: str
    request: Resources
    keep_checkpoint: bool
    tuning_unequal: bool = False

    @property
    def id(self) -> str:
        return self.training.id

    @property
    def parent(self) -> str | None:
        return self.training.parent

    def labels(self) -> dict[str, Any]:
        """The identity columns of the tables."""
        treatment = self.training.treatment
        return {
            "id": self.id,
            "name": self.name,
            "sweep": self.sweep,
            "split": self.split,
            "split_hash": self.split_hash,
            "division": self.division,
            "images_per_class": self.images_per_class,
            "source": self.source,
            "target": self.target,
            "treatment": treatment.kind,
            "n": treatment.n,
            "frozen": treatment.frozen,
            "seed": self.training.seed,
            "parent": self.parent,
            "tuning_unequal": self.tuning_unequal,
        }


@dataclass(frozen=True)
class Plan:
    """Every cell of a sweep's grid, parents before children."""

    sweep: Sweep
    members: tuple[Trial, ...]
    networks: Mapping[NetworkRef, NetworkInfo]
    source: Source
    data: DatasetInfo
    studies: tuple[Study, ...] = ()
    extra: tuple[Trial, ...] = ()  # trained for a search, and no part of what is reported

    @functools.cached_property
    def trials(self) -> dict[str, Trial]:
        """The trials by id: cells that are the same training are one."""
        found: dict[str, Trial] = {}
        for trial in (*self.members, *self.extra):
            found.setdefault(trial.id, trial)
        return found

    def with_parents(self, ids: Iterable[str]) -> set[str]:
        """These trials and those that they copy layers of."""
        wanted = set(ids)
        return wanted | {p for id in wanted if (p := self.trials[id].parent) is not None}

    def layers(self, trial: Trial) -> NetworkInfo:
        """What is known of the network of a trial."""
        return self.networks[trial.training.network]

    def flops(self, trial: Trial) -> float:
        """Floating-point operations of a training: frozen layers cost no backward pass."""
        macs = training_macs(self.layers(trial).macs, trial.training.treatment.frozen_layers)
        return 2.0 * macs * _images(trial)


def plan(experiment: Experiment) -> Plan:
    """The grids as trials, in canonical order: splits, seeds, images, targets, treatments, layers.

    What two grids share is one member.
    """
    from orchestrator.search.planning import searched  # which plans with this module

    parts = [
        searched(experiment, grid, trials_of(experiment, grid, splits))
        for grid, splits in experiment.parts
    ]
    members = [trial for part in parts for trial in part.trials]
    distinct = {tuple(trial.labels().values()): trial for trial in reversed(members)}
    kept = {id(trial) for trial in distinct.values()}
    return Plan(
        experiment.sweep,
        tuple(trial for trial in members if id(trial) in kept),
        experiment.networks,
        experiment.source,
        experiment.data,
        tuple({study.id: study for part in parts for study in part.studies}.values()),
        tuple({trial.id: trial for part in parts for trial in part.extra}.values()),
    )


def trials_of(experiment: Experiment, grid: Grid, splits: Iterable[Split]) -> list[Trial]:
    """The trials of one grid, parents before children."""
    return [
        trial
        for split in splits
        for seed in grid.seeds
        for images_per_class in grid.images_per_class
        for trial in _Pair(experiment, grid, split, seed, images_per_class).trials()
    ]


class _Pair:
    """Both directions of one split and seed; they share the bases, which come first.

    The target of a trial has `images_per_class`, its source all that there are.
    """

    def __init__(
        self,
        experiment: Experiment,
        grid: Grid,
        split: Split,
        seed: int,
        images_per_class: int | None,
    ):
        self.experiment, self.grid, self.split, self.seed = experiment, grid, split, seed
        self.images_per_class = images_per_class
        self.targets = [letter for letter in split.halves if letter in grid.targets]
        self.bases: dict[str, Trial] = {}  # of the targets
        self.sources: dict[str, Trial] = {}  # with all images, and the network of sources

    def trials(self) -> list[Trial]:
        trials = self._bases()
        layers = self.grid.layers or range(1, self.experiment.layers.depth)
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
        """The bases of the targets, and of their sources where those are others."""
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
        experiment, sweep = self.experiment, self.experiment.sweep
        images_per_class = None if is_source else self.images_per_class
        network = experiment.network if is_source else experiment.target
        adapt = experiment.adapt if treatment.kind == "transfer" else Adaptation()
        task = task_of(
            experiment.dataset,
            experiment.data,
            self.split,
            target,
            images_per_class=images_per_class,
            reserved=self.grid.splits.reserved,
        )
        training = Training(
            target=task,
            source=parent.training.target if parent else None,
            network=network,
            treatment=treatment,
            recipe=_recipe(experiment, self.grid, treatment, task),
            seed=self.seed,
            parent=parent.id if parent else None,
            adapt=adapt.within(treatment.n),
        )
        source = parent.target if parent else None
        name = [_name(treatment, source, target), self.split.name]
        if images_per_class is not None:
            name.append(f"k{images_per_class}")
        if len(self.grid.seeds) > 1:
            name.append(f"seed{self.seed}")
        division = self.split.division
        if network != experiment.target:  # of another network than what it would be pooled with
            name.append("source")
            division += "-source"
        return Trial(
            training=training,
            name=" ".join(name),
            sweep=sweep.name,
            argument=experiment.source.argument or sweep.name,
            split=self.split.name,
            split_hash=self.split.hash,
            division=division,
            images_per_class=images_per_class,
            source=source,
            target=target,
            request=sweep.request(treatment),
            keep_checkpoint=sweep.keep == "all" or treatment.kind == "base",
        )


def _name(treatment: Treatment, source: str | None, target: str) -> str:
    """`A3B+`: layers 1..3 from A, fine-tuned on B. `R` stands for random filters."""
    match treatment.kind:
        case "base":
            return target
        case "base_long":
            return f"{target}-long"
    return f"{source or 'R'}{treatment.n}{target}{'+' * treatment.fine_tuned}"


def _recipe(experiment: Experiment, grid: Grid, treatment: Treatment, target: Task) -> Recipe:
    """The recipe of a trial with its length in steps, which epochs are turned into."""
    images = training_images(target, experiment.data)
    own = _in_steps(grid.recipe, images, random=treatment.kind == "random", frozen=treatment.frozen)
    tuned = treatment.tuned_layers > 0
    fine_tune = _in_steps(grid.fine_tune.recipe or grid.recipe, images, tuned=tuned)
    if treatment.kind == "base_long":
        assert own.steps is not None
        assert fine_tune.steps is not None
        return dataclasses.replace(own, steps=own.steps + fine_tune.steps)
    return fine_tune if treatment.fine_tuned else own


@functools.lru_cache(maxsize=256)
def _in_steps(
    recipe: Recipe,
    images: int,
    *,
    random: bool = False,
    frozen: bool = False,
    tuned: bool = False,
) -> Recipe:
    """The recipe with `steps` for `epochs`, and without settings that change nothing."""
    if recipe.epochs is not None:
        steps = max(1, round(recipe.epochs * (images // recipe.batch)))
        recipe = dataclasses.replace(recipe, steps=steps, epochs=None)
    if recipe.schedule.family in ("constant", "cosine", "linear", "one_cycle"):
        gamma = Schedule().gamma
        recipe = dataclasses.replace(
            recipe, schedule=dataclasses.replace(recipe.schedule, gamma=gamma)
        )
    if not random or recipe.init_random == recipe.init:
        recipe = dataclasses.replace(recipe, init_random=None)
    if not frozen:
        recipe = dataclasses.replace(recipe, frozen_statistics=True, frozen_affine=True)
    if not tuned:
        recipe = dataclasses.replace(recipe, copied_rate=1.0, layer_decay=1.0, fresh_first=0.0)
    return recipe


# Cost -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a set of trials will take. `seconds` is of one slot's time; null without any rate."""

    flops: float
    seconds: float | None
    checkpoint_bytes: int


def cost(plan: Plan, ids: Iterable[str], rates: Mapping[tuple[str, int, bool], float]) -> Cost:
    """The cost of training `ids`, from `rates` in images a second by (treatment, n, frozen).

    A kind of trial that was never measured is scaled by its FLOPs from those that were.
    """
    trials = [plan.trials[id] for id in ids]
    measured = [
        plan.flops(t) / (_images(t) / rate)
        for t in plan.trials.values()
        if (rate := rates.get(rate_key(t)))
    ]
    speed = sum(measured) / len(measured) if measured else None
    seconds = 0.0
    for trial in trials:
        if rate := rates.get(rate_key(trial)):
            seconds += _images(trial) / rate
        elif speed:
            seconds += plan.flops(trial) / speed
    return Cost(
        flops=sum(plan.flops(trial) for trial in trials),
        seconds=seconds if speed else None,
        checkpoint_bytes=sum(
            plan.layers(trial).state_bytes
            for trial in trials
            if trial.keep_checkpoint and plan.sweep.keep != "none"
        ),
    )


def rate_key(trial: Trial) -> tuple[str, int, bool]:
    treatment = trial.training.treatment
    return treatment.kind, treatment.n, treatment.frozen


def _images(trial: Trial) -> int:
    recipe = trial.training.recipe
    return recipe.batch * (recipe.steps or 0)
