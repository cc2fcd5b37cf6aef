"""What a store holds of a plan: outcomes, reasons, measured rates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.budget import Device, budget
from orchestrator.errors import LayerwiseError
from orchestrator.plan import Plan, Trial, cost
from orchestrator.power import power_summary
from orchestrator.progress import duration
from orchestrator.reference import published
from orchestrator.search.showing import print_studies, studies_summary
from orchestrator.store import Store

if TYPE_CHECKING:
    from rich.console import Console

STATES = ("complete", "failed", "lost", "skipped", "missing")


@dataclass(frozen=True)
class Status:
    """The state of every trial of a plan: an outcome, or `missing`."""

    plan: Plan
    states: dict[str, str]

    @classmethod
    def of(cls, plan: Plan, store: Store) -> Status:
        outcomes = store.outcomes()
        return cls(plan, {id: outcomes.get(id, "missing") for id in plan.trials})

    def ids(self, *states: str) -> list[str]:
        return [id for id, state in self.states.items() if state in states]

    def by_treatment(self) -> dict[str, Counter[str]]:
        """Treatment as the sweep file writes it → how many trials are in each state."""
        found: dict[str, Counter[str]] = {}
        for id, trial in self.plan.trials.items():
            found.setdefault(treatment_name(trial), Counter())[self.states[id]] += 1
        return found

    def reasons(self, store: Store) -> list[dict[str, Any]]:
        """The trials that ended otherwise than complete, with the reason."""
        columns = ("id", "name", "outcome", "error_type", "error_step", "error_message")
        rows = {
            row["id"]: {column: row[column] for column in columns}
            for state in ("failed", "lost", "skipped")
            for row in store.rows(self.ids(state), state)
        }
        return [rows[id] for id in self.states if id in rows]


def treatment_name(trial: Trial) -> str:
    """`transfer` or `transfer+`, as a sweep file writes it.

    `base (study)` is trained for a search, `transfer+ (unsearched)` to compare with its outcome.
    """
    treatment = trial.training.treatment
    name = treatment.kind + "+" * treatment.fine_tuned
    part = trial.sweep.partition(".")[2]
    return f"{name} ({part})" if part else name


def plan_summary(
    plan: Plan, store: Store, only: Iterable[str] | None = None, device: Device | None = None
) -> dict[str, Any]:
    """What a sweep would train, as JSON values: per treatment, and the cost of what is open.

    Beside it the GPU-hours on a device, the smallest difference of fine-tuned arms that the design
    can detect, and which networks the sweep's reference has published.
    """
    status = Status.of(plan, store)
    wanted = plan.with_parents(plan.trials if only is None else only)
    treatments: dict[str, dict[str, Any]] = {}
    for id in plan.trials:
        if id not in wanted:
            continue
        trial = plan.trials[id]
        row = treatments.setdefault(
            treatment_name(trial), {"trials": 0, "needs": _needs(trial), "ids": [], "open": []}
        )
        row["trials"] += 1
        row["ids"].append(id)
        if status.states[id] != "complete":
            row["open"].append(id)
    open_ids = [id for row in treatments.values() for id in row["open"]]
    measured = rates(plan, store)
    of_treatment = {name: row.pop("ids") for name, row in treatments.items()}
    for row in treatments.values():
        part = cost(plan, row["open"], measured)
        row["complete"] = row["trials"] - len(row.pop("open"))
        row |= {"flops": part.flops, "seconds": part.seconds}
    whole = cost(plan, open_ids, measured)
    labels = [trial.labels() for trial in plan.members if trial.id in wanted]
    known: dict[str, bool | None] = {}
    if plan.sweep.reference:
        for row in labels:  # a trial may be two cells, of which one was published
            if known.get(row["id"]) is None:
                known[row["id"]] = published(row)
    return {
        "sweep": plan.sweep.name,
        "trials": len(wanted),
        "complete": len(wanted) - len(open_ids),
        "treatments": treatments,
        "flops": whole.flops,
        "seconds": whole.seconds,
        "keep": plan.sweep.keep,
        "checkpoint_bytes": whole.checkpoint_bytes,
        "device": budget(plan, of_treatment, open_ids, device) if device else None,
        "detectable": power_summary(labels) if _like_the_paper(plan) else None,
        "published": sum(map(bool, known.values())) if known else None,
        "unpublished": sum(x is False for x in known.values()) if known else None,
        "studies": studies_summary(plan, store),
        "list": [
            {"id": id, "name": trial.name, "parent": trial.parent, "state": status.states[id]}
            | ({"published": known[id]} if known else {})
            for id, trial in plan.trials.items()
            if id in wanted
        ],
    }


def _like_the_paper(plan: Plan) -> bool:
    """Whether the spread between the paper's networks says something of these."""
    return bool(plan.sweep.reference) and plan.sweep.dataset.name == "imagenet"


def _needs(trial: Trial) -> str | None:
    if trial.parent is None:
        return None
    return "base of the target" if trial.source == trial.target else "base of the other half"


