"""The searches that a grid asks for: their studies, and the trials that wait for them. Pure.

The networks of a study are planned as those of any grid, with splits and seeds that are not
reported. They are never tested: a search must not see a test image.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from orchestrator.errors import SweepError
from orchestrator.plan.grid import trials_of
from orchestrator.plan.resolve import ResolvedSweep
from orchestrator.plan.search_space import Tree, Value, changed, conditions, parameters_of, tree_of
from orchestrator.plan.splits import SplitError, checked_splits, halves_of
from orchestrator.plan.study import Role, Study
from orchestrator.plan.trial import Trial
from orchestrator.sweep.inheritance import in_grid
from orchestrator.sweep.schema import Grid
from orchestrator.sweep.search import Search
from trainers.recipe import Recipe
from trainers.splits import Split

FIRST_SEED = 1000  # of the splits and trainings of a search, if the sweep gives none
TRIES = 1000  # seeds that are tried to find a split that is not reported
SEARCH = ("fine_tune", "search")
DEFAULT_CHANGES = ({"copied_rate": 0.1},)  # tried right after the sweep's own schedule
FOR_COPIED = ("copied_rate", "layer_decay", "two_phases", "fresh_first")
ONLY_RANDOM = {"known": (), "named": {}, "drawn": False, "whole": False}
FEWEST_CELLS = {"none": 1, "median": 2, "hyperband": 3}  # per study trial, by pruner


@dataclass(frozen=True)
class SearchedGrid:
    """The trials of a grid with its searches."""

    trials: list[Trial]
    """Cells of the grid. A trial with a searched schedule names its study."""
    studies: list[Study]
    extra: list[Trial]
    """Bases of the studies, and trials with the sweep's own schedule to compare with."""


def with_searches(
    resolved: ResolvedSweep, grid: Grid, search: Search, trials: Iterable[Trial]
) -> SearchedGrid:
    """Return the trials of a grid with the studies that choose their schedules.

    Raises `SweepError` for a search that does not fit the grid.
    """
    builder = _StudyBuilder(resolved, grid, search)
    studies: dict[Role, Study] = {"fine_tune": builder.study("fine_tune")}
    if search.base_long and "base_long" in grid.treatments:
        studies["base_long"] = builder.study("base_long")
    cells: list[Trial] = []
    extra = [base for study in studies.values() for base in study.bases]
    for trial in trials:
        role = _role(trial)
        if role is None:
            cells.append(trial)
            continue
        training = trial.training
        if study := studies.get(role):
            training = dataclasses.replace(training, schedule_from=study.id)
            if search.compare:
                extra.append(dataclasses.replace(trial, sweep=f"{trial.sweep}.unsearched"))
        unequal = "base_long" not in studies
        cells.append(dataclasses.replace(trial, training=training, tuning_unequal=unequal))
    return SearchedGrid(cells, list(studies.values()), extra)


def _role(trial: Trial) -> Role | None:
    """The study that a trial's schedule may come from; None for a schedule that is not searched."""
    treatment = trial.training.treatment
    if treatment.kind == "base_long":
        return "base_long"
    return "fine_tune" if treatment.tuned_layers else None


