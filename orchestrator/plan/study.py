"""`Study`: a search of one schedule, as networks to train, an order of trials, and an id.

A study trial has cells in a fixed order, all with the same schedule. Trial k starts when all
trials up to k − `at_once` have ended, and its suggestion depends on these alone. So a search makes
the same suggestions however often it is interrupted and however many workers it has.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.plan.search_space import Parameters, Tree, recipe_of
from orchestrator.states import State
from trainers.canonical import digest, to_json
from trainers.config import ID_LENGTH
from trainers.recipe import Recipe

if TYPE_CHECKING:
    from orchestrator.plan.trial import Trial

Role = Literal["fine_tune", "base_long"]
Row = Mapping[str, Any]  # of the table `studies`


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search and its budget. The last seven fields are described in `sweep.search.Search`."""

    role: Role
    """Trials whose schedule is searched."""
    sweep: str
    cells: tuple[Trial, ...]
    """Networks of one study trial, with the sweep's own recipe."""
    bases: tuple[Trial, ...]
    """Networks that the cells copy layers of."""
    tree: Tree
    first: tuple[Parameters, ...]
    """Parameters of the first trials. Trial 0 has the sweep's own schedule; its parameters are
    empty if that schedule is outside of the space."""
    trials: int
    objective: str
    sampler: str
    pruner: str
    startup: int
    at_once: int
    seed: int

    @functools.cached_property
    def declaration(self) -> dict[str, Any]:
        """Everything that the suggestions depend on, apart from results, as JSON values."""
        names = ("role", "objective", "sampler", "pruner", "startup", "at_once", "seed")
        return {name: getattr(self, name) for name in names} | {
            "cells": [cell.id for cell in self.cells],
            "space": to_json(self.tree),
            "first": [dict(parameters) for parameters in self.first],
        }

    @functools.cached_property
    def series(self) -> str:
        """Id of the study without its budget. Studies that differ in `trials` share their rows."""
        return digest(["study", self.declaration], ID_LENGTH)

    @functools.cached_property
    def id(self) -> str:
        """Id of the study with its budget: a search with more trials is another study."""
        return digest(["study", self.declaration, self.trials], ID_LENGTH)

    def node(self, number: int) -> str:
        """Name of a study trial in the frontier."""
        return f"{self.series}-{number}"

    def after(self, number: int) -> range:
        """Direct predecessors of trial `number`; earlier trials are implied."""
        return range(max(0, number - 2 * self.at_once + 1), max(0, number - self.at_once + 1))

    def known(self, rows: Mapping[int, Row], number: int) -> list[Row]:
        """Rows of the trials that the suggestion for `number` depends on."""
        return [rows[earlier] for earlier in range(max(0, number - self.at_once + 1))]

    def can_prune(self, number: int) -> bool:
        """Return whether the pruner may end trial `number`, whatever the values are.

        If not, the values of its cells decide nothing before the last one.
        """
        if self.pruner == "median":
            return number - self.at_once + 1 >= self.startup
        return self.pruner != "none"

    def recipe(self, number: int, parameters: Parameters, own: Recipe) -> Recipe:
        """Return `own` with the schedule of a study trial. Trial 0 keeps its own schedule."""
        return own if number == 0 else recipe_of(self.tree, parameters, own)


def best(rows: Sequence[Row]) -> Row | None:
    """Return the complete row with the highest value; of equal ones, the first."""
    complete = [row for row in rows if row["state"] == State.COMPLETE]
    return max(complete, key=lambda row: (row["value"], -row["number"]), default=None)


def has_choice(study: Study, rows: Sequence[Row]) -> bool:
    """Return whether all trials of a study have ended and one of them can be chosen."""
    return len(rows) == study.trials and best(rows) is not None