def print_plan(summary: dict[str, Any], console: Console) -> None:
    """`plan_summary` for a reader."""
    from rich.table import Table

    table = Table("treatment", "needs")
    device = summary["device"]
    headings = ["trials", "complete", "FLOP open", "slot time open"]
    for heading in [*headings, *([f"GPU-hours on {device['name']}"] if device else [])]:
        table.add_column(heading, justify="right")
    rows = [*summary["treatments"].items(), ("all", summary)]
    for name, row in rows:
        time = "" if row["seconds"] is None else duration(row["seconds"])
        cells = [str(row["trials"]), str(row["complete"]), si(row["flops"]), time]
        if device:
            cells.append(_hours(device["treatments"].get(name, device["hours"])))
        table.add_row(name, row.get("needs") or "", *cells)
    console.print(table)
    print_studies(summary["studies"], console)
    if summary["seconds"] is None:
        console.print("no rates in the store yet: times appear once some trials are complete")
    console.print(
        f"checkpoints that stay (keep: {summary['keep']}): "
        f"{summary['checkpoint_bytes'] / 1e6:,.1f} MB"
    )
    for note in _plan_notes(summary):
        console.print(note, soft_wrap=True)


def _plan_notes(summary: dict[str, Any]) -> list[str]:
    """What is known of the published networks, of the budget on a device, of the design's power."""
    notes = []
    if summary["published"] is not None:
        notes.append(
            f"{summary['published']} trials have a published result beside theirs, "
            f"{summary['unpublished']} were planned then and have none; "
            f"{summary['trials'] - summary['published'] - summary['unpublished']} are others"
        )
    if device := summary["device"]:
        notes.append(
            f"GPU-hours on {device['name']}: {_hours(device['hours'])} in all, evaluation included "
            f"({device['hours'] / 24:,.1f} days of one GPU), {_hours(device['hours_open'])} open"
        )
        if device["scaled"]:
            names = ", ".join(device["scaled"])
            notes.append(
                f"not measured, but scaled by FLOPs from {device['network']} there: {names}"
            )
    if found := summary["detectable"]:
        size = "none with one split" if found["points"] is None else f"{found['points']:.2f} points"
        notes.append(
            f"smallest {found['difference']} at one n that the design detects (power "
            f"{found['power']:.0%}, two-sided {found['level']:.0%}): {size}; {found['assumption']} "
            f"(sd {found['sd_points']:.2f} points)"
        )
    return notes


PREFIXES = ("", "k", "M", "G", "T", "P", "E", "Z")


def si(number: float) -> str:
    """`1.23 T` for 1.23e12."""
    power = max(0, min(len(PREFIXES) - 1, int(math.log10(number) // 3))) if number else 0
    return f"{number / 1000**power:.3g} {PREFIXES[power]}".rstrip()


def _hours(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def status_summary(plan: Plan, store: Store) -> dict[str, Any]:
    """The state of a sweep as JSON values, with the reasons for what is not complete."""
    status = Status.of(plan, store)
    counts = Counter(status.states.values())
    return {
        "sweep": plan.sweep.name,
        "trials": len(plan.trials),
        **{state: counts[state] for state in STATES},
        "treatments": {name: dict(counts) for name, counts in status.by_treatment().items()},
        "studies": studies_summary(plan, store),
        "reasons": status.reasons(store),
    }


def print_status(summary: dict[str, Any], console: Console) -> None:
    """`status_summary` for a reader."""
    from rich.table import Table

    table = Table("treatment")
    for state in STATES:
        table.add_column(state, justify="right")
    for name, counts in (*summary["treatments"].items(), ("all", summary)):
        table.add_row(name, *(str(counts.get(state, 0)) for state in STATES))
    console.print(table)
    print_studies(summary["studies"], console)
    for row in summary["reasons"]:
        where = f" at step {row['error_step']}" if row["error_step"] is not None else ""
        console.print(
            f"{row['id'][:8]} {row['name']}: {row['outcome']}{where}: {row['error_message']}",
            soft_wrap=True,
        )


def rates(plan: Plan, store: Store) -> dict[tuple[str, int, bool], float]:
    """Images a second by (treatment, n, frozen), of equal networks and batches in the store."""
    alike, kind = ("network", "dataset", "batch"), ("treatment", "n", "frozen")
    first = plan.members[0].training
    wanted = (first.network.name, first.target.dataset.name, first.recipe.batch)
    columns = ["outcome", *alike, *kind, "images", "seconds_total"]
    found: dict[tuple[str, int, bool], list[float]] = {}
    for row in store.table("trials", columns).to_pylist():
        if row["outcome"] == "complete" and wanted == tuple(row[name] for name in alike):
            treatment, n, frozen = (row[name] for name in kind)
            rate = row["images"] / row["seconds_total"]
            found.setdefault((treatment, n, frozen), []).append(rate)
    return {key: median(values) for key, values in found.items()}


def find(plan: Plan, text: str) -> Trial:
    """The trial with this name, or whose id begins so. Raises `LayerwiseError`."""
    named = [trial for trial in plan.members if trial.name == text]
    begun = [trial for id, trial in plan.trials.items() if id.startswith(text)]
    if found := named or begun:
        if len(found) == 1:
            return found[0]
        raise LayerwiseError(f"{text!r} is the beginning of {len(found)} ids; give more of it")
    some = ", ".join(repr(trial.name) for trial in plan.members[:: max(1, len(plan.members) // 5)])
    raise LayerwiseError(
        f"no trial {text!r} in sweep {plan.sweep.name}; expected an id or a name: {some}"
    )
