"""End to end through real Ray, as a user runs it: whole, killed, stopped, failed, on a cluster."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pyarrow.compute as pc
import pytest

from orchestrator.cluster.connection import ALONE
from orchestrator.states import Ending
from orchestrator.store.schemas import result_columns
from orchestrator.store.store import Store
from orchestrator.sweep.schema import Resources
from tests.processes import descendants, environment, listening
from tests.results import results
from tests.s3_server import S3Server
from tests.searches import SEARCHED

pytestmark = pytest.mark.slow

SMALL = ("splits.random=[0]", "layers=[1, 7]", "recipe.steps=100", "recipe.evaluate_every=50")
TRIALS = 2 * (2 + 5 * 2)
ONE_SPLIT = "one split: differences get no interval; splits.random adds splits"
PATIENCE = 240.0
SECRET = "wJalrXUtnFEMI/K7MDENG/canary"
T = TypeVar("T")


def command(store: Path, *more: str, sweep: str = "digits") -> list[str]:
    named = (f"name={Path(sweep).stem}", *SMALL)  # else the changes would be part of the name
    changes = [part for change in named for part in ("--set", change)]
    module = [sys.executable, "-m", "orchestrator", "run", sweep]
    return [*module, "--store", str(store), "--no-report", *changes, *more]


def run(store: Path, *more: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(store, *more),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env=environment(**variables),
        check=False,
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the small sweep, trained one after the other in a process without Ray."""
    store = tmp_path_factory.mktemp("undisturbed")
    done = run(store, "--inline")
    assert done.returncode == 0, done.stderr
    return store


def started(store: Path, *more: str, **variables: str) -> subprocess.Popen[str]:
    """Start a run, to be disturbed."""
    return subprocess.Popen(
        command(store, *more),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(**variables),
    )


def wait_for_rows(store: Path, count: int, process: subprocess.Popen[str]) -> None:
    wait_for(lambda: len(list(store.glob("trials/complete/*.parquet"))) >= count, process)


def wait_for(happened: Callable[[], T], process: subprocess.Popen[str]) -> T:
    deadline = time.monotonic() + PATIENCE
    while not (result := happened()):
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < deadline, "no progress"
        time.sleep(0.01)
    return result


def training(process: subprocess.Popen[str]) -> set[int]:
    """Return the ids of the workers that are in a trial, by the titles that Ray gives them."""
    return {pid for pid, line in descendants(process.pid).items() if "Trainable.train" in line}


def worker_that_begins(process: subprocess.Popen[str]) -> int:
    """Wait until a worker begins a trial, so that most of the trial is left. Return its id."""
    seen = [training(process)]

    def begun() -> set[int]:
        seen.append(training(process))
        return seen[-1] - seen[-2]

    return wait_for(begun, process).pop()


def test_complete_run_is_quiet_and_equals_training_without_ray(
    undisturbed: Path, tmp_path: Path
) -> None:
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == f"digits: {TRIALS} trials, 0 complete in {tmp_path}"
    assert lines[1] == ONE_SPLIT
    progress = [line for line in lines[2:] if re.match(r"\d+/\d+ done · ", line)]
    assert lines[2 + len(progress)] == "Test top-1, difference to the own base in points"
    assert lines[-1] == "one split: no interval"
    assert results(tmp_path) == results(undisturbed)

    again = run(tmp_path)
    assert again.returncode == 0
    assert again.stdout.splitlines()[0] == (
        f"digits: {TRIALS} trials, {TRIALS} complete in {tmp_path}"
    )
    rows = Store(tmp_path).table("trials").to_pylist()
    assert all(row["frozen_proven"] for row in rows if row["frozen"])
    assert {row["exact"] for row in rows} == {True}
    assert not list(tmp_path.rglob(".*.tmp"))
    assert not (tmp_path / "progress").exists() or not list((tmp_path / "progress").iterdir())


