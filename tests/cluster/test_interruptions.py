"""Runs through real Ray that are killed, stopped or drained, or lose store, worker or Ray."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pyarrow.compute as pc
import pytest

from orchestrator.store.store import Store
from tests.cluster.runs import (
    PATIENCE,
    TRIALS,
    alive,
    command,
    run,
    started,
    wait_for,
    wait_for_rows,
    worker_that_begins,
)
from tests.processes import descendants, environment
from tests.results import results
from tests.s3_server import S3Server

pytestmark = pytest.mark.slow

SECRET = "wJalrXUtnFEMI/K7MDENG/canary"


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
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert not [file for file in files if SECRET.encode() in file.read_bytes()]


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
    begun = sorted((tmp_path / "progress").iterdir())  # both are in one pack
    assert asked < max(file.stat().st_mtime for one in begun for file in one.iterdir())
    done = run(tmp_path, *longer)
    assert done.returncode == 0, done.stderr
    rows = Store(tmp_path).table("trials").to_pylist()
    resumed = sorted(row["id"] for row in rows if row["resumes"] == 1)
    assert resumed == [one.name for one in begun]
    assert len(resumed) == 2
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
        wait_for(lambda: [x for x in s3.asked if re.match("PUT .*-complete-", x)], process)
        s3.refuse = lambda _: True
        output, _ = process.communicate(timeout=PATIENCE)
    s3.refuse = lambda _: False
    weights = Store(uri).names("checkpoints")
    healed = len(s3.asked)
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
    # A base is read once by all workers of this machine. Weights that were there before are read
    # once more, to see that they are whole.
    reads = [x for x in s3.asked[healed:] if x.startswith("GET") and "/checkpoints/" in x]
    assert len(set(reads)) == 2
    assert len(reads) <= 2 + len(weights)


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
    assert set(retries) == {0, 1}  # those of one pack


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
