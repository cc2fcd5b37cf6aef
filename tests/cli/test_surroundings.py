"""Terminals, users and folders that lack what most have."""

from __future__ import annotations

import io
import os
import pwd
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

from orchestrator.cli.surroundings import give_home, settle
from orchestrator.errors import StoreError
from orchestrator.store.store import Store
from orchestrator.sweep.load import load_sweep


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "−13.0 ±2 · n ≥ 3 é…"),
        ("ascii", "-13.0 +-2 ; n >= 3 \\xe9..."),
        ("latin-1", "-13.0 ±2 · n >= 3 é..."),
    ],
)
def test_an_encoding_without_a_character_shows_another(
    encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    monkeypatch.setattr(sys, "stderr", io.StringIO())  # some streams cannot be changed
    settle()
    print("−13.0 ±2 · n ≥ 3 é…", end="", flush=True)
    assert raw.getvalue().decode(encoding) == shown


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
