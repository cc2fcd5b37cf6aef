"""The protocol, broken on purpose: each mutant is a patch of production code that must be caught.

A mutant is caught if a scenario, a crash point or a random sweep shows a problem. Those marked with
a commit bring back a fault that this project had.
"""

from __future__ import annotations

from tests.simulation.mutants import (
    cleaning,
    folders,
    frontiers,
    packs,
    patience,
    reading,
    rows,
    runs,
    snapshots,
    workers,
)
from tests.simulation.mutants.declared import Mutant
from tests.simulation.mutants.trial import broken, caught

__all__ = ["MUTANTS", "Mutant", "broken", "caught"]

MUTANTS: dict[str, Mutant] = {
    **folders.MUTANTS,
    **patience.MUTANTS,
    **snapshots.MUTANTS,
    **workers.MUTANTS,
    **frontiers.MUTANTS,
    **runs.MUTANTS,
    **packs.MUTANTS,
    **cleaning.MUTANTS,
    **rows.MUTANTS,
    **reading.MUTANTS,
}
"""All mutants by name, in the order of the table in docs/safety.md."""
