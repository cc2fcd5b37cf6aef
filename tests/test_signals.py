"""What each signal does to a process, and with which exit code it ends: as in docs/commands.md."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from orchestrator import signals
from orchestrator.cluster import internals, watch
from orchestrator.signals import CODES, Lost, Signals
from tests.processes import ROOT, environment
from tests.small import SMALL

PATIENCE = 240.0
DOCUMENTED = {
    int(number): text
    for number, text in re.findall(
        r"^\| (\d+) \| (.*) \|$", (ROOT / "docs/commands.md").read_text(), re.MULTILINE
    )
}

# What a process does while the signal comes, before and after which it prints a line.
BUSY = """
import sys, time
from orchestrator.signals import SIGNALS, handled
with handled():
    {work}
"""
SLEEP = "print('ready', flush=True); time.sleep(300); print('never')"
DRAIN = """
    asked = []
    with SIGNALS.draining(lambda: asked.append(1)):
        print('ready', flush=True)
        while not asked: time.sleep(0.01)
        print('asked', flush=True)
        while True: time.sleep(0.01)
"""
HANG = """
    SIGNALS.watch(limit=0.2)
    try:
        print('ready', flush=True); time.sleep(300)
    except BaseException:
        while True: time.sleep(300)
"""
ENDING = """
    try:
        print('ready', flush=True); time.sleep(300)
    finally:
        print('ending', flush=True); time.sleep(0.5); print('ended', flush=True)
"""


def program(work: str) -> subprocess.Popen[str]:
    """Start a program, and wait until it says that it is ready."""
    return begun([sys.executable, "-c", BUSY.format(work=work)])


def begun(line: list[str]) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    )
    assert process.stdout is not None
    assert process.stdout.readline()
    return process


@pytest.mark.parametrize("number", CODES)
def test_each_signal_has_one_documented_exit_code(number: signal.Signals) -> None:
    with program(SLEEP) as process:
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (CODES[number], "", "")
    shown = "Ctrl-C" if number == signal.SIGINT else number.name
    assert shown in DOCUMENTED[CODES[number]]


@pytest.mark.parametrize("number", CODES)
def test_a_process_that_hangs_is_ended_with_the_same_code(number: signal.Signals) -> None:
    with program(HANG) as process:
        process.send_signal(number)
        assert process.wait(timeout=PATIENCE) == CODES[number]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_later_signals_do_not_disturb_the_end(number: signal.Signals) -> None:
    with program(ENDING) as process:
        process.send_signal(number)
        assert process.stdout is not None
        assert process.stdout.readline() == "ending\n"
        for later in (number, signal.SIGHUP, signal.SIGUSR1):
            process.send_signal(later)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (CODES[number], "ended\n", "")


def test_a_request_for_snapshots_can_be_cut_short() -> None:
    with program(DRAIN) as process:
        process.send_signal(signal.SIGUSR1)
        assert process.stdout is not None
        assert process.stdout.readline() == "asked\n"
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_training_in_this_process_stops_and_goes_on(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(SMALL.replace("steps: 3", "steps: 4000"))
    line = [sys.executable, "-m", "orchestrator", "run", str(tmp_path / "small.yaml"), "--inline"]
    line += ["--store", str(tmp_path / "store"), "--only", "treatment = 'base'", "--no-report"]
    snapshots = tmp_path / "store/progress"
    with begun([*line, "--set", "checkpoint_seconds=0.1", "--set", "name=small"]) as process:
        deadline = time.monotonic() + PATIENCE
        while not list(snapshots.glob("*/*.safetensors")):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (CODES[number], "")
    assert output.splitlines()[-1] == (
        "stopped with 0 of 2 trials complete; the same command goes on from here"
    )
    assert list(snapshots.glob("*/*.safetensors"))


def test_ctrl_c_ends_a_long_query_at_once(tmp_path: Path) -> None:
    endless = "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE a.range = -b.range"
    line = f"""
import sys, threading, time
from orchestrator.__main__ import main
from orchestrator.report import query
answer = query._answer
def slow(*arguments):
    print("ready", flush=True)
    return answer(*arguments)
query._answer = slow
sys.argv = ["layerwise", "query", "{endless}", "--store", "{tmp_path}"]
main()
"""
    (tmp_path / "trials").mkdir()
    with begun([sys.executable, "-c", line]) as process:
        time.sleep(0.5)  # DuckDB is at it
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, output, errors) == (130, "", "")


# The watch over a cluster ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "dead", "failure", "reason"),
    [
        (False, None, "", "the head of the Ray cluster does not answer"),
        (True, "raylet", "", "Ray's raylet on this machine has died"),
        (True, None, "no space", "the store failed: no space"),
    ],
)
def test_a_run_ends_once_what_it_needs_is_gone(
    answers: bool, dead: str | None, failure: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    told = threading.Event()

    def give_up(text: str) -> None:
        given.append(text)
        told.set()

    monkeypatch.setattr(watch, "PERIOD", 0.01)
    monkeypatch.setattr(watch.SIGNALS, "give_up", give_up)
    monkeypatch.setattr(internals, "head_answers", lambda: answers)
    monkeypatch.setattr(internals, "dead_process", lambda: dead)
    with watch.watched(lambda: failure, is_ours=True):
        assert told.wait(timeout=PATIENCE)
    assert given == [reason]


def test_a_driver_that_slept_blames_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    head = watch.Head(threading.Event())
    assert not head.is_silent()  # however long ago the last look was
    for _ in range(watch.SILENT - 1):
        assert not head.is_silent()
    head.answers += 1
    assert not head.is_silent()
    monkeypatch.setattr(watch, "SILENT", 0)
    assert head.is_silent()


def test_the_loss_of_what_a_run_needs_interrupts_it() -> None:
    own: Any = Signals()
    with own.draining(lambda: None):
        lost = threading.Thread(target=own.give_up, args=("gone",))
        with pytest.raises(Lost, match="gone"):  # noqa: PT012
            lost.start()
            time.sleep(PATIENCE)
        lost.join()
        own.handle(signal.SIGTERM)  # it is ending
    assert signal.getsignal(signal.SIGINT) != own.handle
    assert signals.FAILED in DOCUMENTED