def alive(processes: set[int]) -> set[int]:
    """Return those of these processes that have not ended; a zombie has."""
    states = {}
    for pid in processes:
        with contextlib.suppress(OSError):
            states[pid] = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return {pid for pid, state in states.items() if state not in "ZX"}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for the temporary files of a run. Its path is short, for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize(("stop", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_a_stopped_run_goes_on_and_ends_the_same(
    undisturbed: Path, tmp_path: Path, place: Path, stop: signal.Signals, code: int
) -> None:
    """Nothing of it stays on the machine, and no file and no line of it knows a secret."""
    own = {"RAY_TMPDIR": str(place), "AWS_SECRET_ACCESS_KEY": SECRET}
    with started(tmp_path, "--set", "checkpoint_seconds=0.02", **own) as process:
        wait_for_rows(tmp_path, 3, process)
        below = set(descendants(process.pid))
        process.send_signal(stop)
        for _ in range(4 if code == 130 else 0):  # by whom the first one seems too slow
            time.sleep(0.05)
            process.send_signal(stop)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    if code == 130:
        assert errors == ""
        last = output.splitlines()[-1]
        assert re.fullmatch(
            rf"stopped with \d+ of {TRIALS} trials complete; "
            "the same command goes on from here",
            last,
        )
        assert not alive(below)
    else:
        left = [file for file in place.rglob("*") if file.is_file()]
        assert len(left) > 20
        assert not [file for file in left if SECRET.encode() in file.read_bytes()]
    again = run(tmp_path, **own)
    assert again.returncode == 0
    assert not alive(below)
    assert results(tmp_path) == results(undisturbed)
    assert not list(place.iterdir())
    assert SECRET not in output + errors + again.stdout + again.stderr
    kept = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in kept if SECRET.encode() in file.read_bytes()]


def test_a_drained_run_keeps_what_trials_have_done_and_goes_on(tmp_path: Path) -> None:
    """SIGUSR1, as batch systems send it, asks for snapshots at once, not when they are due.

    What waits for a worker does not begin. SIGHUP does the same: see `test_signals.py`.
    """
    longer = ["--only", "treatment = 'base'", "--set", "recipe.steps=2500"]
    longer += ["--set", "checkpoint_seconds=1"]
    with started(tmp_path, *longer, "--cpus", "1") as process:
        wait_for(lambda: list(tmp_path.glob("progress/*/*.safetensors")), process)
        asked = time.time()
        process.send_signal(signal.SIGUSR1)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (os.EX_TEMPFAIL, "")
    assert output.splitlines()[-1] == (
        "stopped with 0 of 2 trials complete; the same command goes on from here"
    )
    assert "to be tried again" not in output
    [begun] = (tmp_path / "progress").iterdir()
    assert asked < max(file.stat().st_mtime for file in begun.iterdir())
    done = run(tmp_path, *longer)
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path).table("trials").to_pylist()
    assert [row["id"] for row in rows if row["resumes"] == 1] == [begun.name]
    assert [row["exact"] for row in rows] == [True, True]


def test_a_sweep_on_s3_whose_server_fails_for_a_while(
    undisturbed: Path, s3: S3Server, tmp_path: Path
) -> None:
    """The run ends within a minute with one line, and goes on later from what it has."""
    uri = s3.new_bucket()
    line = command(Path("x"), "--set", "layers=[7]")
    line[line.index("--store") + 1] = uri
    more = environment(LAYERWISE_CACHE=str(tmp_path))
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=more
    ) as process:
        wait_for(lambda: [x for x in s3.asked if re.match("PUT .*/complete/", x)], process)
        s3.refuse = lambda _: True
        output, _ = process.communicate(timeout=PATIENCE)
    s3.refuse, healed = lambda _: False, len(s3.asked)
    assert process.returncode == 1
    assert re.fullmatch(
        r"the store failed: cannot .*; stopped with \d+ of 14 trials complete; "
        r"the same command goes on from here",
        output.splitlines()[-1],
    )
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=PATIENCE, env=more, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    stored, expected = results(uri), results(undisturbed)
    assert stored["trials"].num_rows == 2 * (2 + 5)
    ids = stored["trials"]["id"]
    for table in expected:
        assert stored[table] == expected[table].filter(pc.is_in(expected[table]["id"], ids))
    # A base is read once by all workers of this machine. The weights whose row could not be written
    # are there when they are trained again, and are read to see that they are whole.
    reads = [x for x in s3.asked[healed:] if x.startswith("GET") and "/checkpoints/" in x]
    assert len(set(reads)) == 2
    assert len(reads) <= 3


