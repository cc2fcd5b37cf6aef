"""Trials that fail in a run through real Ray: in a user's code, for lack of memory, by request."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from orchestrator.states import Ending
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from tests.cluster.runs import PATIENCE, TRIALS, command, run
from tests.processes import environment

pytestmark = pytest.mark.slow

OWN = '''
"""Four kinds of noisy images; where `broken`, class 0 has a pixel that overflows in the network."""
import numpy as np
import torch
from torch import nn

def flowers(*, broken: bool = False):
    def subset(seed, count):
        random = np.random.RandomState(seed)
        labels = np.arange(count) % 4
        images = random.standard_normal((count, 1, 6, 6)).astype("float32")
        images += labels[:, None, None, None]
        if broken:
            images[labels == 0, 0, 0, 0] = 1e4
        return images, labels
    return {"train": subset(0, 80), "validation": subset(1, 40), "test": subset(2, 40),
            "classes": ["rose", "tulip", "daisy", "lily"]}

class Overflow(nn.Flatten):
    def forward(self, x):
        return super().forward(torch.where(x > 6, torch.nan, x))

def build(*, classes, shape, width: int = 8):
    return [
        nn.Sequential(Overflow(), nn.Linear(36, width), nn.ReLU()),
        nn.Sequential(nn.Linear(width, width), nn.ReLU()),
        nn.Linear(width, classes),
    ]
'''


def own_sweep(folder: Path, broken: bool) -> Path:
    package = folder / "garden"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text(OWN)
    sweep = folder / "own.yaml"
    sweep.write_text(
        textwrap.dedent(f"""
        name: own
        dataset: {{name: "garden.data:flowers", broken: {str(broken).lower()}}}
        network: garden.data:build
        splits: {{named: {{pair: {{A: [rose, tulip], B: [daisy, lily]}}}}}}
        treatments: [base, selffer, transfer]
        recipe: {{batch: 10, steps: 20}}
        """)
    )
    return sweep


def test_own_code_travels_and_a_failed_base_skips_its_children(tmp_path: Path) -> None:
    sweep, store = own_sweep(tmp_path, broken=True), tmp_path / "store"
    line = [sys.executable, "-m", "orchestrator", "run", str(sweep), "--store", str(store)]
    done = subprocess.run(
        [*line, "--no-report"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert done.returncode == 1, done.stderr
    rows = {row["name"]: row for row in Store(store).table("trials").to_pylist()}
    outcomes = {name: row["outcome"] for name, row in rows.items()}
    assert outcomes == {
        "A pair": "failed",
        "B pair": "complete",
        "A1A pair": "skipped",
        "A2A pair": "skipped",
        "B1A pair": "failed",
        "B2A pair": "failed",
        "A1B pair": "skipped",
        "A2B pair": "skipped",
        "B1B pair": "complete",
        "B2B pair": "complete",
    }
    base = rows["A pair"]
    assert (base["error_type"], base["error_step"]) == ("LossNotFinite", 0)
    assert base["error_message"] == (
        f"trial {base['id']} (A pair) failed: loss is nan at step 0; "
        f"run it alone with: layerwise debug {sweep} {base['id'][:8]}"
    )
    assert rows["A1B pair"]["error_message"] == (
        f"its parent {base['id']} failed: {base['error_message']}"
    )
    last = done.stdout.splitlines()[-1]
    assert last.startswith("3 failed, 4 skipped of 10 trials")
    assert "Traceback" not in done.stdout + done.stderr


def test_endings_are_classified_by_their_cause() -> None:
    from ray.exceptions import RayActorError

    from orchestrator.cluster.failures import classify
    from orchestrator.cluster.internals import WorkerTooLargeError

    small, full = Resources(gpu=0.5), Resources(gpu=1)
    lost = RayActorError(error_msg="The actor died.\n\tpid: 7\nIts node has died: no heartbeat")
    text = "The actor died. pid: 7 Its node has died: no heartbeat"
    assert classify(lost, full) == (Ending.NODE_LOST, text)
    taken = RayActorError(error_msg="The actor died.", preempted=True)
    assert classify(taken, full) == (Ending.NODE_LOST, "The actor died.")
    died = RayActorError(error_msg="The actor died.")
    assert classify(died, small) == (Ending.WORKER_DIED, "The actor died.")
    large = WorkerTooLargeError(error_msg="1 worker(s) were killed\nbecause")
    assert classify(large, small) == (Ending.OUT_OF_MEMORY, "1 worker(s) were killed")
    assert classify(large, full) == (Ending.WORKER_DIED, "1 worker(s) were killed")
    raised = OSError("Traceback\n\nOSError: disk full")
    assert classify(raised, small) == (Ending.WORKER_DIED, "OSError: disk full")
    assert classify(OSError(), small) == (Ending.WORKER_DIED, "OSError")
    assert classify(None, small) == (Ending.WORKER_DIED, "no reason is known")


def test_a_request_that_no_node_can_meet_is_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--set", "resources={default: {cpu: 1}, base: {cpu: 1, gpu: 64}}")
    assert done.returncode == 2
    assert done.stderr == (
        "layerwise: trial A s0 asks for {'CPU': 1.0, 'GPU': 64.0}, and no node of the cluster can "
        f"give that; the largest has {{'CPU': {float(os.cpu_count() or 1)}, 'GPU': 0}}: "
        "lower `resources` in the sweep, or use a larger cluster\n"
    )
    assert json.dumps(done.stdout.splitlines()[:1]) == json.dumps(
        [f"digits: {TRIALS} trials, 0 complete in {tmp_path}"]
    )


# Memory -----------------------------------------------------------------------------------------

HUNGRY = """
import sys
from pathlib import Path
import numpy as np
import torch
from torch import nn

