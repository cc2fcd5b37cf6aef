"""Runs from Python: in a script, in another thread, with progress, with mistakes."""

from __future__ import annotations

import signal
import sys
import threading
import types
from pathlib import Path
from typing import Any

import pytest

from orchestrator.api.results import Results
from orchestrator.api.run import run
from orchestrator.api.sweeps import Sweep
from orchestrator.errors import LayerwiseError, StoreError
from orchestrator.execution.run import Run
from orchestrator.report import live
from orchestrator.report.progress import RunProgress
from orchestrator.signals import SIGNALS, Lost
from tests.api.conftest import SWEEP
from tests.small import SMALL

Trained = tuple[Results, list[str]]
ONE = "name = 'A s0'"


def test_a_run_returns_the_results_of_its_sweep(trained: Trained) -> None:
    results, lines = trained
    assert results.sweep_name == "small"
    assert set(results.results.arrow()["outcome"].to_pylist()) == {"complete"}
    assert len(results.trials) == 10
    assert lines[0].startswith("0/10")
    assert lines[-1].startswith("10/10")


def test_a_complete_sweep_trains_nothing(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("nothing is open")

    monkeypatch.setattr("orchestrator.execution.inline.run_inline", never)
    again = run(SWEEP, trained[0].store.root, inline=True, progress=False)
    assert len(again.trials) == 10


def test_a_part_in_another_thread_leaves_the_signals_alone(tmp_path: Path) -> None:
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    ended: list[Results] = []

    def work() -> None:
        part = run(Sweep.from_yaml(SMALL), tmp_path, only=ONE, inline=True, progress=False)
        ended.append(part)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert ended[0].trials.arrow()["name"].to_pylist() == ["A s0"]
    assert {n: signal.getsignal(n) for n in handlers} == handlers
    assert not SIGNALS.is_guest


@pytest.mark.parametrize("is_lost", [True, False])
def test_a_run_that_cannot_go_on_raises(
    is_lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(begun: Run) -> None:
        if is_lost:
            raise Lost("the head is gone")
        begun.store_failure = "no space"

    monkeypatch.setattr("orchestrator.execution.inline.run_inline", fail)
    kind = LayerwiseError if is_lost else StoreError
    with pytest.raises(kind, match=r"the head is gone; the same|the store failed: no space"):
        run(Sweep.from_yaml(SMALL), tmp_path, only=ONE, inline=True, progress=False)


def test_a_loss_asks_a_run_of_another_thread_to_end() -> None:
    asked: list[str] = []

    def work() -> None:
        with SIGNALS.draining(lambda: asked.append("end")):
            SIGNALS.give_up("gone")

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert (asked, SIGNALS.lost) == (["end"], "")


def test_a_notebook_shows_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []

    class Handle:
        def update(self, content: dict[str, str], **_: object) -> None:
            shown.append(content["text/plain"])

    def display(content: dict[str, str], **_: object) -> Handle:
        shown.append(content["text/plain"])
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    jupyter: Any = types.ModuleType("IPython")
    jupyter.get_ipython = lambda: shell
    jupyter.display = types.SimpleNamespace(display=display)
    monkeypatch.setitem(sys.modules, "IPython", jupyter)
    progress = live.progress_of(True)
    progress.begin([])
    progress.close()
    assert isinstance(progress, live.LineProgress)
    assert shown == ["0/0 · 0 running · 0 failed"] * 2
    del shell.kernel  # a terminal of IPython
    assert type(live.progress_of(True)) is RunProgress


def test_a_cell_of_marimo_shows_progress_too(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    marimo: Any = types.ModuleType("marimo")
    marimo.running_in_notebook = lambda: True
    marimo.plain_text = str
    marimo.output = types.SimpleNamespace(replace=shown.append)
    monkeypatch.setitem(sys.modules, "marimo", marimo)
    live.progress_of(True).begin([])
    assert shown == ["0/0 · 0 running · 0 failed"]
