"""A sweep on S3 equals the sweep in a folder, through every command; no secret appears anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from orchestrator.store.schemas import SCHEMAS, result_columns
from orchestrator.store.store import Store
from tests.conftest import Ended
from tests.s3_server import SECRET, S3Server
from tests.searches import SEARCHED

Layerwise = Callable[..., Ended]

SWEEP = """\
name: small
dataset: {name: digits, train: 10, renderings: 1, validation: 2, test: 3}
network: {conv: [2, 2], pool: [1, 2], fc: [4]}
splits: {random: [0]}
treatments: [base, selffer, transfer]
layers: [1]
recipe: {rate: 0.03, steps: 6, batch: 8}
"""
TRIALS = 6


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERWISE_CACHE", str(tmp_path / "cache"))
    Path("small.yaml").write_text(SWEEP)
    return "small.yaml"


def results(store: str) -> dict[str, pa.Table]:
    """Return the result columns of the tables, sorted."""
    keys = {"trials": ["id"], "curves": ["id", "step"], "classes": ["id", "subset", "class_index"]}
    return {
        table: Store(store)
        .table(table)
        .select(result_columns(table))
        .sort_by([(key, "ascending") for key in columns])
        for table, columns in keys.items()
    }


def test_a_sweep_on_s3_equals_the_one_in_a_folder(
    sweep: str, s3: S3Server, layerwise: Layerwise
) -> None:
    uri = s3.new_bucket()
    for store in ("here", uri):
        done = layerwise("run", sweep, "--inline", "--no-report", "--store", store)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith(f"{sweep}: {TRIALS} trials, 0 complete in {store}\n")
    assert results(uri) == results("here")
    weights = [asked for asked in s3.asked if asked.startswith("GET") and "/checkpoints/" in asked]
    assert len(weights) == 2  # both bases, once each, for four trials

    again = layerwise("run", sweep, "--inline", "--no-report", "--store", uri)
    assert f"{TRIALS} trials, {TRIALS} complete in s3://" in again.out


def test_a_search_on_s3_equals_the_one_in_a_folder(
    s3: S3Server, layerwise: Layerwise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LAYERWISE_CACHE", str(tmp_path / "cache"))
    Path("searched.yaml").write_text(SEARCHED)
    few = ["--set", "fine_tune.search.trials=3", "--set", "treatments=[base, selffer+, transfer+]"]
    uri = s3.new_bucket()
    for store in ("here", uri):
        done = layerwise("run", "searched.yaml", *few, "--inline", "--no-report", "--store", store)
        assert (done.code, done.err) == (0, "")
    assert results(uri) == results("here")
    here, there = (
        Store(store).table("studies").select(result_columns("studies")).sort_by("number")
        for store in ("here", uri)
    )
    assert there == here
    assert here["number"].to_pylist() == [0, 1, 2]
    followed = layerwise("status", "searched.yaml", *few, "--follow", "--store", uri)
    assert followed.out == "6/6 complete · search 3/3\n"
    again = layerwise("run", "searched.yaml", *few, "--inline", "--no-report", "--store", uri)
    assert "10 trials, 10 complete in s3://" in again.out  # its own schedule is trained too


def test_every_command_reads_s3(
    sweep: str, s3: S3Server, layerwise: Layerwise, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = s3.new_bucket()
    monkeypatch.setenv("LAYERWISE_STORE", uri)
    nothing = layerwise("query", "SELECT 1")
    assert (nothing.code, nothing.err.partition(";")[0]) == (2, f"layerwise: no store at {uri}")
    assert layerwise("run", sweep, "--inline", "--no-report").code == 0

    status = layerwise("status", sweep, "--json")
    assert json.loads(status.out)["complete"] == TRIALS
    count = layerwise("query", "SELECT count(*) AS n FROM trials WHERE top1 > 0", "--csv")
    assert count.out == f"n\n{TRIALS}\n"
    points = layerwise("query", "SELECT count(*) AS n FROM curves JOIN trials USING (id)", "--csv")
    assert points.out == f"n\n{TRIALS * 6}\n"
    report = layerwise("report", "small")
    assert report.out == "reports/small/index.html\n"
    assert Path("reports/small/index.html").stat().st_size > 10_000
    assert json.loads(layerwise("plan", sweep, "--json").out)["complete"] == TRIALS
    debug = layerwise("debug", sweep, "A1B s0")
    assert debug.code == 0
    assert "is not in the store" not in debug.out

    store = Store(uri)
    path = store.path("curves", f"{'0123' * 4}-aaaaaaaa.parquet")
    store.put(path, b"of nobody")
    waste = layerwise("clean", "--yes")
    assert waste.out.splitlines() == [
        "1 file, 0.0 MB: attempt that no row names",
        f"s3://{path}  (attempt that no row names)",
        "1 file, 0.0 MB",
        "removed 1 file",
    ]
    assert layerwise("clean", "--sweep", "small", "--yes").code == 0
    assert store.outcomes() == {}
    assert [store.names(kind) for kind in ("curves", "classes", "sweeps")] == [[], [], []]


def test_no_secret_reaches_tables_logs_or_the_report(
    sweep: str,
    s3: S3Server,
    layerwise: Layerwise,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    uri, token = s3.new_bucket(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    monkeypatch.setenv("RAY_AUTH_TOKEN", token)
    caplog.set_level("DEBUG", "layerwise")
    said = [
        layerwise("run", sweep, "--inline", "--store", uri),
        layerwise("status", sweep, "--store", uri),
        layerwise("query", "SELECT * FROM trials", "--json", "--store", uri),
        layerwise("run", sweep, "--inline", "--store", uri.replace("s3://", f"s3://me:{SECRET}@")),
        layerwise("run", sweep, "--inline", "--store", s3.uri("nobody")),
    ]
    assert [ended.code for ended in said] == [0, 0, 0, 2, 2]
    texts = [ended.out + ended.err for ended in said] + caplog.messages
    texts += [path.read_text(errors="replace") for path in Path("reports").rglob("*.*")]
    store = Store(uri)
    for table in SCHEMAS:
        texts.append(str(store.table(table).to_pylist()))
    for kind in ("checkpoints", "sweeps"):
        for name in store.names(kind):
            for path in [store.path(kind, name, n) for n in store.names(kind, name)] or [
                store.path(kind, name)
            ]:
                texts.append(store.get(path).decode(errors="replace"))
    assert len(texts) > 12
    for secret in (SECRET, s3.credentials["AWS_ACCESS_KEY_ID"], token):
        assert not [text[:200] for text in texts if secret in text]
