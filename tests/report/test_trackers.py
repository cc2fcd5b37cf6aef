"""Trials as runs of TensorBoard and MLflow, also when they are exported again."""

from __future__ import annotations

import struct
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import LayerwiseError
from orchestrator.report.trackers import to_mlflow, to_tensorboard
from orchestrator.stats.statistics import Statistics
from orchestrator.store.schemas import to_table
from tests.synthetic import Label, Synthetic, curve_rows

BASE = Label(split="s0", target="A", treatment="base")


def statistics(attempt: str = "a0a0a0a0") -> Statistics:
    """One complete trial with a curve of two points, and one that failed."""
    sweep = Synthetic()
    more = {"attempt": attempt, "recipe": '{"rate": 0.03, "steps": 500}', "val_best": 0.75}
    id = sweep.add(BASE, 0.5, **more)
    copied = Label(split="s0", target="A", treatment="transfer", n=2, frozen=True)
    sweep.add(copied, None, outcome="failed")
    sweep.curves = curve_rows(id, [(250, 0.25), (500, 0.75)], attempt)
    members, trials = sweep.tables
    tables = {"sweeps": members, "trials": trials, "curves": to_table("curves", sweep.curves)}
    return Statistics(tables.__getitem__)


def scalars(path: Path) -> list[tuple[str, int, float]]:
    """Return name, step and value of every scalar of a file of TensorBoard."""
    from tensorboardX.proto.event_pb2 import Event

    data, at, read = path.read_bytes(), 0, []
    while at < len(data):  # length, its checksum, content, its checksum
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        read += [(x.tag, event.step, round(x.simple_value, 4)) for x in event.summary.value]
        at += length + 16
    return read


def test_tensorboard_shows_curve_and_end_once(tmp_path: Path) -> None:
    for _ in range(2):
        assert to_tensorboard(statistics(), tmp_path) == 1
    (path,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert path.parent == tmp_path / "demo" / "A s0"
    assert scalars(path) == [
        ("val_top1", 250, 0.25),
        ("val_top1", 500, 0.75),
        ("end/top1", 500, 0.5),
        ("end/val_best", 500, 0.75),
    ]
    with pytest.raises(LayerwiseError, match=r"^cannot write .*A s0"):
        to_tensorboard(statistics(), path)


def test_mlflow_has_a_run_per_trial_however_often_it_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    uri = f"file:{tmp_path}"
    assert to_mlflow(statistics(), uri) == (1, 0)
    assert to_mlflow(statistics(), uri) == (0, 1)
    client: Any = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("demo").experiment_id
    client.create_run(experiment, tags={"layerwise.id": "half"})  # as a killed export leaves it
    assert to_mlflow(statistics("b1b1b1b1"), uri) == (1, 0)
    (run,) = client.search_runs([experiment])
    assert run.info.run_name == "A s0"
    assert run.data.tags["layerwise.attempt"] == "b1b1b1b1"
    assert run.data.metrics == {"val_top1": 0.75, "top1": 0.5, "val_best": 0.75}
    points = client.get_metric_history(run.info.run_id, "val_top1")
    assert [(point.step, point.value) for point in points] == [(250, 0.25), (500, 0.75)]
    wanted = {"treatment": "base", "n": "0", "recipe.rate": "0.03", "recipe.steps": "500"}
    assert wanted.items() <= run.data.params.items()


def test_mlflow_is_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(LayerwiseError, match=r"^MLflow is not installed: pip install"):
        to_mlflow(statistics(), "file:nowhere")


def test_a_server_that_refuses_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    with pytest.raises(LayerwiseError, match=r"^MLflow at file:.*maintenance") as error:
        to_mlflow(statistics(), f"file:{tmp_path}")
    assert "\n" not in str(error.value)
