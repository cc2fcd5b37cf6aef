"""A description of a network is made once, and again after anything that it depends on changes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.plan import known_networks
from orchestrator.plan.known_networks import remembered
from orchestrator.plan.plan import Plan
from tests.processes import environment
from tests.small import SMALL
from trainers.config import NETWORK_NAMES, NetworkInfo
from trainers.networks import NETWORKS

ANSWER = (
    (("conv", (2, 3)), ("dropout", 0.5)),
    [NetworkInfo(macs=(1, 2), parameters=(3, 4), shapes=((5, 6), (7,)), state_bytes=8)],
)


def test_the_names_are_those_of_the_networks() -> None:
    assert tuple(NETWORKS) == NETWORK_NAMES


def test_an_answer_is_remembered(own_cache: Path) -> None:
    asked: list[int] = []

    def describe() -> known_networks.Described:
        asked.append(1)
        return ANSWER

    for _ in range(3):
        assert remembered("conv8", [["conv", 2]], describe) == ANSWER
    assert len(asked) == 1
    remembered("conv8", [["conv", 3]], describe)
    remembered("caffenet", [["conv", 3]], describe)
    assert len(asked) == 3
    for path in (own_cache / "networks").iterdir():
        data = bytearray(path.read_bytes())
        data[10] ^= 1
        path.write_bytes(data)
    assert remembered("conv8", [["conv", 2]], describe) == ANSWER
    assert len(asked) == 4


@pytest.mark.usefixtures("own_cache")
def test_other_code_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered("conv8", [], lambda: ANSWER)
    monkeypatch.setattr(known_networks, "_surroundings", lambda: "later")
    assert remembered("conv8", [], lambda: ((), [])) == ((), [])


@pytest.mark.usefixtures("own_cache")
def test_a_failure_is_not_remembered() -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            remembered("conv8", [], lambda: ((), [1 // 0]))  # type: ignore[list-item]


@pytest.mark.usefixtures("own_cache")
def test_plans_are_equal_and_the_second_needs_no_torch(
    plan_of: Callable[..., Plan], tmp_path: Path
) -> None:
    first, second = plan_of(SMALL), plan_of(SMALL)
    assert list(first.trials) == list(second.trials)
    assert first.networks == second.networks
    sweep = tmp_path / "sweep.yaml"
    code = (
        "import sys; from orchestrator.cli import main\n"
        f"try: main(['status', {str(sweep)!r}, '--store', {str(tmp_path / 'store')!r}])\n"
        "except SystemExit: print('torch' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment()
    )
    assert ended.stdout.splitlines()[-1] == "False", ended.stdout + ended.stderr
