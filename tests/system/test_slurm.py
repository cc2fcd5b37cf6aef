"""`clusters/slurm.sbatch` with stand-ins for srun and scontrol: stopped, queued again, complete."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.processes import ROOT, environment
from tests.system.conftest import BIN, PATIENCE, wait_for

# One node, which is this machine: srun runs its command here, where there is one address.
SRUN = """\
#!/bin/bash
while [[ $1 == --* ]]; do shift; done
if [ "$1" = hostname ]; then echo 127.0.0.1; else exec "$@"; fi
"""
SCONTROL = """\
#!/bin/bash
if [ "$1" = show ]; then echo "${@: -1}"; else echo "$@" >> "$SCONTROL_LOG"; fi
"""


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a job."""
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "home").mkdir()
    (tmp_path / "checkout").mkdir()
    (tmp_path / "checkout/.venv").symlink_to(BIN.parent)
    return environment() | {
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "HOME": str(tmp_path / "home"),
        "SCONTROL_LOG": str(tmp_path / "scontrol.log"),
        "SLURM_SUBMIT_DIR": str(tmp_path / "checkout"),
        "SLURM_JOB_ID": "4217",
        "SLURM_JOB_NODELIST": "node1",
        "SLURM_JOB_NUM_NODES": "1",
    }


def test_a_job_whose_time_is_up_queues_again_and_goes_on(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    store = tmp_path / "store"
    command = ["bash", str(ROOT / "clusters/slurm.sbatch"), "digits", "--store", str(store)]
    command += ["--only", "treatment = 'base'", "--set", "splits.random=[0]", "--no-report"]
    command += ["--set", "recipe.steps=2000", "--set", "checkpoint_seconds=0.2"]
    with subprocess.Popen(
        command, env=slurm, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as job:
        wait_for(lambda: job.poll() is not None or Store(store).names("progress"), "snapshot")
        job.send_signal(signal.SIGUSR1)
        said, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == os.EX_TEMPFAIL, said
    assert "asked to stop: keeping what the trials have done" in said
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4217\n"
    assert list((tmp_path / "home/.layerwise").iterdir()) == []  # the token is gone
    assert Store(store).names("progress")

    done = subprocess.run(
        command, env=slurm, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = Store(store).table("trials").to_pylist()
    assert [row["outcome"] for row in rows] == ["complete", "complete"]
    assert max(row["resumes"] for row in rows) == 1
    assert (tmp_path / "scontrol.log").read_text() == "requeue 4217\n"
