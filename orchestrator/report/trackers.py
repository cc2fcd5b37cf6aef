"""Trials as runs of TensorBoard and MLflow, so that they stand beside runs of other programs.

An export can be repeated: a trial that is there already, from the same attempt, stays as it is.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from orchestrator.errors import LayerwiseError
from orchestrator.states import State
from orchestrator.stats.statistics import Statistics

SCALARS = (  # columns of a curve
    *("train_loss", "val_loss", "val_top1", "val_top5", "val_map50", "rate"),
)
ENDS = (  # columns of a row that are numbers of the whole training
    *("top1", "top5", "loss", "balanced_accuracy", "auroc", "map50", "train_top1", "val_best"),
    *("val_mean10", "seconds_total", "images_per_second", "peak_memory_bytes"),
)
LABELS = (
    *("sweep", "split", "source", "target", "treatment", "n", "frozen", "seed", "condition"),
    *("images_per_class", "dataset", "network", "recipe"),
)
MARK = ".layerwise"  # ends the files of this module
BATCH = 1000  # metrics that a server of MLflow takes at once
LONGEST = 6000  # characters of a parameter there


def to_tensorboard(statistics: Statistics, folder: Path) -> int:
    """Write a run per complete trial below `folder/<sweep>/<name>`. Return their number.

    A run of an earlier export is replaced. Raises `LayerwiseError` for a folder that cannot be
    written.
    """
    from tensorboardX import SummaryWriter

    written = 0
    for row, curve in _trials(statistics):
        place = folder / _safe(row["sweep"]) / _safe(row["name"])
        try:
            for old in place.glob(f"events.out.tfevents.*{MARK}"):
                old.unlink()
            writer = SummaryWriter(str(place), filename_suffix=MARK)
        except OSError as error:
            raise LayerwiseError(f"cannot write {place}: {error.strerror or error}") from error
        with writer:
            for point in curve:
                time = row["started"].timestamp() + (point["seconds"] or 0.0)
                for name in SCALARS:
                    if point[name] is not None:
                        writer.add_scalar(name, point[name], point["step"], time)
            last, end = (curve[-1]["step"] if curve else 0), row["ended"].timestamp()
            for name in ENDS:
                if row[name] is not None:
                    writer.add_scalar(f"end/{name}", row[name], last, end)
        written += 1
    return written


def to_mlflow(statistics: Statistics, uri: str) -> tuple[int, int]:
    """Write an experiment per sweep and a run per complete trial to a server or folder of MLflow.

    Return the number of runs that were written, and of those that were there already. A run is
    known by the id of its trial; one of an older attempt is deleted and written again. Raises
    `LayerwiseError` without MLflow, or for a server that refuses.
    """
    if importlib.util.find_spec("mlflow") is None:
        raise LayerwiseError("MLflow is not installed: pip install mlflow-skinny, or mlflow")
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=uri)
        return _to_mlflow(statistics, client)
    except MlflowException as error:
        raise LayerwiseError(f"MLflow at {uri}: {' '.join(str(error).split())}") from error


def _to_mlflow(statistics: Statistics, client: Any) -> tuple[int, int]:
    known: dict[str, dict[str, Any]] = {}
    experiments: dict[str, str] = {}
    written = present = 0
    for row, curve in _trials(statistics):
        sweep = row["sweep"]
        if sweep not in known:
            experiment = client.get_experiment_by_name(sweep)
            number = experiment.experiment_id if experiment else client.create_experiment(sweep)
            experiments[sweep], known[sweep] = number, _runs(client, number)
        run = known[sweep].get(row["id"])
        if run is not None and run.data.tags.get("layerwise.attempt") == row["attempt"]:
            present += 1
            continue
        if run is not None:
            client.delete_run(run.info.run_id)
        _write_run(client, experiments[sweep], row, curve)
        written += 1
    return written, present


def _runs(client: Any, experiment: str) -> dict[str, Any]:
    """Return the finished runs of an experiment by the id of their trial."""
    runs: dict[str, Any] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=BATCH, page_token=token)
        for run in page:
            if (id := run.data.tags.get("layerwise.id")) is None:
                continue
            if run.info.status == "FINISHED":
                runs[id] = run
            else:  # an export that was interrupted
                client.delete_run(run.info.run_id)
        token = page.token
        if not token:
            return runs


def _write_run(
    client: Any, experiment: str, row: dict[str, Any], curve: list[dict[str, Any]]
) -> None:
    from mlflow.entities import Metric, Param

    started, ended = (int(1000 * row[name].timestamp()) for name in ("started", "ended"))
    tags = {
        "layerwise.id": row["id"],
        "layerwise.attempt": row["attempt"],
        "layerwise.versions": row["versions"] or "",
        "mlflow.source.git.commit": row["git_commit"] or "",
    }
    run = client.create_run(experiment, started, tags, row["name"]).info.run_id
    last = curve[-1]["step"] if curve else 0
    metrics = [
        Metric(name, point[name], started + int(1000 * (point["seconds"] or 0)), point["step"])
        for point in curve
        for name in SCALARS
        if point[name] is not None
    ]
    metrics += [Metric(name, row[name], ended, last) for name in ENDS if row[name] is not None]
    labels = {name: row[name] for name in LABELS if name != "recipe"}
    labels |= {f"recipe.{key}": value for key, value in json.loads(row["recipe"] or "{}").items()}
    params = [
        Param(name, str(value)[:LONGEST]) for name, value in labels.items() if value is not None
    ]
    client.log_batch(run, params=params)
    for first in range(0, len(metrics), BATCH):
        client.log_batch(run, metrics=metrics[first : first + BATCH])
    client.set_terminated(run, "FINISHED", ended)


def _trials(statistics: Statistics) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Yield the rows of complete trials with their learning curves."""
    curves: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for point in statistics.curves.to_pylist():
        curves[point["id"]].append(point)
    for row in statistics.results.to_pylist():
        if row["outcome"] == State.COMPLETE:
            yield row, sorted(curves[row["id"]], key=lambda point: point["step"])


def _safe(name: str) -> str:
    """Return a name without characters that lead to another folder."""
    return re.sub(r"[/\\\0]|^\.+$", "_", name)