def test_a_killed_worker_is_replaced_and_its_trial_tried_again(
    undisturbed: Path, tmp_path: Path
) -> None:
    with started(tmp_path) as process:
        wait_for_rows(tmp_path, 1, process)
        os.kill(worker_that_begins(process), signal.SIGKILL)
        output, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output + errors
    assert errors == ""
    assert "worker died, to be tried again: The actor died unexpectedly" in output
    assert results(tmp_path) == results(undisturbed)
    retries = [row["retries"] for row in Store(tmp_path).table("trials").to_pylist()]
    assert sorted(retries)[-2:] == [0, 1]


@pytest.mark.parametrize("name", ["raylet/raylet ", "gcs/gcs_server ", "ray::RuntimeEnvAgent"])
def test_a_run_whose_own_ray_dies_ends_with_one_line(
    name: str, tmp_path: Path, place: Path
) -> None:
    longer = ["--set", "recipe.steps=2500", "--set", "checkpoint_seconds=1"]
    with started(tmp_path, *longer, RAY_TMPDIR=str(place)) as process:
        wait_for(lambda: list(tmp_path.glob("progress/*/*.safetensors")), process)
        below = descendants(process.pid)
        os.kill(next(pid for pid, line in below.items() if name in line), signal.SIGKILL)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (1, "")
    assert re.fullmatch(
        r"Ray's (raylet|gcs_server) on this machine has died; "
        rf"stopped with 0 of {TRIALS} trials complete; the same command goes on from here",
        output.splitlines()[-1],
    )
    assert not alive(set(below))
    assert not list(place.iterdir())
    assert list(tmp_path.glob("progress/*/*.safetensors"))


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


CLUSTER = """
import os, sys
from orchestrator.cluster import Cluster, connect
with connect(Cluster(cpus=2)):
    import ray
    print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], flush=True)
    sys.stdin.read()
"""

CLIENT = """
import logging, sys, ray
ray.init(address=sys.argv[1], logging_level=logging.ERROR)
print("joined")
"""


def test_a_local_cluster_refuses_clients_without_its_token_and_serves_those_with_it(
    undisturbed: Path, tmp_path: Path
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    ) as cluster:
        assert cluster.stdout is not None
        address, token = cluster.stdout.readline().split()
        assert address.startswith("127.0.0.1:")
        assert {str(one) for one in listening(cluster.pid)} == {"127.0.0.1"}
        strangers = [
            subprocess.Popen(
                [sys.executable, "-c", CLIENT, address],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment(**ALONE, **credentials),
            )
            for credentials in (
                {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64},
                {"RAY_AUTH_MODE": "disabled"},
            )
        ]
        served = subprocess.run(
            command(tmp_path, "--address", address, "--only", "n = 0"),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            env=environment(**ALONE, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token),
            check=False,
        )
        assert served.returncode == 0, served.stderr
        for stranger in strangers:
            said, _ = stranger.communicate(timeout=PATIENCE)
            assert stranger.returncode != 0
            assert "InvalidAuthToken" in said
            assert "joined" not in said
        cluster.communicate(timeout=PATIENCE)
    bases = Store(tmp_path).table("trials").to_pylist()
    assert sorted(row["name"] for row in bases) == ["A s0", "A-long s0", "B s0", "B-long s0"]
    expected = {
        row["id"]: row["checkpoint"] for row in Store(undisturbed).table("trials").to_pylist()
    }
    assert all(expected[row["id"]] == row["checkpoint"] for row in bases)


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


# Named tasks and files of weights ----------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("sweep", "only"),
    [
        ("across:tiny", "split = 'd0' AND target = 'cifar10'"),
        ("unequal:tiny", "split = 's0-19' AND n IN (0, 7) AND images_per_class = 4"),
        ("which_layers:tiny", "split = 'd0'"),
    ],
)
def test_tiny_forms_of_other_tasks_through_ray(sweep: str, only: str, tmp_path: Path) -> None:
    """Images are files on the disk, as the datasets have them. The weights are those of a base."""

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
    layerwise("run", sweep, "--no-report", "--cpus", "2", "--only", only)
    store = Store(tmp_path / "results")
    members = store.members(sweep.replace(":", "-"))["id"].to_pylist()
    rows = [row for row in store.table("trials").to_pylist() if row["id"] in members]
    assert {row["outcome"] for row in rows} == {"complete"}
    kinds = {(row["treatment"], row["frozen"]) for row in rows}
    assert {("transfer", True), ("transfer", False), ("random", True)} <= kinds
    assert all(row["frozen_proven"] for row in rows if row["frozen"])
