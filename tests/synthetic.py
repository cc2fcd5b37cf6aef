"""Sweeps that never ran: rows that match the schemas, with numbers chosen by the test."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from orchestrator.stats.measurements import Network
from orchestrator.stats.statistics import Statistics
from orchestrator.store.schemas import SCHEMAS, first_labels, to_table
from orchestrator.store.store import Store

Row = Mapping[str, Any]
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TREATMENTS = (
    ("selffer", True),
    ("selffer", False),
    ("transfer", True),
    ("transfer", False),
    ("random", True),
)
STEPS, EVERY = 500, 50

# From a prototype on digits: points against the own base for n = 1..7; the bases in percent.
DIGITS = {
    ("selffer", True): (1.2, 2.0, 0.3, -0.2, -0.2, -0.3, -0.5),
    ("selffer", False): (4.0, 3.3, 5.1, 4.3, 4.0, 4.1, 3.7),
    ("transfer", True): (1.6, 0.0, -13.2, -21.3, -25.5, -36.2, -39.6),
    ("transfer", False): (2.9, 3.8, 4.2, 3.4, 3.1, 3.9, 3.2),
    ("random", True): (-1.2, -8.8, -26.5, -36.9, -54.9, -51.1, -52.1),
}
BASE, BASE_LONG = 87.5, 91.0

NETWORK = Network(  # of which a test replaces what it is about
    sweep="x",
    id="x",
    name="x",
    condition=None,
    division="random",
    images_per_class=None,
    split="s0",
    target="B",
    seed=0,
    arm="AnB",
    n=1,
    classes=5,
    metric="top1",
    value=0.5,
    val_top1=0.5,
    at_chance=False,
)


@dataclass(frozen=True, kw_only=True)
class Label:
    """The labels of a member. Factories compute `top1` from them."""

    split: str
    target: str
    treatment: str
    n: int = 0
    frozen: bool = False
    seed: int = 0
    division: str | None = field(default="random", repr=False)  # names no network, draws no noise
    images_per_class: int | None = field(default=None, repr=False)
    condition: str | None = field(default=None, repr=False)


@dataclass
class Synthetic:
    """The rows of one sweep."""

    name: str = "demo"
    members: list[Row] = field(default_factory=list)
    trials: list[Row] = field(default_factory=list)
    curves: list[Row] = field(default_factory=list)

    def add(self, label: Label, top1: float | None, **columns: Any) -> str:
        """Add a member, and with `top1` its complete trial; return the id."""
        member = member_row(self.name, label)
        self.members.append(member)
        if top1 is not None or "outcome" in columns:
            self.trials.append(trial_row(member, top1, **columns))
        return str(member["id"])

    @property
    def tables(self) -> tuple[pa.Table, pa.Table]:
        """Members and trials."""
        return to_table("sweeps", self.members), to_table("trials", self.trials)

    def statistics(self, classes: pa.Table | None = None) -> Statistics:
        """Statistics of these rows; `classes` is the table of that name, empty by default."""
        members, trials = self.tables
        tables = {"sweeps": members, "trials": trials, "curves": to_table("curves", self.curves)}
        counts = to_table("classes", []) if classes is None else classes
        tables |= {"classes": counts, "measurements": to_table("measurements", [])}
        return Statistics(tables.__getitem__)

    def write(self, store: Store, text: str = "name: demo\n", **facts: str) -> None:
        store.write_sweep(self.name, self.members, text, **facts)
        curves: dict[str, list[Row]] = {}
        for point in self.curves:
            curves.setdefault(point["id"], []).append(point)
        for row in self.trials:
            complete = row["outcome"] == "complete"
            counts = [class_row(row, index) for index in range(row["classes"] or 0)]
            store.write_row(row, curves.get(row["id"], ()), counts if complete else ())


def member_row(sweep: str, label: Label) -> Row:
    """Return a row of `sweeps`. Its id is a hash of the label and independent of the sweep."""
    letter = "R" if label.treatment == "random" else None
    own = label.treatment in ("selffer", "stitched_self")
    across = label.treatment in ("transfer", "stitched")
    source = label.target if own else "BA"["AB".index(label.target)] if across else None
    plus = "+" if label.n and not label.frozen else ""
    copied = f"{letter or source}{label.n}" if label.n else ""
    long = "-long" if label.treatment == "base_long" else ""
    base = dataclasses.replace(label, treatment="base", n=0, frozen=False, target=source or "A")
    name = f"{copied}{label.target}{plus}{long} {label.split}"
    row = blank("sweeps") | dataclasses.asdict(label)
    return row | {
        "id": identify(label),
        "name": " ".join([name, *([label.condition] if label.condition else [])]),
        "sweep": sweep,
        "split_hash": "00ff",
        "source": source,
        "parent": identify(base) if source else None,
    }


def identify(label: Label) -> str:
    limit = f" {label.images_per_class}" if label.images_per_class else ""
    other = f" {label.condition}" if label.condition else ""
    return hashlib.sha256(f"{label!r}{limit}{other}".encode()).hexdigest()[:16]


def trial_row(member: Mapping[str, Any], top1: float | None, **columns: Any) -> Row:
    """Return a row of `trials`, complete unless `columns` say otherwise."""
    long = 2 if member["treatment"] == "base_long" else 1
    complete = {
        "outcome": "complete",
        "dataset": "digits",
        "network": "small8",
        "classes": 5,
        "correct": round((top1 or 0) * 1000),
        "total": 1000,
        "top1": top1,
        "val_top1": top1,
        "at_chance": False,
        "steps": STEPS * long,
        "images": STEPS * long * 32,
        "frozen_proven": True if member["frozen"] else None,
        "attempt": "a0a0a0a0",
        "seconds_train": 1.0,
        "device": "cpu",
        "host": "host1",
        "versions": json.dumps({"python": "3.11.9", "torch": "2.13.0"}),
        "git_commit": "0123456789abcdef",
        "started": START,
        "ended": START + timedelta(minutes=4),
    }
    return blank("trials") | first_labels(member) | complete | columns


def class_row(trial: Mapping[str, Any], index: int) -> Row:
    counts = {"class_index": index, "correct": 40 + index, "total": 50, "subset": "test"}
    return blank("classes") | {"id": trial["id"], "attempt": trial["attempt"]} | counts


def curve_rows(
    id: str, points: Iterable[tuple[int, float]], attempt: str = "a0a0a0a0"
) -> list[Row]:
    return [
        blank("curves") | {"id": id, "attempt": attempt, "step": step, "val_top1": top1}
        for step, top1 in points
    ]


def blank(table: str) -> dict[str, Any]:
    """Return a row of nulls."""
    return dict.fromkeys(SCHEMAS[table].names)


def grid(
    top1: Callable[[Label], float | None],
    *,
    name: str = "demo",
    splits: Sequence[str] = ("s0", "s1", "s2", "s3"),
    layers: Sequence[int] = tuple(range(1, 8)),
) -> Synthetic:
    """Return the paper's full design, both directions of each split, without curves."""
    sweep = Synthetic(name)
    for split in splits:
        for target in "AB":
            for treatment in ("base", "base_long"):
                label = Label(split=split, target=target, treatment=treatment)
                sweep.add(label, top1(label))
            for treatment, frozen in TREATMENTS:
                for n in layers:
                    label = Label(
                        split=split, target=target, treatment=treatment, n=n, frozen=frozen
                    )
                    sweep.add(label, top1(label))
    return sweep


