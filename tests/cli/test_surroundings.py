"""Terminals, users and folders that lack what most have."""

from __future__ import annotations

import io
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from rich.text import Text

from orchestrator.cli.surroundings import give_home, settle
from orchestrator.errors import StoreError
from orchestrator.report.console import shown, terminal
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep


@pytest.mark.parametrize(
    ("encoding", "printed"),
    [
        ("utf-8", "−13.0 ±2 · n ≥ 3 é…"),
        ("ascii", "-13.0 +-2 ; n >= 3 \\xe9..."),
        ("latin-1", "-13.0 ±2 · n >= 3 é..."),
    ],
)
def test_an_encoding_without_a_character_shows_another(
    encoding: str, printed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # some streams cannot be changed
    settle()
    print("−13.0 ±2 · n ≥ 3 é…", end="", flush=True)
    assert raw.getvalue().decode(encoding) == printed


def test_a_user_without_a_home_gets_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(_: object) -> NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    give_home()
    assert Path.home() == tmp_path / f"layerwise-home-{os.getuid()}"
    assert Path.home().stat().st_mode & 0o777 == 0o700
    assert os.environ["USER"] == str(os.getuid())
    assert f"caches are kept in {Path.home()}" in capsys.readouterr().err
    give_home()
    assert capsys.readouterr().err == ""


def test_a_file_named_like_a_module_of_python_stays_behind_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sched.py").write_text("raise RuntimeError")
    (folder / "mine.yaml").write_text("name: mine")
    monkeypatch.delitem(sys.modules, "sched", raising=False)
    with pytest.raises(Exception, match="missing"):
        load_sweep("mine.yaml")
    assert str(folder) in sys.path
    import sched

    assert Path(sched.__file__).parent == Path(os.__file__).parent


def test_stores_in_odd_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Store("~/x").root == str(tmp_path / "x")
    odd = os.fsdecode(bytes(tmp_path) + b"/x\xff")
    with pytest.raises(StoreError, match=r"x\\udcff', is not UTF-8: rename"):
        Store(odd)


def test_what_steers_a_terminal_is_shown(
    folder: Path, layerwise: Callable[..., tuple[int, str, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    """In answers of queries, in messages, and in lines of the console, however it is styled."""
    evil = "a\x1b[31mb\r\x9b\u202ec\td"
    visible = r"a\x1b[31mb\x0d\x9b\u202ec" + "\td"
    assert shown(evil) == visible
    terminal().print(Text(evil, style="bold"))
    assert r"a\x1b[31mb\x9b\u202ec" in capsys.readouterr().out
    out = layerwise("query", "SELECT chr(27) || '[31m' AS x, count(*) AS n FROM paper")[1]
    assert r"\x1b[31m" in out
    assert "\x1b" not in out
    (folder / "mine.yaml").write_text("name: mine\n")
    err = layerwise("plan", "mine.yaml", "--set", "re\x1b[31mcipe.x=1")[2]
    assert err
    assert "\x1b" not in err


WITHOUT_PANDAS = """
import sys
from orchestrator.cli.arguments import open_store
open_store(sys.argv[1]).outcomes()
import pyarrow as pa
table = pa.table({"a": [1, None]})
assert "pandas" not in sys.modules
assert list(table.to_pandas()["a"].isna()) == [False, True]
import pandas as pd
assert pa.Table.from_pandas(pd.DataFrame({"a": [1, None]})).num_rows == 2
"""


def test_a_command_does_not_import_pandas(tmp_path: Path) -> None:
    words = [sys.executable, "-c", WITHOUT_PANDAS, str(tmp_path)]
    assert subprocess.run(words, check=False, capture_output=True, text=True).stderr == ""
