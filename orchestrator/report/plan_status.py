"""A plan beside what a store has of it: trials, cost of the open ones, notes on the design."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING, Any

from orchestrator.plan.cost import Device, RateKey, budget, costs
from orchestrator.plan.plan import Plan
from orchestrator.plan.sharing import executed_flops
from orchestrator.plan.trial import Trial
from orchestrator.reference.power import (
    ENOUGH,
    LEVEL,
    POWER,
    Design,
    detectable,
    few_splits,
    one_seed,
    power_summary,
)
from orchestrator.reference.published import published
from orchestrator.report.derived_status import print_derived
from orchestrator.report.search_status import print_studies, studies_summary
from orchestrator.report.status import Status
from orchestrator.report.wording import duration, hours, si
from orchestrator.states import State
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

KEYS = {"drawn": "named"}  # where splits of a division are added

# The labels of a member that its design rests on, and what its number of layers follows from.
_design = operator.attrgetter(
    *("division", "split", "condition", "images_per_class", "training.seed"),
    *("training.treatment.kind", "training.treatment.n"),
    *("training.network.name", "training.network.options", "training.recipe.detector"),
    "training.target.dataset.name",
)


def plan_summary(
    plan: Plan, store: Store, only: Iterable[str] | None = None, device: Device | None = None
) -> dict[str, Any]:
    """Return the trials of a plan per treatment, and the cost of the open ones, as JSON values.

    Beside them: the GPU-hours on a device, the smallest difference of fine-tuned arms that the
    design can detect, and the networks that the sweep's reference has published. `only` are ids of
    trials; their bases are added.
    """
    status = Status.of(plan, store)
    wanted = plan.with_parents(plan.trials if only is None else only)
    treatments: dict[str, dict[str, Any]] = {}
    for id in plan.trials:
        if id not in wanted:
            continue
        trial = plan.trials[id]
        row = treatments.setdefault(
            trial.treatment_name, {"trials": 0, "needs": _needs(trial), "ids": [], "open": []}
        )
        row["trials"] += 1
        row["ids"].append(id)
        if status.states[id] != State.COMPLETE:
            row["open"].append(id)
    open_ids = [id for row in treatments.values() for id in row["open"]]
    measured = rates(plan, store)
    of_treatment = {name: row.pop("ids") for name, row in treatments.items()}
    parts = [open_ids, *(row["open"] for row in treatments.values())]
    total, *by_treatment = costs(plan, parts, measured)
    for row, part in zip(treatments.values(), by_treatment, strict=True):
        row["complete"] = row["trials"] - len(row.pop("open"))
        row |= {"flops": part.flops, "seconds": part.seconds}
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
        "flops": total.flops,
        "executed_flops": executed_flops(plan, open_ids),
        "seconds": total.seconds,
        "keep": plan.sweep.keep,
        "checkpoint_bytes": total.checkpoint_bytes,
        "device": budget(plan, of_treatment, open_ids, device) if device else None,
        "detectable": power_summary(labels) if _like_the_paper(plan) else None,
        "lacking": status.notes(),
        "design": design_notes(plan),
        "published": sum(map(bool, known.values())) if known else None,
        "unpublished": sum(x is False for x in known.values()) if known else None,
        "studies": studies_summary(plan, store),
        "measurements": status.derived.measurements(wanted),
        "features": status.derived.features(wanted),
        "list": [
            {"id": id, "name": trial.name, "parent": trial.parent, "state": status.states[id]}
            | ({"published": known[id]} if known else {})
            for id, trial in plan.trials.items()
            if id in wanted
        ],
    }


def _like_the_paper(plan: Plan) -> bool:
    """Return whether the spread between the paper's networks applies to these."""
    return bool(plan.sweep.reference) and plan.members[0].training.target.dataset.name == "imagenet"


def _needs(trial: Trial) -> str | None:
    if trial.parent is None:
        return None
    if trial.training.source is None:
        return "file of weights"
    if trial.training.upper is not None and trial.source != trial.target:
        return "both bases"
    if trial.source == trial.target:
        return "base of the target"
    return "base of the other half" if trial.target in ("A", "B") else "base of the source"