class _StudyBuilder:
    """Builds the studies of one grid and checks that they fit it."""

    def __init__(self, resolved: ResolvedSweep, grid: Grid, search: Search):
        self.resolved, self.grid, self.search = resolved, grid, search

    def study(self, role: Role) -> Study:
        """Return the study of one schedule. Raises `SweepError`."""
        searched = ("base_long",) if role == "base_long" else ("selffer+", "transfer+")
        treatments = tuple(name for name in self.grid.treatments if name in searched)
        if not treatments:
            raise self.mistake("nothing to tune: treatments has neither selffer+ nor transfer+")
        splits = self._splits()
        grid = self._grid().model_copy(update={"treatments": ("base", *treatments)})
        label = f"{self.resolved.sweep.name}.study"
        trials = _untested(trials_of(self.resolved, grid, splits), label)
        cells = tuple(trial for trial in trials if _role(trial) == role)
        parents = {cell.parent for cell in cells}
        recipe = cells[0].training.recipe
        tree = tree_of(self.search.space, recipe, copied=role == "fine_tune")
        pruner = self.search.pruner
        if role == "base_long" and len(cells) < FEWEST_CELLS[pruner]:
            pruner = "none"  # base_long has fewer cells, and pruning only saves time
        self._check(tree, pruner, len(cells))
        copied = ("trials", "objective", "sampler", "startup", "at_once", "seed")
        return Study(
            role=role,
            sweep=self.resolved.sweep.name,
            cells=cells,
            bases=tuple(trial for trial in trials if trial.id in parents),
            tree=tree,
            pruner=pruner,
            first=self._first(role, tree, recipe),
            **{name: getattr(self.search, name) for name in copied},
        )

    def _grid(self) -> Grid:
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
        reported = {halves_of(split): split.name for split in self.resolved.splits}
        if not self.search.splits:
            for seed in range(FIRST_SEED, FIRST_SEED + TRIES):
                candidates = self._random_splits(seed)
                if not any(halves_of(split) in reported for split in candidates):
                    return candidates
            message = "every division of the classes is reported: a search needs one that is not"
            raise self.mistake(message, "splits")
        known = dict(reported)
        splits: list[Split] = []
        for index, seed in enumerate(self.search.splits):
            for split in self._random_splits(seed):
                halves = halves_of(split)
                if halves in reported:
                    message = (
                        f"{split.name} has the halves of {reported[halves]}, which is reported: "
                        "a search needs splits of its own"
                    )
                    raise self.mistake(message, "splits", index)
                if halves in known:
                    message = f"{split.name} and {known[halves]} are the same halves"
                    raise self.mistake(message, "splits", index)
                known[halves] = split.name
                splits.append(split)
        return tuple(splits)

    def _random_splits(self, seed: int) -> tuple[Split, ...]:
        """The random splits of one seed, with the sizes of the grid."""
        resolved, declared = self.resolved, self.grid.splits
        splits = declared.model_copy(update=ONLY_RANDOM | {"random": (seed,)})
        grid = self.grid.model_copy(update={"splits": splits})
        try:
            return checked_splits(grid, resolved.dataset, resolved.data)
        except SplitError as error:
            raise self.mistake(str(error), "splits") from error

    def _seeds(self) -> tuple[int, ...]:
        """The seeds of the search, none of which is reported."""
        reported = {seed for grid, _ in self.resolved.parts for seed in grid.seeds}
        if not self.search.seeds:
            return (next(seed for seed in itertools.count(FIRST_SEED) if seed not in reported),)
        for index, seed in enumerate(self.search.seeds):
            if seed in reported or seed in self.search.seeds[:index]:
                expected = "expected seeds that are not reported, each once"
                raise self.mistake(f"{expected}, found {seed}", "seeds", index)
        return self.search.seeds

    def _layers(self) -> tuple[int, ...]:
        """The layers of the search; by default the first, the middle and the last of the grid."""
        depth, chosen = self.resolved.layers.depth, self.search.layers
        if not chosen:
            layers = self.grid.layers or tuple(range(1, depth))
            return tuple(dict.fromkeys((layers[0], layers[(len(layers) - 1) // 2], layers[-1])))
        for index, n in enumerate(chosen):
            if n >= depth or n in chosen[:index]:
                message = f"expected layers 1..{depth - 1}, each once, found {n}"
                raise self.mistake(message, "layers", index)
        return chosen

    def _first(self, role: Role, tree: Tree, recipe: Recipe) -> tuple[dict[str, Value], ...]:
        """The parameters of the grid's own schedule, then those of its enqueued changes."""
        enqueued = self.search.enqueue
        own = parameters_of(tree, recipe)
        if own is None:
            if enqueued:
                message = (
                    "`enqueue` changes the sweep's own schedule, "
                    "which lies outside the search space"
                )
                raise self.mistake(message, "enqueue")
            return ({},)
        first = [own]
        for index, changes in enumerate(DEFAULT_CHANGES if enqueued is None else enqueued):
            wanted = {
                name: value
                for name, value in changes.items()
                if role == "fine_tune" or name not in FOR_COPIED
            }
            if not wanted:
                continue
            parameters = changed(tree, own, wanted)
            if parameters is not None:
                first.append(parameters)
            elif enqueued is not None:
                message = "expected parameters of the space and values within it"
                raise self.mistake(message, "enqueue", index)
        return tuple(first)

    def _check(self, tree: Tree, pruner: str, n_cells: int) -> None:
        """Raise `SweepError` if the sampler does not fit the space, or the pruner the cells."""
        if self.search.sampler == "qmc" and (names := conditions(tree)):
            message = (
                "qmc fills a space whose parameters are always there, and here some depend on "
                f"{', '.join(names)}: fix these in the space, or use tpe or random"
            )
            raise self.mistake(message, "sampler")
        if n_cells < FEWEST_CELLS[pruner]:
            message = f"{pruner} prunes trials of {FEWEST_CELLS[pruner]} cells or more"
            raise self.mistake(f"{message}, found {n_cells}", "pruner")

    def mistake(self, message: str, *path: str | int) -> SweepError:
        """Return the error for a key of the search."""
        parts = self.resolved.sweep.parts.items()
        name = next(name for name, grid in parts if grid is self.grid)
        source = self.resolved.source
        return SweepError([source.mistake(in_grid(name, (*SEARCH, *path), source), message)])


def _untested(trials: Sequence[Trial], label: str) -> list[Trial]:
    """The trials, parents before children, as trainings that never see a test image."""
    new_ids: dict[str, str] = {}
    untested = []
    for trial in trials:
        parent = None if trial.parent is None else new_ids[trial.parent]
        training = dataclasses.replace(trial.training, tested=False, parent=parent)
        new_ids[trial.id] = training.id
        untested.append(dataclasses.replace(trial, training=training, sweep=label))
    return untested
