"""The command line as a whole: help, mistakes in arguments, and the libraries that it loads."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from orchestrator.report.query import VIEWS

Layerwise = Callable[..., tuple[int, str, str]]

COMMANDS = (
    "init",
    "check",
    "plan",
    "splits",
    "run",
    "search",
    "status",
    "watch",
    "ls",
    "query",
    "reference",
    "report",
    "advise",
    "compare",
    "explain",
    "export",
    "debug",
    "pack",
    "features",
    "pictures",
    "clean",
    "compact",
    "verify",
)


def test_help(layerwise: Layerwise) -> None:
    code, out, err = layerwise("--help")
    assert (code, err) == (0, "")
    listed = re.findall(r"^  (\w+) {2,}\S", out, re.MULTILINE)
    assert listed == list(COMMANDS)
    assert not re.findall(r"^  \w+ {2,}.*\.\.\.$", out, re.MULTILINE), "a first sentence is cut"
    assert "How transferable are the features of each layer of a network?" in out
    assert "Start with: layerwise run digits" in out
    assert layerwise("-h")[1] == out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(command: str, layerwise: Layerwise) -> None:
    code, out, err = layerwise(command, "--help")
    assert (code, err) == (0, "")
    assert re.search(rf"^  Examples?: layerwise {command} ", out, re.MULTILINE)


def test_the_help_of_query_names_every_table(layerwise: Layerwise) -> None:
    out = layerwise("query", "--help")[1]
    tables = "".join(out.partition("tables: ")[2].split()).split(",")
    assert set(tables) == set(VIEWS)


def test_no_command_shows_the_help(layerwise: Layerwise) -> None:
    code, out, err = layerwise()
    assert code == 2
    assert "Start with: layerwise run digits" in out + err


def test_help_loads_no_heavy_library() -> None:
    """Libraries that take long to import are imported by the commands that need them."""
    code = (
        "import sys\n"
        "from orchestrator.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    heavy = {"torch", "torchvision", "ray", "duckdb", "pydantic", "pyarrow", "numpy", "altair"}
    heavy |= {"starlette", "uvicorn"}
    assert "typer" in ended.stderr.split()
    assert not heavy & set(ended.stderr.split())


def test_as_a_module() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "orchestrator", "init", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"COLUMNS": "80"},
    )
    assert ended.stderr == ""
    assert ended.stdout.startswith("Usage: python -m orchestrator init [OPTIONS]")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "No such command 'nothing'."),
        (["plan"], "Missing argument 'SWEEP'."),
        (["plan", "small.yaml", "--fast"], "No such option: --fast"),
        (["run", "small.yaml", "--cpus", "0"], "Invalid value for '--cpus'"),
    ],
)
def test_wrong_arguments(arguments: list[str], said: str, layerwise: Layerwise) -> None:
    code, out, err = layerwise(*arguments)
    assert (code, out) == (2, "")
    assert said in err
