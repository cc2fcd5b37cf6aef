"""One trial explained: why it was trained or reused, what it waits for, what it cost."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from orchestrator.plan.plan import Plan
from orchestrator.plan.trial import Trial
from orchestrator.report.wording import duration, si
from orchestrator.states import State
from orchestrator.store.store import Store

if TYPE_CHECKING:
    from rich.console import Console

COSTS = (
    *("seconds_total", "seconds_data", "seconds_wait", "seconds_train", "seconds_evaluate"),
    *("images", "images_per_second", "peak_memory_bytes", "retries", "resumes", "cpu", "gpu"),
)
ABSENT = "not given"  # a field at its default is no part of an id


def explanation(plan: Plan, trial: Trial, store: Store) -> dict[str, Any]:
    """Return why a trial of a plan is in the store or not, as JSON values."""
    from trainers.canonical import to_json

    row, lacking = store.row(trial.id), store.check([trial.id]).lacking
    mine = flat(to_json(trial.training))
    return {
        "id": trial.id,
        "name": trial.name,
        "sweep": plan.sweep.name,
        "state": State.MISSING if row is None or trial.id in lacking else row["outcome"],
        "reason": _reason(plan.sweep.name, row, lacking.get(trial.id)),
        "fields": mine,
        "nearest": _nearest(trial.id, mine, store),
        "waits_for": [_parent(plan, id, store) for id in _needs(trial)],
        "flops": plan.flops(trial),
        "cost": {name: row[name] for name in COSTS} if row else None,
        "machine": {name: row[name] for name in ("host", "device", "started")} if row else None,
    }


def flat(value: Any, above: str = "") -> dict[str, Any]:
    """Return nested mappings as one, by dotted key; lists stay whole."""
    if not isinstance(value, Mapping):
        return {above: value}
    pairs: dict[str, Any] = {}
    for key, item in value.items():
        pairs |= flat(item, f"{above}.{key}" if above else key)
    return pairs


def _reason(sweep: str, row: Mapping[str, Any] | None, lacking: str | None) -> str:
    if row is None:
        return "the store has no row of this id, so `layerwise run` trains it"
    if lacking:
        return f"it is complete, but {lacking} is gone, so `layerwise run` trains it again"
    if row["outcome"] != State.COMPLETE:
        message = row["error_message"] or "no reason is recorded"
        return f"it {_ended(row['outcome'])}: {message}"
    when = f"{row['started']:%Y-%m-%d %H:%M} UTC on {row['host']}" if row["started"] else ""
    if row["first_sweep"] == sweep:
        return f"this sweep trained it: {when}".rstrip(": ")
    return f"reused: sweep {row['first_sweep']} trained the same network, {when}".rstrip(", ")


def _ended(outcome: str) -> str:
    return {"failed": "failed", "lost": "was lost", "skipped": "was skipped"}.get(outcome, outcome)


def _nearest(id: str, mine: Mapping[str, Any], store: Store) -> dict[str, Any] | None:
    """Return the trial of the store whose id hashes the most equal fields, and what differs."""
    best: tuple[int, str, dict[str, Any]] | None = None
    columns = ["id", "name", "first_sweep", "outcome", "training"]
    for row in store.table("trials", columns).to_pylist():
        if row["id"] == id or not row["training"]:
            continue
        other = flat(json.loads(row["training"]))
        differing = {
            key: [mine.get(key, ABSENT), other.get(key, ABSENT)]
            for key in dict.fromkeys([*mine, *other])
            if mine.get(key, ABSENT) != other.get(key, ABSENT)
        }
        known = {key: row[key] for key in ("id", "name", "first_sweep", "outcome")}
        candidate = (len(differing), row["id"], known | {"differs": differing})
        if best is None or candidate[:2] < best[:2]:
            best = candidate
    return None if best is None else best[2]


def _needs(trial: Trial) -> Iterable[str]:
    return (*trial.parents, *filter(None, [trial.training.schedule_from]))


def _parent(plan: Plan, id: str, store: Store) -> dict[str, Any]:
    if id in plan.weights:
        return {"id": id, "name": plan.weights[id].name, "state": "file of weights"}
    if id not in plan.trials:
        return {"id": id, "name": "search of the schedule", "state": "study"}
    row = store.row(id)
    return {
        "id": id,
        "name": plan.trials[id].name,
        "state": State.MISSING.value if row is None else row["outcome"],
    }


def print_explanation(result: Mapping[str, Any], console: Console) -> None:
    """Print `explanation`."""
    from rich.table import Table

    console.print(f"{result['name']} of {result['sweep']}, id {result['id']}: {result['state']}")
    console.print(result["reason"], soft_wrap=True)
    nearest = result["nearest"]
    if nearest is None:
        console.print("the store has no other trial")
    else:
        equal = len(result["fields"]) - sum(x[0] != ABSENT for x in nearest["differs"].values())
        console.print(
            f"nearest in the store: {nearest['name']} of {nearest['first_sweep']}, id "
            f"{nearest['id']}; {equal} fields of the id are equal, and these differ:",
            soft_wrap=True,
        )
        table = Table("field", "here", "there")
        for key, (here, there) in nearest["differs"].items():
            table.add_row(key, _shown(here), _shown(there))
        console.print(table)
    for parent in result["waits_for"]:
        state = parent["state"]
        verb = "copies from" if state in (State.COMPLETE, "file of weights") else "waits for"
        console.print(f"{verb} {parent['name']}, id {parent['id']}: {state}", soft_wrap=True)
    if not result["waits_for"]:
        console.print("it waits for nothing: no layer is copied")
    cost = result["cost"]
    if cost is None or cost["seconds_total"] is None:
        console.print(f"it would take {si(result['flops'])}FLOP of training")
        return
    parts = [f"{duration(cost['seconds_total'])} in all"]
    parts += [f"{cost['images_per_second']:,.0f} images per second"] * bool(
        cost["images_per_second"]
    )
    if cost["peak_memory_bytes"]:
        parts.append(f"{cost['peak_memory_bytes'] / 1e6:,.0f} MB at most")
    parts.append(f"{si(result['flops'])}FLOP of training, {cost['retries'] or 0} retries")
    console.print(f"cost: {', '.join(parts)}; {result['machine']['device']}", soft_wrap=True)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
