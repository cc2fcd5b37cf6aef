"""`Study`: what every trial of a search trains, in which order trials may start, and its id.

A study trial trains its cells in a fixed order, each with the same schedule. Trial k starts when
all up to k − `at_once` have ended, and what it tries depends on these alone: so a search gives the
same suggestions again however often it was interrupted, and however many workers it has.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from orchestrator.search.space import Parameters, Tree, recipe_of
from trainers.config import ID_LENGTH, Recipe, digest, to_json

if TYPE_CHECKING:
    from orchestrator.plan import Trial

Role = Literal["fine_tune", "base_long"]
Row = Mapping[str, Any]  # of the table `studies`

STATES = ("complete", "pruned", "failed")


@dataclass(frozen=True, kw_only=True)
class Study:
    """A search and its budget.

    `cells` are the networks of one study trial, with the sweep's own recipe; `bases` are what they
    copy layers of. `first` are the parameters of the first trials; those of trial 0, the sweep's
    own schedule, are empty where it lies outside of the space.
    """

    role: Role
    sweep: str
    cells: tuple[Trial, ...]
    bases: tuple[Trial, ...]
    tree: Tree
    first: tuple[Parameters, ...]
    trials: int
    objective: str
    sampler: str
    pruner: str
    startup: int
    at_once: int
    seed: int

    @functools.cached_property
    def declaration(self) -> dict[str, Any]:
        """All that the suggestions depend on beside what was found, as JSON values."""
        names = ("role", "objective", "sampler", "pruner", "startup", "at_once", "seed")
        return {name: getattr(self, name) for name in names} | {
            "cells": [cell.id for cell in self.cells],
            "space": to_json(self.tree),
            "first": [dict(parameters) for parameters in self.first],
        }

    @functools.cached_property
    def series(self) -> str:
        """Names the rows of the study, which it shares with those of other budgets."""
        return digest(["study", self.declaration], ID_LENGTH)

    @functools.cached_property
    def id(self) -> str:
        """Names the study with its budget: what was searched further is another study."""
        return digest(["study", self.declaration, self.trials], ID_LENGTH)

    def node(self, number: int) -> str:
        """Names a study trial in the frontier."""
        return f"{self.series}-{number}"

    def after(self, number: int) -> range:
        """The trials that must have ended; what must have before them is theirs to wait for."""
        return range(max(0, number - 2 * self.at_once + 1), max(0, number - self.at_once + 1))

    def known(self, rows: Mapping[int, Row], number: int) -> list[Row]:
        """The rows on which a trial depends."""
        return [rows[earlier] for earlier in range(max(0, number - self.at_once + 1))]

    def recipe(self, number: int, parameters: Parameters, own: Recipe) -> Recipe:
        """`own` with the schedule of a study trial; trial 0 leaves it as it is."""
        return own if number == 0 else recipe_of(self.tree, parameters, own)


def best(rows: Sequence[Row]) -> Row | None:
    """The row with the highest value among those that are complete, the first of equal ones."""
    complete = [row for row in rows if row["state"] == "complete"]
    return max(complete, key=lambda row: (row["value"], -row["number"]), default=None)
