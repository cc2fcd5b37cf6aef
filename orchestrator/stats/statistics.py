"""The statistics of a sweep or of a whole store, each computed at most once.

The terminal, the report and the SQL views all take their numbers from a `Statistics`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.margin import MARGIN
from orchestrator.stats.advice import Advice, advice
from orchestrator.stats.class_effects import class_effects
from orchestrator.stats.comparisons import comparisons
from orchestrator.stats.completeness import Planned
from orchestrator.stats.decomposition import decomposition
from orchestrator.stats.effects import effects, levels, table1
from orchestrator.stats.intervals import needs_classes, with_classes
from orchestrator.stats.learning_speed import speed, speeds
from orchestrator.stats.measurements import (
    ONE_CLASS,
    Measured,
    Network,
    measurements,
    needs_training,
)
from orchestrator.stats.overtaking import overtaking
from orchestrator.stats.predictions import predictions
from orchestrator.stats.samples import Samples
from orchestrator.stats.search_gain import held_out
from orchestrator.store.schemas import with_results
from orchestrator.store.store import Store

OF_CURVES = ["id", "step", "val_top1"]  # columns that statistics need
OF_TRIALS = [  # columns that networks need, but `training`, which is long
    *("id", "outcome", "classes", "val_top1", "at_chance", "top1", *ONE_CLASS, "map50"),
]
FEW = {"trials": OF_TRIALS, "curves": OF_CURVES}


@dataclass(frozen=True)
class Statistics:
    """The statistics of one set of tables, as attributes.

    `read` returns a table by its name in the store: `sweeps`, `trials`, `curves`, `classes` or
    `measurements`. A table is read when a statistic first needs it. `metric` is the column of
    `trials` that measures a network; by default each network has its own, see `measurements`.
    `read_few` returns `OF_TRIALS` of `trials` or `OF_CURVES` of `curves`, where that is cheaper.
    """

    read: Callable[[str], pa.Table]
    metric: str | None = None
    read_few: Callable[[str], pa.Table] | None = None

    @classmethod
    def of_store(cls, store: Store, metric: str | None = None) -> Statistics:
        """Return the statistics of all sweeps of a store."""

        @functools.cache
        def read_few(name: str) -> pa.Table:
            return store.table(name, FEW[name])

        return cls(functools.cache(store.table), metric, read_few)

    def by(self, metric: str) -> Statistics:
        """Return the statistics of the same tables by another metric."""
        return Statistics(self.read, metric, self.read_few)

    @classmethod
    def of_sweep(cls, store: Store, sweep: str, metric: str | None = None) -> Statistics:
        """Return the statistics of one sweep. Raises `StoreError` if the store does not know it.

        The table `trials` stays complete: `held_out` compares members with trials beside the sweep.
        """
        members = store.members(sweep)
        ids = members["id"].unique()
        networks = pa.concat_arrays([ids, members["parent"].unique()])  # with files of weights

        @functools.cache
        def read(name: str) -> pa.Table:
            if name == "sweeps":
                return members
            table = store.table(name)
            column = "trial" if name == "measurements" else "id"
            wanted = networks if name == "measurements" else ids
            return table if name == "trials" else table.filter(pc.is_in(table[column], wanted))

        @functools.cache
        def read_few(name: str) -> pa.Table:
            table = store.table(name, FEW[name])
            return table if name == "trials" else table.filter(pc.is_in(table["id"], ids))

        return cls(read, metric, read_few)

    @cached_property
    def members(self) -> pa.Table:
        """The table `sweeps`: one row per member of a sweep."""
        return self.read("sweeps")

    @cached_property
    def trials(self) -> pa.Table:
        """The rows of `trials` that belong to a member."""
        trials = self.read("trials")
        return trials.filter(pc.is_in(trials["id"], self.members["id"].unique()))

    @cached_property
    def scores(self) -> pa.Table:
        """The rows of `trials` that belong to a member, with at least `OF_TRIALS`."""
        if self.read_few is None or self.metric is not None:
            return self.trials
        few = self.read_few("trials")
        few = few.filter(pc.is_in(few["id"], self.members["id"].unique()))
        return self.trials if needs_training(few) else few

    @cached_property
    def results(self) -> pa.Table:
        """The table `sweeps` with the results: one row per trial and sweep, with its labels."""
        return with_results(self.members, self.read("trials"))

    @cached_property
    def curves(self) -> pa.Table:
        """The learning curves of the members."""
        return self.read("curves")

    @cached_property
    def heights(self) -> pa.Table:
        """Validation top-1 of the curves, by trial and step."""
        return self.read_few("curves") if self.read_few else self.curves

    @cached_property
    def networks(self) -> list[Network]:
        """The complete networks, in canonical order."""
        return measurements(self.members, self.scores, self.metric)

    @cached_property
    def incomplete(self) -> frozenset[str]:
        """Ids of the members that no number rests on: without a result, or without a row."""
        return frozenset(self.members["id"].to_pylist()) - {x.id for x in self.networks}

    @cached_property
    def unpaired(self) -> frozenset[str]:
        """Ids of the networks that are compared with nothing, since their base is incomplete."""
        place = ("sweep", "split", "target", "seed")
        members = self.members.filter(pc.equal(self.members["treatment"], "base"))
        gone = {
            tuple(row[name] for name in place)
            for row in members.select([*place, "id"]).to_pylist()
            if row["id"] in self.incomplete
        }
        if not gone:
            return frozenset()
        bases = {x.cell for x in self.networks if x.arm == "base"}
        return frozenset(
            x.id
            for x in self.networks
            if x.cell not in bases and tuple(getattr(x, name) for name in place) in gone
        )

    @cached_property
    def without_curve(self) -> frozenset[str]:
        """Ids of the networks whose curve is gone."""
        return frozenset(x.id for x in self.networks).difference(
            self.heights["id"].unique().to_pylist()
        )

    @cached_property
    def planned(self) -> Planned:
        """The places at which the members plan each arm."""
        return Planned.of(self.members, self.networks)

    @cached_property
    def measured(self) -> list[Measured]:
        """The networks with their numbers; only these need the table `classes`, and not always."""
        classes = self.read("classes") if needs_classes(self.members) else None
        return with_classes(self.networks, self.members, classes)

    @cached_property
    def samples(self) -> Samples:
        """The numbers of the networks as arrays."""
        return Samples(self.measured)

    @cached_property
    def effects(self) -> pa.Table:
        """Differences between arms: `EFFECTS`."""
        return effects(self.samples, self.planned)

    @cached_property
    def decomposition(self) -> pa.Table:
        """Parts of what copied layers lose and gain: `DECOMPOSITION`."""
        return decomposition(self.effects)

    @cached_property
    def class_effects(self) -> pa.Table:
        """Cost of copied layers for each class: `CLASS_EFFECTS`."""
        return class_effects(self.networks, self.read("classes"))

    @cached_property
    def levels(self) -> pa.Table:
        """Mean of the metric by arm and n: `LEVELS`."""
        return levels(self.samples, self.planned)

    @cached_property
    def table1(self) -> pa.Table:
        """Table 1 of the paper, for these networks: `TABLE1`."""
        return table1(self.networks)

    def advice(self, margin: float = MARGIN) -> list[Advice]:
        """Return which layers to keep, for a margin as a fraction of the test images."""
        columns = ["id", "seconds_train", "seconds_wait", "peak_memory_bytes", "images"]
        return advice(self.measured, self.trials.select(columns).to_pylist(), margin)

    @cached_property
    def speed(self) -> pa.Table:
        """Steps of each network to the accuracy of its base: `SPEED`."""
        return speed(self.networks, self.heights)

    @cached_property
    def speeds(self) -> pa.Table:
        """Summary of `speed` by arm and n: `SPEEDS`."""
        return speeds(self.speed)

    @cached_property
    def overtaking(self) -> pa.Table:
        """Fine-tuning less classifiers on features, by images per class: `OVERTAKING`."""
        fitted = self.trials.filter(pc.is_valid(self.trials["classifier"]))
        return overtaking(self.measured, set(fitted["id"].to_pylist()))

    @cached_property
    def current_measurements(self) -> pa.Table:
        """The rows of `measurements` that hold a value of the weights that the networks have."""
        rows, trials = self.read("measurements"), self.read("trials")
        weights = dict(zip(trials["id"].to_pylist(), trials["checkpoint"].to_pylist(), strict=True))

        def is_of_now(row: dict[str, str]) -> bool:
            both = (("trial", "checkpoint"), ("other", "other_checkpoint"))
            return all(weights.get(row[name], row[sha]) == row[sha] for name, sha in both)

        columns = ["trial", "checkpoint", "other", "other_checkpoint", "value"]
        mask = [
            row["value"] is not None and is_of_now(row) for row in rows.select(columns).to_pylist()
        ]
        return rows.filter(pa.array(mask, pa.bool_()))

    @cached_property
    def comparisons(self) -> pa.Table:
        """Means of the measurements: `COMPARISONS`."""
        ids, parents = (self.members[name].to_pylist() for name in ("id", "parent"))
        by_id = dict(zip(ids, parents, strict=True))
        return comparisons(self.networks, by_id, self.current_measurements)

    @cached_property
    def predictions(self) -> pa.Table:
        """Rank correlations of the predictors: `PREDICTIONS`."""
        return predictions(self.networks, self.trials, self.current_measurements)

    @cached_property
    def held_out(self) -> pa.Table:
        """Gain of searched schedules: `HELD_OUT`."""
        return held_out(self.members, self.read("trials"))
