"""The package `layerwise` names what users call, and its import changes nothing in a program."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import layerwise as lw
from orchestrator.sweep.code import SweepKeys
from orchestrator.sweep.schema import Sweep
from tests.processes import ROOT, environment

HEAVY = {"torch", "ray", "pyarrow", "duckdb", "altair", "pydantic", "yaml", "numpy", "scipy"}
WATCHED = """
import json, logging, os, signal, sys
sys.argv = ["script.py", "--own"]
def state():
    handlers = {n: repr(signal.getsignal(n)) for n in signal.valid_signals()}
    names = sorted(logging.root.manager.loggerDict)
    levels = {n: logging.getLogger(n).level for n in names}
    ours = {n: levels[n] for n in levels if n.startswith(("layerwise", "orchestrator", "trainers"))}
    return [sys.argv[:], handlers, logging.root.level, len(logging.root.handlers), dict(os.environ),
            {n: x for n, x in ours.items() if x}]
before = state()
import layerwise
light = sorted(name.partition(".")[0] for name in sys.modules)
for name in layerwise.__all__:
    getattr(layerwise, name)
print(json.dumps([before == state(), light]))
"""


def test_every_name_exists_and_is_documented() -> None:
    assert set(lw.__all__) == set(lw._PLACES)
    for name in lw.__all__:
        assert getattr(lw, name).__doc__, name
    assert set(lw.__all__) < set(dir(lw))
    assert lw.__version__
    with pytest.raises(AttributeError, match="has no attribute 'trane'"):
        lw.trane  # noqa: B018


def test_an_import_is_light_and_changes_nothing() -> None:
    command = [sys.executable, "-c", WATCHED]
    ended = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, env=environment()
    )
    is_unchanged, loaded = json.loads(ended.stdout)
    assert is_unchanged
    assert not HEAVY & set(loaded)


def test_a_sweep_in_code_has_the_keys_of_a_sweep_file() -> None:
    assert SweepKeys.__annotations__.keys() == {*Sweep.model_fields, "forms"}
