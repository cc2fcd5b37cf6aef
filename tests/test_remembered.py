"""Texts that are made once on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.remembered import recalled, remember, remembered, surroundings
from orchestrator.report.rendering import javascript

TEXT = "first line\nlast line\n\n"


@pytest.fixture
def made() -> list[str]:
    return []


def make(made: list[str]) -> str:
    made.append(TEXT)
    return TEXT


def test_a_text_is_made_once_for_each_question(own_cache: Path, made: list[str]) -> None:
    for question in ("a", "a", "b", "a"):
        assert remembered("texts", question, lambda: make(made)) == TEXT
    assert len(made) == 2
    assert len(list((own_cache / "texts").iterdir())) == 2


def test_a_place_has_the_text_of_its_latest_question(own_cache: Path) -> None:
    remember("texts", "a", TEXT, "here")
    remember("texts", "b", TEXT, "there")
    assert recalled("texts", "a", "here") == TEXT
    assert recalled("texts", "b", "here") is None
    assert recalled("texts", "a") is None
    remember("texts", "b", TEXT * 2, "here")
    assert recalled("texts", "a", "here") is None
    assert recalled("texts", "b", "here") == TEXT * 2
    assert recalled("texts", "b", "there") == TEXT
    assert len(list((own_cache / "texts").iterdir())) == 2


def test_surroundings_are_code_and_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("some_code", "some_library"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    def now() -> str:
        surroundings.cache_clear()
        return surroundings(("some_code",), ("some_library", "no_such_library"))

    seen = [now(), now()]
    assert seen[0] == seen[1]
    (tmp_path / "some_code/deep").mkdir()
    (tmp_path / "some_code/deep/module.py").write_text("VALUE = 1\n")
    seen.append(now())
    (tmp_path / "some_code/deep/module.py").write_text("VALUE = 2\n")
    seen.append(now())
    (tmp_path / "some_library/version.py").write_text("VERSION = 2\n")
    seen.append(now())
    assert len(set(seen)) == len(seen) - 1


def test_every_flipped_bit_is_noticed(own_cache: Path, made: list[str]) -> None:
    remembered("texts", "a", lambda: make(made))
    [path] = (own_cache / "texts").iterdir()
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        assert remembered("texts", "a", lambda: make(made)) == TEXT


def test_a_cache_that_cannot_be_written_is_done_without(own_cache: Path, made: list[str]) -> None:
    own_cache.mkdir(parents=True, exist_ok=True)
    (own_cache / "texts").write_text("in the way")
    for _ in range(2):
        assert remembered("texts", "a", lambda: make(made)) == TEXT
    assert len(made) == 2


@pytest.mark.usefixtures("own_cache")
def test_the_script_of_pages_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    import vl_convert

    first = javascript()
    monkeypatch.delattr(vl_convert, "javascript_bundle")
    assert javascript() == first
    assert "vegaEmbed" in first
