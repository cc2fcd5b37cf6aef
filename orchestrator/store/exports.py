"""Results of a store as files for others."""

from __future__ import annotations

import json

from orchestrator.errors import LayerwiseError
from orchestrator.states import State
from orchestrator.store.store import Store
from trainers.checkpoint import CheckpointError

MOST = 5  # trials in a message


def weights_of(store: Store, text: str, sweep: str | None = None) -> tuple[str, bytes]:
    """Return name and final weights, as safetensors, of the trial with this name or start of an id.

    `sweep` is the sweep in which it has this name; by default any. Raises `LayerwiseError` for an
    unknown or ambiguous trial, or one without a checkpoint.
    """
    from trainers.weights import exported

    columns = ["id", "name", "outcome", "checkpoint", "training"]
    rows = store.table("trials", columns).to_pylist()
    labels = store.table("sweeps", ["id", "name", "sweep"]).to_pylist()
    members = [row for row in labels if sweep in (None, row["sweep"])]
    ids = {row["id"] for row in members if row["name"] == text}
    known = members if sweep else [*members, *rows]
    ids = ids or {row["id"] for row in known if row["id"].startswith(text)}
    chosen = [row for row in rows if row["id"] in ids and row["outcome"] == State.COMPLETE]
    if len(chosen) != 1:
        some = ", ".join(sorted(row["id"][:8] for row in chosen)[:MOST])
        problem = f"{len(chosen)} trials are called {text!r}: {some}; give an id or --sweep"
        raise LayerwiseError(problem if chosen else f"no complete trial {text!r} in {store.root}")
    row = chosen[0]
    try:
        data = store.get_checkpoint(row["id"], row["checkpoint"])
    except CheckpointError as error:
        raise LayerwiseError(
            f"{row['name']}: {error}; `keep: all` keeps the weights of every trial"
        ) from error
    network = json.loads(row["training"])["network"]["name"]
    return row["name"], exported(data, {"layerwise_trial": row["id"], "network": network})
