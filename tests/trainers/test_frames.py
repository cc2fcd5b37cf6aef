"""The user's line in a traceback."""

from __future__ import annotations

import json
from types import TracebackType

import pytest

from trainers.frames import is_ours, lines_below, raised, traceback_text
from trainers.own_code import resolve


def mistake() -> Exception:
    """The exception that a library raises for this module's call."""
    with pytest.raises(json.JSONDecodeError) as error:
        json.loads("{")
    return error.value


def lines(trace: TracebackType | None) -> list[int]:
    return [] if trace is None else [trace.tb_lineno, *lines(trace.tb_next)]


def test_the_last_line_outside_of_libraries() -> None:
    error = mistake()
    number = mistake.__code__.co_firstlineno + 3
    assert raised(error).startswith("JSONDecodeError: Expecting property name")
    assert raised(error).endswith(f"({__file__}:{number})")
    assert lines_below(error.__traceback__) == len(lines(error.__traceback__)) - 1


def test_the_line_in_a_named_package_even_if_it_is_installed() -> None:
    place = raised(mistake(), ["conv8", "json.decoder:scan"]).rpartition("(")[2]
    assert "json/decoder.py:" in place


def test_without_a_line_of_the_user_the_last_line() -> None:
    with pytest.raises(json.JSONDecodeError) as error:
        json.loads("{")
    error.value.__traceback__ = error.value.__traceback__.tb_next  # type: ignore[union-attr]
    assert lines_below(error.value.__traceback__) is None
    assert "json/decoder.py:" in raised(error.value)
    assert raised(KeyError("never raised")) == "KeyError: 'never raised'"


def test_long_messages_and_tracebacks_are_cut() -> None:
    error = ValueError("x" * 20_000)
    assert len(raised(error)) == len("ValueError: ") + 300
    text = traceback_text(error)
    assert len(text) < 8_100
    assert "12,012 characters" in text


def test_the_package_that_raised() -> None:
    with pytest.raises(Exception, match="expected package") as error:
        resolve("")
    assert is_ours(error.value, "trainers")
    assert not is_ours(error.value, "orchestrator")
    assert not is_ours(mistake(), "trainers")
