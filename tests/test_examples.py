"""The example of real digits: its files are read, and its plan is the documented one."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from orchestrator.plan.plan import make_plan
from orchestrator.plan.resolve import resolve
from orchestrator.sweep.load import load_sweep

EXAMPLE = Path(__file__).parents[1] / "examples/mnist_and_digits/mnist_and_digits.yaml"


def write_idx(path: Path, values: np.ndarray) -> None:
    sizes = np.array(values.shape, ">i4").tobytes()
    content = bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()
    path.write_bytes(gzip.compress(content))


@pytest.mark.usefixtures("folder", "fresh_data")
def test_mnist_and_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDX_FILES", str(tmp_path))
    random = np.random.default_rng(0)
    for name, count in (("train", 1400), ("t10k", 50)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write_idx(tmp_path / f"{name}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{name}-labels-idx1-ubyte.gz", labels)
    plan = make_plan(resolve(*load_sweep(str(EXAMPLE))))
    assert len(plan.trials) == 660
    (mnist,) = (info for info in plan.datasets.values() if info.shape == (1, 28, 28))
    assert (mnist.train, mnist.validation, mnist.test) == ((60,) * 10, (80,) * 10, (5,) * 10)
    divisions = {trial.division for trial in plan.members}
    assert divisions == {"mnist to digits", "digits to mnist", "source mnist", "source digits"}