SEEN = Path(__file__).with_name("seen")

def shades(*, of: int = 5):
    images = np.repeat(np.arange(of, dtype="float32"), 20)[:, None, None, None] * np.ones((1, 2, 2))
    labels = np.repeat(np.arange(of), 20)
    classes = [f"shade {number}" for number in range(of)]
    sets = ("train", "validation", "test")
    return {s: (images + i / 9, labels) for i, s in enumerate(sets)} | {"classes": classes}

def build(*, classes, shape):
    if sys.argv[0].endswith("default_worker.py"):
        if classes == 2 or not SEEN.exists():
            SEEN.touch()
            raise torch.cuda.OutOfMemoryError("Tried to allocate 2.00 GiB")
    return [nn.Sequential(nn.Flatten(), nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, classes)]
"""


def test_out_of_memory_a_trial_is_tried_again_with_more(tmp_path: Path) -> None:
    """A's network fits the second time, B's never does."""
    (tmp_path / "hungry.py").write_text(HUNGRY)
    (tmp_path / "own.yaml").write_text(
        textwrap.dedent("""
        name: own
        dataset: hungry:shades
        network: hungry:build
        splits: {named: {pair: {A: [shade 0, shade 1, shade 2], B: [shade 3, shade 4]}}}
        treatments: [base]
        recipe: {batch: 10, steps: 5}
        resources: {default: {memory_gb: 0.25}}
        """)
    )
    store = tmp_path / "store"
    line = [sys.executable, "-m", "orchestrator", "run", "own.yaml", "--store", str(store)]
    done = subprocess.run(
        [*line, "--no-report", "--cpus", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    fits, never = sorted(Store(store).table("trials").to_pylist(), key=lambda row: row["name"])
    assert (fits["outcome"], fits["retries"], fits["memory_raises"]) == ("complete", 1, 1)
    assert fits["memory_bytes"] == 500_000_000
    assert (never["outcome"], never["error_message"]) == (
        "lost",
        "out of memory with no GPU and 2 GB: Tried to allocate 2.00 GiB",
    )


def test_the_memory_monitor_ends_workers_and_no_run(tmp_path: Path) -> None:
    """Every worker is too much for a threshold of one per cent."""
    line = command(tmp_path, "--only", "treatment = 'base'", "--cpus", "2")
    done = subprocess.run(
        [*line, "--set", "resources.default={cpu: 1, memory_gb: 0.25}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(RAY_memory_usage_threshold="0.01", RAY_memory_monitor_refresh_ms="100"),
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    rows = Store(tmp_path).table("trials").to_pylist()
    assert [row["outcome"] for row in rows] == ["lost", "lost"]
    killed = r"\d worker\(s\) were killed due to the node running low on memory"
    for row in rows:
        assert re.match(rf"out of memory with no GPU and 2 GB: {killed}", row["error_message"])