def print_plan(summary: dict[str, Any], console: Console) -> None:
    """Print `plan_summary`."""
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
            cells.append(hours(device["treatments"].get(name, device["hours"])))
        table.add_row(name, row.get("needs") or "", *cells)
    console.print(table)
    print_studies(summary["studies"], console)
    print_derived(summary, console)
    if summary["executed_flops"] < summary["flops"]:
        part = summary["executed_flops"] / summary["flops"]
        console.print(
            f"of {si(summary['flops'])}FLOP, {si(summary['executed_flops'])}FLOP are executed "
            f"({100 * part:.0f} %): equal frozen layers are computed once",
            soft_wrap=True,
        )
    if summary["seconds"] is None:
        console.print("no rates in the store yet: times appear once some trials are complete")
    console.print(
        f"checkpoints that stay (keep: {summary['keep']}): "
        f"{summary['checkpoint_bytes'] / 1e6:,.1f} MB"
    )
    for note in _plan_notes(summary):
        console.print(note, soft_wrap=True)


def design_notes(plan: Plan) -> list[str]:
    """Return what a sweep with few splits or one seed can tell, before it is trained."""
    designs = {_design(trial): trial for trial in plan.members}
    labels = [trial.labels() for trial in designs.values()]
    notes = [
        f"{weights.name} is a file of weights: there is no BnB, and the controls of its transfers "
        "are random filters and training from scratch"
        for weights in plan.weights.values()
    ]
    numbers = ((x.training.treatment.n, plan.layers(x).depth) for x in designs.values())
    whole = {n for n, depth in numbers if n == depth}
    notes += [
        f"n = {n} copies the whole network, which names the classes of its source: frozen "
        "transfers are at chance unless source and target have the same classes"
        for n in sorted(whole)
    ]
    for (kind, splits), multiple in few_splits(labels).items():
        noun = "draws" if kind == "draws" else "splits"
        note = "one split: differences get no interval"
        if multiple is not None:
            enough = detectable(1.0, Design(splits=ENOUGH, directions=1, seeds=1))
            note = (
                f"{splits} {noun} detect a difference at one n (power {POWER:.0%}, two-sided "
                f"{LEVEL:.0%}) from {multiple:.1f} times the deviation between splits on; "
                f"{ENOUGH} {noun} from {enough:.1f} times on"
            )
        key = "draws of the task" if kind == "draws" else f"splits.{KEYS.get(kind, kind)}"
        notes.append(f"{note}; {key} adds {noun}")
    if divisions := one_seed(labels):
        notes.append(
            f"one seed of {', '.join(divisions)}: differences get no interval; seeds adds seeds"
        )
    return notes


def _plan_notes(summary: dict[str, Any]) -> list[str]:
    """Return notes on published networks, the budget on a device and the design's power."""
    notes = []
    if summary["published"] is not None:
        notes.append(
            f"{summary['published']} trials have a published result, "
            f"{summary['unpublished']} were planned by the authors and have none; "
            f"{summary['trials'] - summary['published'] - summary['unpublished']} are others"
        )
    if device := summary["device"]:
        notes.append(
            f"GPU-hours on {device['name']}: {hours(device['hours'])} in all, evaluation included "
            f"({device['hours'] / 24:,.1f} days of one GPU), {hours(device['hours_open'])} open"
        )
        if device["scaled"]:
            names = ", ".join(device["scaled"])
            notes.append(
                f"not measured, but scaled by FLOPs from {device['network']} there: {names}"
            )
    if power := summary["detectable"]:
        size = "none with one split" if power["points"] is None else f"{power['points']:.2f} points"
        notes.append(
            f"smallest {power['difference']} at one n that the design detects (power "
            f"{power['power']:.0%}, two-sided {power['level']:.0%}): {size}; {power['assumption']} "
            f"(sd {power['sd_points']:.2f} points)"
        )
    return [*summary["lacking"], *notes, *summary["design"]]


def rates(plan: Plan, store: Store) -> dict[RateKey, float]:
    """Return images per second by `rate_key`.

    These are medians over complete trials in the store with the network, dataset and batch of the
    plan. A classifier on features has no batch.
    """
    alike, kind = ("network", "dataset"), ("treatment", "n", "frozen", "classifier", "detector")
    first = plan.members[0].training
    equal = (first.network.name, first.target.dataset.name)
    columns = ["outcome", *alike, "batch", *kind, "images", "seconds_total"]
    measured: dict[RateKey, list[float]] = {}
    for row in store.table("trials", columns).to_pylist():
        is_alike = equal == tuple(row[name] for name in alike)
        is_alike &= row["batch"] in (first.recipe.batch, None)
        if row["outcome"] == State.COMPLETE and is_alike and row["images"] and row["seconds_total"]:
            treatment, n, frozen, *head = (row[name] for name in kind)
            rate = row["images"] / row["seconds_total"]
            measured.setdefault((treatment, n, frozen, *head), []).append(rate)
    return {key: median(values) for key, values in measured.items()}
