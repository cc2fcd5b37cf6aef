"""Records of long runs with random faults, so that they add up over days and commits."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.simulation.scenarios import EACH
from trainers import whole_file

FILE = Path(__file__).with_name("records.json")


@dataclass(frozen=True, kw_only=True)
class Record:
    """Sweeps with random faults in one run of `python -m tests.simulation`."""

    date: str
    """UTC."""
    commit: str
    """Commit of layerwise, with + if its folder had changes."""
    first: int
    """First seed."""
    last: int
    each: int = EACH
    """Faults in a sweep, by which its seed is replayed."""
    sweeps: int
    faults: int
    wrong: int
    """Sweeps with problems."""
    cpu_minutes: float


def read(file: Path = FILE) -> list[Record]:
    """Return the records of a file; none without the file."""
    if not file.exists():
        return []
    return [Record(**record) for record in json.loads(file.read_text())]


def write(file: Path, records: list[Record]) -> None:
    """Write the records of a file, one in a line."""
    lines = [json.dumps(asdict(record)) for record in records]
    whole_file.write(file, ("[\n" + ",\n".join(lines) + "\n]\n").encode())


def next_seed(records: list[Record]) -> int:
    """Return the seed after the last one that was tried."""
    return max((record.last for record in records), default=-1) + 1


def total(records: list[Record]) -> dict[str, Any]:
    """Return the sums over all records: sweeps, faults, and sweeps with problems."""
    names = ("sweeps", "faults", "wrong")
    return {name: sum(getattr(record, name) for record in records) for name in names}
