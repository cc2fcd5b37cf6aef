"""`Results`: the tables, charts and networks of a store, or of one of its sweeps."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.api.tables import DrawnTable, Table
from orchestrator.errors import LayerwiseError
from orchestrator.margin import MARGIN_POINTS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

    from orchestrator.api.pages import Page
    from orchestrator.report.figure import Figure
    from orchestrator.stats.statistics import Statistics
    from orchestrator.store.store import Store
    from trainers.classifier import Pool
    from trainers.networks import Network


def open_results(place: str | Path = "results", sweep: str | None = None) -> Results:
    """Return the results of a store: a folder, or a URI such as `s3://bucket/prefix`.

    With `sweep`, those of one sweep. Raises `LayerwiseError` without such a store or sweep.
    """
    from orchestrator.store.store import Store

    store = Store(place)
    if not store.exists():
        raise LayerwiseError(f"no store at {place}: run a sweep first, or name another place")
    return Results(store, sweep)


def load_network(
    trial: str,
    results: Results | str | Path = "results",
    *,
    shape: tuple[int, int, int] | None = None,
) -> Network:
    """Return the trained network of a trial: a torch module whose children are `layer1`, `layer2`…

    Example: `load_network("A s2", "results")[:3]` is its first three layers. `trial` is a name, or
    the beginning of an id. The images need not be on this machine. `shape` (C, H, W) is that of
    the images that the network sees, for a network whose weights do not tell. Raises
    `LayerwiseError` for an unknown trial, or one whose weights the store does not have.
    """
    of = results if isinstance(results, Results) else open_results(results)
    return of.load_network(trial, shape=shape)


def features(
    trial: str,
    layer: int,
    images: Any = None,
    results: Results | str | Path = "results",
    *,
    pool: Pool = "average",
    normalised: bool = False,
) -> np.ndarray:
    """Return the outputs (N, F) of a layer of a trained network, float32.

    Example: `features("A s2", 3, images)`. `images` (N, C, H, W) are like those of the dataset,
    whose mean and deviation then normalise them, so that it must be on this machine; with
    `normalised` they are what the network sees. By default they are the test images of the trial.
    `pool` is the mean or the maximum of each channel, or all values. Raises `LayerwiseError`.
    """
    of = results if isinstance(results, Results) else open_results(results)
    return of.features(trial, layer, images, pool=pool, normalised=normalised)


class Results:
    """The results of a store, or of one sweep.

    Tables are attributes: `results.trials.pandas()`. Those that can be drawn are called:
    `results.effects()`, `results.curves("A3B+ s2")`.
    """

    def __init__(self, store: Store, sweep: str | None = None, metric: str | None = None):
        """Take the results of an open store. Nothing is read yet, except the sweep's name."""
        self.store, self.sweep_name, self.metric = store, sweep, metric
        if sweep is not None:
            store.members(sweep)

    def sweep(self, name: str) -> Results:
        """Return the results of one sweep. Raises `StoreError` if the store does not know it."""
        return Results(self.store, name, self.metric)

    def by(self, metric: str) -> Results:
        """Return the same results by another metric, such as `val_mean10`.

        Raises `LayerwiseError` for an unknown metric.
        """
        from orchestrator.stats.measurements import METRICS
        from trainers.spelling import hint

        if metric not in METRICS:
            near = hint(metric, METRICS) or f"; expected one of {', '.join(METRICS)}"
            raise LayerwiseError(f"no metric {metric!r}{near}")
        return Results(self.store, self.sweep_name, metric)

    @property
    def sweeps(self) -> list[str]:
        """Names of the sweeps of the store."""
        return self.store.sweep_names()

    @cached_property
    def statistics(self) -> Statistics:
        """The statistics that tables and charts take their numbers from."""
        from orchestrator.stats.statistics import Statistics

        if self.sweep_name is None:
            return Statistics.of_store(self.store, self.metric)
        return Statistics.of_sweep(self.store, self.sweep_name, self.metric)

    # tables ----------------------------------------------------------------------------------

    def table(self, name: str) -> Table:
        """Return a table or view by its name; see the documentation of tables."""
        from orchestrator.report.query import VIEWS
        from trainers.spelling import hint

        if name not in VIEWS:
            near = hint(name, VIEWS) or f"; expected one of {', '.join(VIEWS)}"
            raise LayerwiseError(f"no table {name!r}{near}")
        return Table(name, partial(self._load, name))

    def _load(self, name: str) -> pa.Table:
        from orchestrator.report.query import VIEWS

        if name == "trials" and self.sweep_name is not None:
            return self.statistics.trials
        if name == "studies":  # a search may serve several sweeps
            return self.store.table(name)
        return VIEWS[name][1](self.statistics)

    def _drawn(self, name: str, draw: str) -> DrawnTable:
        def figure(*arguments: str) -> Figure:
            from orchestrator.report import drawings

            if arguments and name != "curves":
                raise LayerwiseError(
                    f"{name}() draws the whole sweep; curves({arguments[0]!r}) draws one trial"
                )
            function: Callable[..., Figure] = getattr(drawings, draw)
            return function(self.statistics, *arguments)

        return DrawnTable(name, partial(self._load, name), figure)

    @cached_property
    def results(self) -> Table:
        """One row per sweep and trial, with the labels of that sweep."""
        return self.table("results")

    @cached_property
    def trials(self) -> Table:
        """One row per trial."""
        return self.table("trials")

    @cached_property
    def curves(self) -> DrawnTable:
        """Learning curves. `curves()` draws their means, `curves("A3B+ s2")` one of them."""
        return self._drawn("curves", "curves_figure")

    @cached_property
    def classes(self) -> Table:
        """Correct images and all images of each class."""
        return self.table("classes")

    @cached_property
    def effects(self) -> DrawnTable:
        """Differences between treatments, with intervals. `effects()` draws them."""
        return self._drawn("effects", "effects_figure")

    @cached_property
    def levels(self) -> Table:
        """Mean accuracy of each treatment, with intervals."""
        return self.table("levels")

    @cached_property
    def decomposition(self) -> DrawnTable:
        """Parts of the loss of frozen layers. `decomposition()` draws them."""
        return self._drawn("decomposition", "decomposition_figure")

    @cached_property
    def table1(self) -> DrawnTable:
        """Table 1 of the paper, for these results. `table1()` draws its paired differences."""
        return self._drawn("table1", "table1_figure")

    @cached_property
    def speed(self) -> Table:
        """Steps that each network needed to reach its base."""
        return self.table("speed")

    @cached_property
    def failures(self) -> Table:
        """Trials that ended without a result, and why."""
        return self.table("failures")

    @cached_property
    def cost(self) -> Table:
        """Time and memory of each treatment."""
        return self.table("cost")

    @cached_property
    def paper(self) -> Table:
        """The published results."""
        return self.table("paper")

    def query(self, sql: str) -> Table:
        """Return the answer to a query in SQL. Raises `LayerwiseError` for a mistake in it.

        It sees the whole store: choose a sweep with `WHERE sweep = 'digits'`.
        """
        from orchestrator.report.query import run_query

        answer = run_query(self.store, sql)
        return Table("query", lambda: answer)

    def compare(self, other: Results | str, *, relative: bool = False) -> Table:
        """Return the differences to another sweep, cell by cell: treatment and n.

        Both are results of one sweep; `other` may be the name of a sweep of the same store, or
        `paper`. With `relative`, differences to the own base are compared. Cells that differ at a
        false-discovery rate of 5 % are marked.
        """
        from orchestrator.reference.recomputed import statistics
        from orchestrator.stats.contrasts import contrasts

        if other == "paper":
            second = statistics(self.metric or "top1")
        else:
            second = (self.sweep(other) if isinstance(other, str) else other).statistics
        first = self.statistics
        return Table("compare", lambda: contrasts(first, second, relative=relative))

    def explain(self, trial: str) -> dict[str, Any]:
        """Return why a trial of this sweep was trained or reused, as `layerwise explain --json`."""
        from orchestrator.api.sweeps import planned
        from orchestrator.plan.filter import find
        from orchestrator.report.explain import explanation

        if self.sweep_name is None:
            raise LayerwiseError("name a sweep first: results.sweep(…).explain(…)")
        plan = planned(self.sweep_name, self.store)
        return explanation(plan, find(plan, trial), self.store)

    # networks and pages ----------------------------------------------------------------------

    def load_network(self, trial: str, *, shape: tuple[int, int, int] | None = None) -> Network:
        """Return the trained network of a trial; see `layerwise.load_network`."""
        from orchestrator.api.networks import network_of, trained

        return network_of(trained(self.statistics, self.store, trial), shape)

    def features(
        self,
        trial: str,
        layer: int,
        images: Any = None,
        *,
        pool: Pool = "average",
        normalised: bool = False,
    ) -> np.ndarray:
        """Return outputs of a layer of a trained network; see `layerwise.features`."""
        from orchestrator.api.networks import outputs_of, trained

        of = trained(self.statistics, self.store, trial)
        return outputs_of(of, layer, images, pool, normalised=normalised)

    def report(self, sweep: str | None = None, *, margin: float = MARGIN_POINTS) -> Page:
        """Write the report of a sweep as a page, and return the page.

        `margin` is the loss in points that its answers are about.
        """
        from orchestrator.api.pages import Page, write_report_of

        name = sweep or self.sweep_name
        if name is None:
            raise LayerwiseError(f"name a sweep: report({', '.join(map(repr, self.sweeps))})")
        of = self if name == self.sweep_name else self.sweep(name)
        return Page(write_report_of(self.store, name, of.statistics, margin))

    def __repr__(self) -> str:
        from orchestrator.report.wording import count

        sweeps = count(len(self.sweeps), "sweep")
        what = f"sweep {self.sweep_name}" if self.sweep_name else sweeps
        return f"<Results of {what} in {self.store.root}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>"
