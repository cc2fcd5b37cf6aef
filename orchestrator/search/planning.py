"""The studies of a sweep, and its trials as those that wait for them. Pure.

A study's networks are planned as any grid is, on splits and with seeds that are not reported, and
marked as never to be tested: what chooses must not see a test image.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.errors import SweepError
from orchestrator.experiment import Experiment
from orchestrator.inheritance import in_grid
from orchestrator.plan import Trial, trials_of
from orchestrator.search.declaration import Search
from orchestrator.search.space import (
    Tree,
    Value,
    changed,
    conditions,
    parameters_of,
    tree_of,
)
from orchestrator.search.study import Role, Study
from orchestrator.spec import Grid
from orchestrator.splitting import SplitError, check_half, splits_of
from trainers.config import Recipe
from trainers.splits import Split

FIRST = 1000  # of the seeds that a search takes where the sweep does not say
TRIES = 1000  # splits looked at for one that is not reported
SEARCH = ("fine_tune", "search")
USUAL = ({"copied_rate": 0.1},)  # what is tried after the sweep's own schedule
OF_COPIED = ("copied_rate", "layer_decay", "two_phases", "fresh_first")
ONLY_RANDOM = {"known": (), "named": {}, "whole": False}
PRUNABLE = {"none": 1, "median": 2, "hyperband": 3}  # cells of a trial, at least


@dataclass(frozen=True)
class Searched:
    """A grid's trials; its studies; what is trained for these and to compare.

    What is fine-tuned names the study that its schedule comes from.
    """

    trials: tuple[Trial, ...]
    studies: tuple[Study, ...] = ()
    extra: tuple[Trial, ...] = ()


def searched(experiment: Experiment, grid: Grid, trials: Sequence[Trial]) -> Searched:
    """A grid with the searches that it asks for.

    Raises `SweepError` for one that does not fit the grid.
    """
    if (search := grid.fine_tune.search) is None:
        return Searched(tuple(trials))
    studying = _Studying(experiment, grid, search)
    studies: dict[str, Study] = {"fine_tune": studying.study("fine_tune")}
    if search.base_long and "base_long" in grid.treatments:
        studies["base_long"] = studying.study("base_long")
    unequal = "base_long" not in studies
    members, unsearched = [], []
    for trial in trials:
        role = _role(trial)
        if role is None:
            members.append(trial)
            continue
        training = trial.training
        if study := studies.get(role):
            training = dataclasses.replace(training, schedule_from=study.id)
            unsearched.append(dataclasses.replace(trial, sweep=f"{trial.sweep}.unsearched"))
        members.append(dataclasses.replace(trial, training=training, tuning_unequal=unequal))
    bases = [base for study in studies.values() for base in study.bases]
    extra = (*bases, *(unsearched if search.compare else ()))
    return Searched(tuple(members), tuple(studies.values()), extra)


def _role(trial: Trial) -> Role | None:
    treatment = trial.training.treatment
    if treatment.kind == "base_long":
        return "base_long"
    return "fine_tune" if treatment.tuned_layers else None


class _Studying:
    """The studies of one grid: what they train on, and whether they fit."""

    def __init__(self, experiment: Experiment, grid: Grid, search: Search):
        self.experiment, self.grid, self.search = experiment, grid, search

    def study(self, role: Role) -> Study:
        """The study of one schedule. Raises `SweepError`."""
        own = ("base_long",) if role == "base_long" else ("selffer+", "transfer+")
        treatments = tuple(name for name in self.grid.treatments if name in own)
        if not treatments:
            raise self.mistake("nothing to tune: treatments has neither selffer+ nor transfer+")
        splits = self._splits()
        there = self._there().model_copy(update={"treatments": ("base", *treatments)})
        label = f"{self.experiment.sweep.name}.study"
        trials = _untested(trials_of(self.experiment, there, splits), label)
        cells = tuple(trial for trial in trials if _role(trial) == role)
        parents = {cell.parent for cell in cells}
        tree = tree_of(self.search.space, cells[0].training.recipe, copied=role == "fine_tune")
        pruner = self.search.pruner
        if role == "base_long" and len(cells) < PRUNABLE[pruner]:
            pruner = "none"  # it has fewer cells, and pruning only saves time
        self._check(tree, pruner, len(cells))
        declared = ("trials", "objective", "sampler", "startup", "at_once", "seed")
        return Study(
            role=role,
            sweep=self.experiment.sweep.name,
            cells=cells,
            bases=tuple(trial for trial in trials if trial.id in parents),
            tree=tree,
            pruner=pruner,
            first=self._first(role, tree, cells[0].training.recipe),
            **{name: getattr(self.search, name) for name in declared},
        )

    def _there(self) -> Grid:
        """The grid with the targets, layers and seeds of the search."""
        grid, search = self.grid, self.search
        return grid.model_copy(
            update={
                "targets": search.targets or grid.targets,
                "layers": self._layers(),
                "seeds": self._seeds(),
                "images_per_class": grid.images_per_class[:1],
            }
        )

    def _splits(self) -> tuple[Split, ...]:
        """The splits of the search, none of which is reported."""
        reported = {_halves(split): split.name for split in self.experiment.splits}
        if not self.search.splits:
            for seed in range(FIRST, FIRST + TRIES):
                found = self._divided(seed)
                if not any(_halves(split) in reported for split in found):
                    return found
            message = "every division of the classes is reported: a search needs one that is not"
            raise self.mistake(message, "splits")
        known = dict(reported)
        splits: list[Split] = []
        for index, seed in enumerate(self.search.splits):
            for split in self._divided(seed):
                if twin := known.get(_halves(split)):
                    of_search = _halves(split) not in reported
                    message = (
                        f"{split.name} and {twin} are the same halves"
                        if of_search
                        else f"{split.name} has the halves of {twin}, which is reported: a search "
                        "needs splits of its own"
                    )
                    raise self.mistake(message, "splits", index)
                known[_halves(split)] = split.name
                splits.append(split)
        return tuple(splits)

    def _divided(self, seed: int) -> tuple[Split, ...]:
        """The splits of one seed, of the sizes of the grid."""
        experiment, own = self.experiment, self.grid.splits
        grid = self.grid.model_copy(
            update={"splits": own.model_copy(update=ONLY_RANDOM | {"random": (seed,)})}
        )
        try:
            splits = splits_of(grid, experiment.data.classes)
            for split in splits:
                for letter in split.halves:
                    check_half(grid, split, letter, experiment.dataset, experiment.data)
        except SplitError as error:
            raise self.mistake(str(error), "splits") from error
        return splits

    def _seeds(self) -> tuple[int, ...]:
        reported = {seed for grid, _ in self.experiment.parts for seed in grid.seeds}
        if not self.search.seeds:
            return (next(seed for seed in itertools.count(FIRST) if seed not in reported),)
        for index, seed in enumerate(self.search.seeds):
            if seed in reported or seed in self.search.seeds[:index]:
                expected = "expected seeds that are not reported, each once"
                raise self.mistake(f"{expected}, found {seed}", "seeds", index)
        return self.search.seeds

    def _layers(self) -> tuple[int, ...]:
        depth, chosen = self.experiment.layers.depth, self.search.layers
        if not chosen:
            layers = self.grid.layers or tuple(range(1, depth))
            return tuple(dict.fromkeys((layers[0], layers[(len(layers) - 1) // 2], layers[-1])))
        for index, n in enumerate(chosen):
            if n >= depth or n in chosen[:index]:
                message = f"expected layers 1..{depth - 1}, each once, found {n}"
                raise self.mistake(message, "layers", index)
        return chosen

    def _first(self, role: Role, tree: Tree, recipe: Recipe) -> tuple[dict[str, Value], ...]:
        """The parameters of the grid's own schedule, and of the changes of it that come next."""
        enqueued = self.search.enqueue
        own = parameters_of(tree, recipe)
        if own is None:
            if enqueued:
                message = "the schedule that these change, the sweep's own, is outside of the space"
                raise self.mistake(message, "enqueue")
            return ({},)
        found = [own]
        for index, changes in enumerate(USUAL if enqueued is None else enqueued):
            here = {k: v for k, v in changes.items() if role == "fine_tune" or k not in OF_COPIED}
            parameters = changed(tree, own, here) if here else None
            if parameters is not None:
                found.append(parameters)
            elif here and enqueued is not None:
                message = "expected parameters of the space and values within it"
                raise self.mistake(message, "enqueue", index)
        return tuple(found)

    def _check(self, tree: Tree, pruner: str, cells: int) -> None:
        """Raise `SweepError` if the sampler or the pruner does not fit the space or the cells."""
        if self.search.sampler == "qmc" and (names := conditions(tree)):
            message = (
                "qmc fills a space whose parameters are always there, and here some depend on "
                f"{', '.join(names)}: fix these in the space, or use tpe or random"
            )
            raise self.mistake(message, "sampler")
        if cells < PRUNABLE[pruner]:
            message = f"{pruner} prunes trials of {PRUNABLE[pruner]} cells or more, found {cells}"
            raise self.mistake(message, "pruner")

    def mistake(self, message: str, *path: str | int) -> SweepError:
        names = self.experiment.sweep.parts.items()
        name = next(name for name, grid in names if grid is self.grid)
        source = self.experiment.source
        return SweepError([source.mistake(in_grid(name, (*SEARCH, *path), source), message)])


def _halves(split: Split) -> frozenset[tuple[int, ...]]:
    return frozenset((split.a, split.b))


def _untested(trials: Iterable[Trial], label: str) -> list[Trial]:
    """The trials, parents before children, as trainings that never see a test image."""
    ids: dict[str | None, str] = {}
    found = []
    for trial in trials:
        training = dataclasses.replace(
            trial.training, tested=False, parent=ids.get(trial.parent, trial.parent)
        )
        ids[trial.id] = training.id
        found.append(dataclasses.replace(trial, training=training, sweep=label))
    return found
