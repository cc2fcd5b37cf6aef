"""Sweeps of other kinds through real Ray: searches, files of weights, named tasks, tiny forms."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from tests.cluster.runs import PATIENCE
from tests.processes import environment
from tests.results import results
from tests.searches import SEARCHED
from tests.small import files

pytestmark = pytest.mark.slow


def test_a_search_on_two_workers_is_that_of_one(tmp_path: Path) -> None:
    """Its trials are pruned while Tune runs, and it suggests what it does without Ray."""
    (tmp_path / "searched.yaml").write_text(SEARCHED)
    more = ("fine_tune.search.trials=9", "fine_tune.search.at_once=2", "fine_tune.search.seed=1")
    changes = [part for change in more for part in ("--set", change)]
    module = [sys.executable, "-m", "orchestrator", "search", str(tmp_path / "searched.yaml")]
    tables = []
    for name, how in (("ray", ["--cpus", "2"]), ("inline", ["--inline"])):
        done = subprocess.run(
            [*module, "--store", str(tmp_path / name), *changes, *how],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(),
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        table = Store(tmp_path / name).table("studies", result_columns("studies"))
        tables.append(table.sort_by([("role", "ascending"), ("number", "ascending")]))
    assert tables[0] == tables[1]
    assert "pruned" in tables[0]["state"].to_pylist()


def test_a_file_of_weights_and_named_tasks_through_ray(tmp_path: Path) -> None:
    """The driver copies the file before its trials; both ways of running give the same rows."""
    from safetensors.torch import save_file

    from trainers.config import NetworkRef
    from trainers.networks import build, tensors_of

    ref = NetworkRef(name="conv8", options=(("conv", (4, 4)), ("fc", (8,)), ("pool", (1,))))
    save_file(dict(tensors_of(build(ref, 7, (1, 12, 12)))), tmp_path / "old.safetensors")
    sweep = tmp_path / "named.yaml"
    sweep.write_text(f"""\
name: named
tasks:
  wide: {{dataset: {{name: digits, canvas: 14}}, images: 100}}
  few: {{dataset: digits, images_per_class: 5, draws: [0, 1]}}
weights: {{old: {tmp_path / "old.safetensors"}}}
targets: [few]
form: {{size: 12}}
network: {{conv: [4, 4], pool: [1], fc: [8]}}
treatments: [base, selffer, transfer, transfer+, random]
layers: [1, 3]
recipe: {{rate: 0.03, steps: 8, batch: 16}}
""")
    tables = []
    for how in (["--cpus", "2"], ["--inline"]):
        store = tmp_path / how[0]
        line = [sys.executable, "-m", "orchestrator", "run", str(sweep), "--store", str(store)]
        done = subprocess.run(
            [*line, "--no-report", *how],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        tables.append(results(store))
    assert tables[0] == tables[1]
    divisions = set(Store(store).table("sweeps")["division"].to_pylist())
    assert divisions == {"source wide", "wide to few", "weights old to few"}


def test_measurements_and_features_through_ray_are_those_of_one_process(tmp_path: Path) -> None:
    tables, vectors = [], []
    for how in (["--cpus", "2"], ["--inline"]):
        store = tmp_path / how[0]
        line = [sys.executable, "-m", "orchestrator", "run", "measured:tiny", *how]
        done = subprocess.run(
            [*line, "--no-report", "--store", str(store)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(),
            check=False,
        )
        assert done.returncode == 0, done.stderr
        rows = Store(store).table("measurements").select(result_columns("measurements"))
        tables.append(sorted(rows.to_pylist(), key=str))
        folder = store / "features"
        vectors.append({name: (folder / name).read_bytes() for name in files(folder)})
    assert tables[0] == tables[1]
    assert vectors[0] == vectors[1]
    assert len(vectors[0]) == 2 * 2 * 3  # bases, tasks, sets
    measures = {row["id"]: row["measure"] for row in tables[0]}
    assert Counter(measures.values()) == {
        "weights": 12,
        "interpolation": 12,
        "similarity": 22,
        "predictors": 2,
    }


RAY, INLINE = ("--cpus", "2"), ("--inline",)


@pytest.mark.parametrize(
    ("how", "sweep", "only"),
    [
        (RAY, "paper:tiny", "split = 's0' AND n IN (0, 7)"),
        (INLINE, "balanced:tiny", "split = 's0' AND target = 'A' AND n IN (0, 7)"),
        (INLINE, "natural_manmade:tiny", "target = 'A' AND n IN (0, 7)"),
        (INLINE, "reduced:tiny", "images_per_class <= 4"),
        (INLINE, "cifar100:tiny", "split = 's0' AND target = 'A' AND n IN (0, 7)"),
        (INLINE, "unequal:tiny", "split = 's0-19' AND n IN (0, 7) AND images_per_class = 4"),
        (INLINE, "across:tiny", "split = 'd0' AND target = 'cifar10'"),
        (INLINE, "across_stacked:tiny", "split = 'd0' AND target = 'cifar10'"),
        (RAY, "which_layers:tiny", "split = 'd0'"),
        (
            RAY,
            "extraction_vs_finetuning:tiny",
            "target = 'A' AND n IN (0, 3) AND images_per_class = 10",
        ),
        (INLINE, "stitching:tiny", "split = 's0' AND target = 'A' AND n IN (0, 3)"),
        (RAY, "detection:tiny", "split IN ('all', 'd0')"),
    ],
)
def test_tiny_forms(how: Sequence[str], sweep: str, only: str, tmp_path: Path) -> None:
    """Each kind of work goes through Ray once. Images are files, as the datasets have them."""

    def layerwise(*arguments: str) -> None:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "orchestrator",
                *arguments,
                "--store",
                str(tmp_path / "results"),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(LAYERWISE_DATA=str(tmp_path / "data")),
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    if sweep.startswith("which_layers"):
        layerwise("run", "which_layers:tiny_base", "--inline", "--no-report")
        layerwise(
            "export", "weights", "A whole", "drawn.safetensors", "--sweep", "which_layers-base"
        )
    layerwise("run", sweep, "--no-report", *how, "--only", only)
    store = Store(tmp_path / "results")
    members = store.members(sweep.replace(":", "-")).to_pylist()
    ids = {member["id"] for member in members}
    rows = [row for row in store.table("trials").to_pylist() if row["id"] in ids]
    assert {row["outcome"] for row in rows} == {"complete"}
    kinds = {(row["treatment"], row["frozen"]) for row in rows}
    assert kinds == {(member["treatment"], member["frozen"]) for member in members}
    assert all(row["frozen_proven"] for row in rows if row["frozen"])
