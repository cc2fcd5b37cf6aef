"""The reason why no GPU can be used, in one line."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from trainers import devices

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build"
OLD = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Wed Feb  8 05:20:00 UTC 2023"


@pytest.mark.parametrize(
    ("cuda", "driver", "reason"),
    [
        (None, None, "is for CPUs"),
        ("13.0", None, "no NVIDIA driver is loaded"),
        ("13.0", OLD.format("525.85.12"), "driver 525 is too old for PyTorch's CUDA 13.0, which"),
        ("13.0", OPEN.format("570.133.20"), "needs 580 or newer"),
        ("13.0", OPEN.format("580.65.06"), "PyTorch finds no GPU behind its NVIDIA driver"),
        ("12.8", OLD.format("525.85.12"), "PyTorch finds no GPU behind its NVIDIA driver"),
    ],
)
def test_reasons(
    cuda: str | None,
    driver: str | None,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")
    if driver is not None:
        devices.DRIVER.write_text(driver)
    assert reason in (devices.gpu_obstacle() or "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert devices.gpu_obstacle() is None


def test_the_command_says_why_no_gpu_can_be_used() -> None:
    """`python -m trainers.devices`."""
    command = [sys.executable, "-m", "trainers.devices"]
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=hidden)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"layerwise: no GPU can be used on {platform.node()}: ")
    assert ended.stderr.count("\n") == 1
