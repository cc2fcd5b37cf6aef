"""Texts that are made once on a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.remembered import remembered
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
