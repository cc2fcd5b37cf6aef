"""`Plan`: the trials of a sweep and their parents. No disk, no clock, no Ray."""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.plan.conditions import with_conditions
from orchestrator.plan.detectors import Detectors
from orchestrator.plan.directions import direction_trials
from orchestrator.plan.grid import trials_of
from orchestrator.plan.resolve import ResolvedSweep
from orchestrator.plan.searches import with_searches
from orchestrator.plan.study import Study
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import WeightsParent
from orchestrator.sweep.schema import Grid, Sweep
from orchestrator.sweep.source import Source
from trainers.config import DatasetInfo, DatasetRef, NetworkInfo, NetworkRef, training_macs

# What tells members apart that are the same training: their other labels.
_cell = operator.attrgetter(
    *("name", "sweep", "split", "split_hash", "division", "condition", "images_per_class"),
    *("source", "target", "tuning_unequal"),
)


@dataclass(frozen=True)
class Plan:
    """The trials of a sweep, parents before children."""

    sweep: Sweep
    members: tuple[Trial, ...]
    """Cells of the grids, in canonical order. Two of them may be the same training."""
    networks: Mapping[NetworkRef, NetworkInfo]
    source: Source
    datasets: Mapping[DatasetRef, DatasetInfo]
    tasks: Mapping[str, tuple[DatasetRef, DatasetInfo]] = field(default_factory=dict)
    """Datasets of the named tasks, also of those that no grid uses."""
    studies: tuple[Study, ...] = ()
    """Searches that a grid asks for."""
    extra: tuple[Trial, ...] = ()
    """Trials that serve a search and are not reported."""
    weights: Mapping[str, WeightsParent] = field(default_factory=dict)
    """Files of weights that trials copy from, by id."""
    detectors: Detectors = field(default_factory=dict)
    """Networks with a detector."""

    @functools.cached_property
    def trials(self) -> dict[str, Trial]:
        """The trials by id. Cells that are the same training are one trial."""
        trials: dict[str, Trial] = {}
        for trial in (*self.members, *self.extra):
            trials.setdefault(trial.id, trial)
        return trials

    @functools.cached_property
    def of_task(self) -> dict[str, list[Trial]]:
        """A trial for each sample of a task, by the task's name: `B s2`, `B`, `mnist d1`, …"""
        samples: dict[str, dict[tuple[Any, ...], Trial]] = {}
        for trial in self.members:
            sample = trial.training.target, trial.split, trial.division
            for name in (trial.target, f"{trial.target} {trial.split}"):
                samples.setdefault(name, {}).setdefault(sample, trial)
        return {name: list(trials.values()) for name, trials in samples.items()}

    def wanted(self, only: Iterable[str] | None = None) -> set[str]:
        """Return `only` with parents. Default: all trials except the bases of searches."""
        if only is None:
            for_searches = {base.id for study in self.studies for base in study.bases}
            only = self.trials.keys() - for_searches
        return self.with_parents(only)

    def with_parents(self, ids: Iterable[str]) -> set[str]:
        """Return these ids and those of the bases that they copy layers of."""
        wanted = set(ids)
        parents = {parent for id in wanted for parent in self.trials[id].parents}
        return wanted | (parents & self.trials.keys())

    def layers(self, trial: Trial) -> NetworkInfo:
        """Return the layers of a trial's network; a detector is the last one of its own."""
        training = trial.training
        if detector := training.recipe.detector:
            return self.detectors[training.network, detector, training.target.dataset]
        return self.networks[trial.training.network]

    def macs(self, trial: Trial) -> tuple[int, ...]:
        """Return the multiply-adds of one image forward, for each layer that a trial runs.

        A classifier runs the layers below it, on pixels none.
        """
        macs, training = self.layers(trial).macs, trial.training
        return macs[: training.treatment.n] if training.recipe.classifier else macs

    def flops(self, trial: Trial) -> float:
        """Return the floating-point operations of a training, two per multiply-add.

        Frozen layers cost no backward pass. The fit of a classifier is not counted, nor is what a
        detector does above its neck.
        """
        if trial.id not in self._flops:
            self._flops[trial.id] = self._flops_of(trial)
        return self._flops[trial.id]

    @functools.cached_property
    def _flops(self) -> dict[str, float]:
        return {}

    def _flops_of(self, trial: Trial) -> float:
        training = trial.training
        macs = training_macs(
            self.macs(trial),
            training.frozen_layers,
            stitched=training.treatment.is_stitched,
        )
        return 2.0 * macs * trial.images


def make_plan(resolved: ResolvedSweep) -> Plan:
    """Return the plan of a sweep. A cell that two grids share is one member.

    Raises `SweepError` for a search that does not fit its grid.
    """
    cells: dict[tuple[object, ...], Trial] = {}
    studies: dict[str, Study] = {}
    extra: dict[str, Trial] = {}
    grids: list[tuple[Grid, list[Trial]]] = []
    for grid, splits in resolved.parts:
        if resolved.sweep.has_directions(grid):
            trials = direction_trials(resolved, grid)
        else:
            trials = trials_of(resolved, grid, splits)
        if grid.fine_tune.search is not None:
            searched = with_searches(resolved, grid, grid.fine_tune.search, trials)
            trials = searched.trials
            studies |= {study.id: study for study in searched.studies}
            extra |= {trial.id: trial for trial in searched.extra}
        grids.append((grid, trials))
    for trial in with_conditions(grids):
        cells.setdefault((trial.id, *_cell(trial)), trial)
    return Plan(
        sweep=resolved.sweep,
        members=tuple(cells.values()),
        networks=resolved.networks,
        source=resolved.source,
        datasets=resolved.datasets,
        tasks=resolved.tasks,
        studies=tuple(studies.values()),
        extra=tuple(extra.values()),
        weights={parent.id: parent for parent in resolved.weights.values()},
        detectors=resolved.detectors,
    )
