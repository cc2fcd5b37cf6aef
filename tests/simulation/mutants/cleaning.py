"""Mutants of leases and of `clean`."""

from __future__ import annotations

from typing import Any

from orchestrator.store import cleanup, leases
from tests.simulation.mutants.declared import Mutants

MUTANTS = Mutants()


MUTANTS.add(
    "clean_sees_no_lease",
    "`clean` does not ask for runs.",
    (cleanup, "spare", lambda _, waste: list(waste)),
)
MUTANTS.add("leases_hold_no_time", "A lease expires at once.", (leases, "HOLDS", 0.0))


@MUTANTS.mutant(
    "`clean` removes what it saw first, without a second look.", (cleanup.Cleaner, "remove")
)
def no_second_look(self: Any, waste: Any) -> int:
    for item in waste:
        self.store.delete(item.path)
    return len(waste)
