"""Kinds of rows: of trials, study trials, measurements and extractions.

An attempt writes its rows of a kind together. Readers choose one attempt of each id, and compaction
moves attempts whole. All that differs between the kinds is said here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from orchestrator.states import OUTCOMES, State
from orchestrator.store.names import DerivedFile, StudyFile

INDEX = ["id", "outcome", "attempt", "ended"]
ATTEMPT = 8  # first digits of the digest, which name an attempt that has no name of its own


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Rows that are written, chosen and moved together."""

    noun: str
    """Word for the thing that an id names, in messages."""
    main: str
    """Table with the outcome of each attempt, and folder of its parts."""
    points: tuple[str, ...] = ()
    """Tables with further rows of an attempt, which have the id of its row."""
    key: tuple[str, ...] = ("id",)
    """Columns that make the id."""
    outcome: str = "outcome"
    """Column with the outcome."""
    ranks: Mapping[str, int] = field(default_factory=dict)
    """Place of each outcome, the best first; empty if all are equal. Of these the latest counts."""
    has_attempts: bool = False
    """True if the table has a column `attempt`."""
    has_several: bool = False
    """True if an attempt has several rows in its main table, all with its id and outcome."""

    @property
    def tables(self) -> tuple[str, ...]:
        return (self.main, *self.points)

    @property
    def prefix(self) -> str:
        """Start of the names of its row files."""
        return "" if self.has_attempts else f"{self.main}-"

    def rank(self, outcome: str) -> int:
        return self.ranks[outcome] if self.ranks else 0

    def id_of(self, row: Mapping[str, Any]) -> str:
        """Return the id of a row."""
        return "-".join(str(row.get(name)) for name in self.key)

    def ids(self, arrow: pa.Table) -> pa.ChunkedArray:
        """Return the ids of rows with the columns of the key."""
        if len(self.key) == 1:
            return arrow[self.key[0]]
        return pc.binary_join_element_wise(*(arrow[c].cast(pa.string()) for c in self.key), "-")

    @property
    def index_columns(self) -> list[str]:
        """Columns that `index` needs beside `digest`."""
        attempt = ["attempt"] if self.has_attempts else []
        return [*self.key, self.outcome, *attempt, "ended"]

    def index(self, arrow: pa.Table) -> pa.Table:
        """Return the columns by which readers choose among rows; `arrow` has `digest` too."""
        attempts = (
            arrow["attempt"]
            if self.has_attempts
            else pc.utf8_slice_codeunits(arrow["digest"], 0, ATTEMPT)
        )
        columns = [self.ids(arrow), arrow[self.outcome], attempts, arrow["ended"]]
        return pa.table(columns, names=INDEX)


TRIALS = Kind(
    noun="trial",
    main="trials",
    points=("curves", "classes"),
    ranks={outcome: place for place, outcome in enumerate(OUTCOMES)},
    has_attempts=True,
)
STUDIES = Kind(
    noun="study trial",
    main="studies",
    key=("series", "number"),
    outcome="state",
    ranks={State.COMPLETE: 0, State.PRUNED: 0, State.FAILED: 1},
)
# Networks may have been trained again since the rows before: the latest count, whatever they say.
MEASUREMENTS = Kind(noun="measurement", main="measurements", has_several=True)
EXTRACTIONS = Kind(noun="extraction", main="extractions")
KINDS = (TRIALS, STUDIES, MEASUREMENTS, EXTRACTIONS)
MAIN = {kind.main: kind for kind in KINDS}


def old_id(table: str, name: str) -> str | None:
    """Return the id in the name of a file of versions before 3; None for other names.

    Files of `trials` lay in folders by their outcomes (`view.py`).
    """
    if table == STUDIES.main:
        study = StudyFile.parse(name)
        return f"{study.series}-{study.number}" if study else None
    derived = DerivedFile.parse(name) if table in (MEASUREMENTS.main, EXTRACTIONS.main) else None
    return derived.id if derived else None