def digits(*, noise: float = 1.0, **options: Any) -> Synthetic:
    """Return the design with the prototype's numbers, normal noise (points) and curves."""

    def top1(label: Label) -> float:
        shift = random.Random(f"{label.split}{label.target}").gauss(0, noise)
        draw = random.Random(repr(label)).gauss(0, noise)
        mean = {"base": BASE, "base_long": BASE_LONG}.get(label.treatment)
        if mean is None:
            mean = BASE + DIGITS[label.treatment, label.frozen][label.n - 1]
        return round((mean + shift + draw) * 10) / 1000

    sweep = grid(top1, **options)
    for member, trial in zip(sweep.members, list(sweep.trials), strict=True):
        pace = (
            60 if member["treatment"] in ("selffer", "transfer") and not member["frozen"] else 120
        )
        steps = trial["steps"]
        wobble = random.Random(member["id"])
        points = [
            (step, trial["top1"] - (trial["top1"] - 0.2) * 2.7 ** (-step / pace))
            for step in range(EVERY * steps // STEPS, steps + 1, EVERY * steps // STEPS)
        ]
        noisy = [(step, round(y + wobble.gauss(0, 0.005), 4)) for step, y in points[:-1]]
        sweep.curves += curve_rows(member["id"], [*noisy, (steps, trial["top1"])])
    return sweep
