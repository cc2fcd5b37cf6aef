"""The trials of a grid of named tasks: one direction for each pair of source and target. Pure.

A direction is a population of its own: its division is `mnist to digits`. The draws of the target's
training images take the place of splits. The target's base, its selffer and its random filters are
members of every direction that ends there, as one training each.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.plan.grid import name_of, recipe_of, source_network, treatments_of
from orchestrator.plan.resolve import ResolvedSweep
from orchestrator.plan.tasks import task_of
from orchestrator.plan.trial import Trial
from orchestrator.plan.weights import form_of
from orchestrator.sweep.schema import FROM_SOURCE, Grid
from orchestrator.sweep.transfers import pairs
from trainers.canonical import digest
from trainers.config import Adaptation, Task, Training, Treatment

ALL = "all"  # the split of a target that learns all images, or always the same


def direction_trials(resolved: ResolvedSweep, grid: Grid) -> list[Trial]:
    """Return the trials of one grid, parents before children.

    The order is: directions, draws, seeds, images per class, bases, treatments, layers.
    """
    trials = []
    for source, target in pairs(resolved.sweep, grid):
        for draws in _draws(resolved, source, target):
            for seed in grid.seeds:
                limits = dict.fromkeys(grid.images_per_class)
                for limit in limits:
                    one = _Direction(resolved, grid, source, target, draws, seed, limit)
                    trials += one.trials()
    return trials


def _draws(
    resolved: ResolvedSweep, source: str, target: str
) -> list[tuple[int | None, int | None]]:
    """Return pairs of a draw of the source and one of the target.

    Equally many draws belong together by their order. Otherwise the source has its first draw.
    """
    tasks = resolved.sweep.tasks
    of_target: tuple[int | None, ...] = tasks[target].draws or (None,)
    of_source = (tasks[source].draws if source in tasks else ()) or (None,)
    if len(of_source) == len(of_target):
        return list(zip(of_source, of_target, strict=True))
    return [(of_source[0], draw) for draw in of_target]


@dataclass(frozen=True)
class _Direction:
    """One source and one target, with one draw of each, one seed and one limit of images."""

    resolved: ResolvedSweep
    grid: Grid
    source: str
    target: str
    draws: tuple[int | None, int | None]
    seed: int
    images_per_class: int | None

    @property
    def is_weights(self) -> bool:
        """True if the source is a file of weights: it has no base, and the target no selffer."""
        return self.source in self.resolved.weights

    @property
    def is_one_of_several(self) -> bool:
        """True if the weights declare a normalisation, and the target has other sources too."""
        form = self.resolved.forms.get(self.source)
        others = [pair for pair in pairs(self.resolved.sweep, self.grid) if pair[1] == self.target]
        return form is not None and bool(form.mean) and len(others) > 1

    @property
    def division(self) -> str:
        """`mnist to digits`, or `weights imagenet to digits`."""
        return f"{'weights ' * self.is_weights}{self.source} to {self.target}"

    def trials(self) -> list[Trial]:
        """Return the trials of the direction, bases first."""
        own, source = None, None
        base = Treatment(kind="base")
        if "base" in self.grid.treatments:
            own = self._trial(base)
            if any(name in FROM_SOURCE for name in self.grid.treatments) and not self.is_weights:
                source = self._trial(base, is_source=True)
        return [*filter(None, (own, source)), *self._others(own, source)]

    def _others(self, own: Trial | None, source: Trial | None) -> Iterator[Trial]:
        """Yield the trials beside the bases: `own` of the target, `source` of the source."""
        depth = self.resolved.depth(self.grid, self.source, self.target)
        layers = tuple(self.grid.layers or range(1, depth))
        parents = {"selffer": own, "stitched_self": own, "transfer": source, "stitched": source}
        for name in self.grid.treatments:
            for treatment in treatments_of(name, layers, depth):
                if treatment.kind != "selffer" or not self.is_weights:
                    upper = own if treatment.is_stitched else None
                    yield self._trial(treatment, parents.get(treatment.kind), upper)

    def _task(self, is_source: bool) -> Task:
        name = self.source if is_source else self.target
        ref, data = self.resolved.tasks[name]
        return task_of(
            self.resolved.sweep.tasks[name],
            ref,
            data,
            form_of(self.grid.form, self.resolved.forms.get(self.source)),
            draw=self.draws[0 if is_source else 1],
            images_per_class=None if is_source else self.images_per_class,
        )

    def _origin(self) -> Task | str:
        """Return what layers are copied from: a task, or the id of a file of weights."""
        return self.resolved.weights[self.source].id if self.is_weights else self._task(True)

    def _trial(
        self,
        treatment: Treatment,
        parent: Trial | None = None,
        upper: Trial | None = None,
        *,
        is_source: bool = False,
    ) -> Trial:
        resolved, sweep = self.resolved, self.resolved.sweep
        task = self._task(is_source)
        target = self.source if is_source else self.target
        data = resolved.tasks[target][1]
        adapt = resolved.adapt if treatment.kind == "transfer" else Adaptation()
        origin, parent_id = (parent.target, parent.id) if parent else (None, None)
        if treatment.kind in FROM_SOURCE and self.is_weights:
            origin, parent_id = self.source, self.resolved.weights[self.source].id
        training = Training(
            target=task,
            source=parent.training.target if parent else None,
            network=resolved.network if is_source else resolved.target,
            treatment=treatment,
            recipe=recipe_of(data, self.grid, treatment, task, resolved.layers.depth),
            seed=self.seed,
            parent=parent_id,
            upper=upper.id if upper else None,
            source_network=source_network(resolved, treatment),
            adapt=adapt.within(treatment.n),
        )
        split = ALL if task.draw is None else f"d{task.draw}"
        name = [name_of(treatment, origin, target, between="-")]
        name += [] if task.draw is None else [split]
        name += [] if task.images_per_class is None else [f"k{task.images_per_class}"]
        name += [f"for {self.source}"] if not origin and self.is_one_of_several else []
        name += [f"seed{self.seed}"] if len(self.grid.seeds) > 1 else []
        if training.network != resolved.target:
            name.append("source")
        roots = {key[1]: data.root for key, data in sweep.datasets.items() if key[0] == "tasks"}
        return Trial(
            training=training,
            name=" ".join(name),
            sweep=sweep.name,
            argument=resolved.source.command or sweep.name,
            split=split,
            split_hash=digest([task, None if is_source else self._origin()], 16),
            division=f"source {target}" if is_source else self.division,
            images_per_class=task.images_per_class,
            source=origin,
            target=target,
            request=sweep.request(treatment),
            keep_checkpoint=sweep.keeps(treatment, " ".join(name)),
            data_root=roots[target],
            source_root=roots.get(self.source),
        )
