"""The benchmark of lanes on a device: its parts, a tiny run on the CPU, and graphs on a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import lanes_device
from benchmarks.caffenet_engines import GRAPH_WARM_UP
from benchmarks.lanes_device import SETTINGS, Row, Together, flops, noise, table, tiny

CPU = torch.device("cpu")
PER_STEP = 3 * 2 * 32  # passes, operations of a multiply-add, and images


@pytest.mark.parametrize("name", SETTINGS)
def test_replays_see_the_images_and_the_rate_of_their_step(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for a graph calls what was captured again, with the tensors of the capture."""
    monkeypatch.setattr(lanes_device, "recorded", lambda call: call)
    setting = tiny(SETTINGS[name])
    data = noise(setting, CPU)
    captured, other = (Together(setting, 2, data, captured=x) for x in (True, False))
    for step in range(GRAPH_WARM_UP + 4):
        captured(step)
        other(step)
    assert captured.replay is not None
    for mine, its in zip(captured.weights(), other.weights(), strict=True):
        assert torch.allclose(mine, its, rtol=1e-6, atol=1e-9)
    assert any(x.requires_grad for x in other.weights())


def test_a_step_of_frozen_layers_needs_less() -> None:
    digits = SETTINGS["digits"]
    macs = 12 * 12 * 9 * 8 + 36 * 9 * 8 * 16 + 36 * 9 * 16 * 16 + 2 * 9 * 9 * 16 * 16
    macs += 144 * 32 + 32 * 32 + 32 * 10
    of_input = 12 * 12 * 9 * 8  # the images need no gradient
    assert flops(digits, 1) == PER_STEP * macs - 2 * 32 * of_input
    caffenet = SETTINGS["caffenet"]
    assert flops(caffenet, 7) < flops(lanes_device.replace(caffenet, frozen=()), 7)


def test_the_table_is_relative_to_one_process_and_the_peak() -> None:
    digits = SETTINGS["digits"]
    rows = [
        Row(setting="digits", way="alone", lanes=1, rate=1000.0),
        Row(setting="digits", way="graph", lanes=16, rate=20_000.0, is_equal=True),
        Row(setting="digits", way="graph", lanes=1, error="needs a CUDA GPU"),
    ]
    _, _, *lines = table(rows, [digits], {"float32": flops(digits, 1) * 40_000}).splitlines()
    assert lines == [
        "| digits | alone | 1 | 1,000 | 1.00 | 2.5 % |  |",
        "| digits | graph | 16 | 20,000 | 20.00 | 50.0 % | yes |",
        "| digits | graph | 1 | needs a CUDA GPU |  |  |  |",
    ]


def test_a_tiny_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    line = ["--quick", "--networks", "digits", "--lanes", "2", "--processes", "1"]
    lanes_device.main([*line, "--seconds", "0.01", "--device", "cpu", "--json", str(file)])
    rows = json.loads(file.read_text())
    assert [(row["way"], row["lanes"]) for row in rows] == [
        *(("alone", 1), ("lanes", 2), ("graph", 2), ("processes", 1))
    ]
    assert [row["error"] for row in rows] == ["", "", "needs a CUDA GPU", ""]
    assert "| digits | lanes | 2 |" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", SETTINGS)
def test_a_captured_step_gives_the_same_bits(name: str) -> None:
    setting = tiny(SETTINGS[name])
    assert lanes_device.equals_uncaptured(setting, 2, noise(setting, torch.device("cuda")))
